"""Which instance a call goes to, and which are out of service: the rules one by one, without a clock."""

import random
from collections import Counter
from typing import Any

import pytest

from gateway.fleet.listing import Instance, Listing
from gateway.fleet.seats import Balance, Budget, Ended, Seat, Seats, subset


def listing(count: int, **each: Any) -> Listing:
    return tuple(Instance(address=f"10.0.0.{number}:9000", **each) for number in range(count))


def seats_of(count: int, balance: Balance = "ewma", slow_start: float = 0.0, **each: Any) -> Seats:
    seats = Seats(balance, slow_start, random.Random(7))
    seats.update(listing(count, **each), 0.0, 0.0)
    return seats


def run(seats: Seats, seat: Seat, ended: Ended, begin: float, end: float) -> str | None:
    call = object()
    seats.begin(seat, call, begin)
    return seats.end(seat, call, ended, end)


def shares(seats: Seats, calls: int, now: float = 0.0, key: Any = lambda number: b"%d" % number) -> Counter[str]:
    """Pick for calls that end at once."""
    picked = (seats.pick(now, key=key(number)) for number in range(calls))
    return Counter(seat.instance.address for seat in picked if seat is not None)


def test_none_and_one() -> None:
    assert Seats().pick(0.0) is None
    seats = seats_of(1)
    assert seats.pick(0.0) is seats.all[0]
    assert seats.pick(0.0, [seats.all[0]]) is None


@pytest.mark.parametrize("balance", ["ewma", "round-robin", "random", "least", "hash"])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_all_have_calls_and_none_that_was_tried(balance: Balance, count: int) -> None:
    seats = seats_of(count, balance)
    assert len(shares(seats, 40 * count)) == count
    tried = seats.all[1:]
    assert {seats.pick(0.0, tried, b"%d" % number) for number in range(20)} == {seats.all[0]}
    assert seats.pick(0.0, seats.all, b"") is None


@pytest.mark.parametrize("balance", ["ewma", "round-robin", "random", "least"])
def test_weights_are_shares_and_zero_takes_none(balance: Balance) -> None:
    seats = Seats(balance, source=random.Random(7))
    weights = {"a:1": 100, "b:1": 300, "c:1": 0}
    seats.update(tuple(Instance(address=address, weight=weight) for address, weight in weights.items()), 0.0, 0.0)
    found = shares(seats, 4000)
    assert found["c:1"] == 0
    if balance != "least":  # whose calls here are none, so that it chooses by weight alone
        assert 2.5 < found["b:1"] / found["a:1"] < 3.6


def test_of_several_priorities_the_smallest_that_is_in_service_counts() -> None:
    seats = Seats(source=random.Random(7))
    levels = {"a:1": 5, "b:1": 5, "c:1": 9}
    seats.update(tuple(Instance(address=address, priority=level) for address, level in levels.items()), 0.0, 0.0)
    assert set(shares(seats, 100)) == {"a:1", "b:1"}
    for seat in seats.all[:2]:
        run(seats, seat, "refused", 0.0, 0.0)
    assert set(shares(seats, 100)) == {"c:1"}
    run(seats, seats.all[2], "refused", 0.0, 0.0)
    assert set(shares(seats, 100)) == set(levels)


def test_turns_are_even() -> None:
    assert set(shares(seats_of(8, "round-robin"), 800).values()) == {100}


def test_the_least_busy_one_is_chosen() -> None:
    for count in (4, 40):
        seats = seats_of(count, "least")
        for seat in seats.all[1:]:
            for _ in range(3):
                seats.begin(seat, object(), 0.0)
        picked = {seats.pick(0.0) for _ in range(count * 20)}
        assert seats.all[0] in picked
        assert count > 4 or picked == {seats.all[0]}


def test_the_cheaper_one_of_two_is_chosen() -> None:
    seats = seats_of(2)
    fast, slow = seats.all
    run(seats, fast, "ok", 0.0, 0.01)
    run(seats, slow, "ok", 0.0, 0.1)
    assert {seats.pick(0.1) for _ in range(20)} == {fast}
    for _ in range(12):
        seats.begin(fast, object(), 0.1)
    assert {seats.pick(0.1) for _ in range(20)} == {slow}


def test_what_was_seen_counts_less_and_less() -> None:
    seats = seats_of(2)
    fast, slow = seats.all
    run(seats, fast, "ok", 0.0, 0.05)
    run(seats, slow, "ok", 0.0, 0.1)
    assert {seats.pick(0.1) for _ in range(20)} == {fast}
    run(seats, fast, "ok", 20.0, 20.05)
    assert {seats.pick(20.1) for _ in range(20)} == {slow}


def test_a_call_that_hangs_shows_before_it_ends() -> None:
    seats = seats_of(2)
    hangs, well = seats.all
    for seat in seats.all:
        run(seats, seat, "ok", 0.0, 0.01)
    seats.begin(hangs, object(), 0.01)
    for _ in range(20):
        seats.begin(well, object(), 1.0)
    assert seats.pick(1.0) is well
    assert hangs.cost(1.0) > 1.9


def test_where_none_has_ended_one_call_is_enough() -> None:
    seats = seats_of(2)
    new, known = seats.all
    run(seats, known, "ok", 0.0, 0.5)
    assert seats.pick(0.5) is new
    seats.begin(new, object(), 0.5)
    assert seats.pick(0.5) is known


@pytest.mark.parametrize("ended", ["failed", "bad", "late", "refused"])
def test_a_failure_counts_as_a_second_however_fast_it_was(ended: Ended) -> None:
    seats = seats_of(4)
    run(seats, seats.all[0], ended, 0.0, 0.001)
    assert seats.all[0].cost(0.001) == pytest.approx(1.0)
    run(seats, seats.all[1], "lost", 0.0, 0.001)
    assert seats.all[1].cost(0.001) < 0.01


def test_a_refusal_puts_out_at_once_and_success_back() -> None:
    seats = seats_of(3)
    first = seats.all[0]
    for seat in seats.all[1:]:
        run(seats, seat, "ok", 0.0, 0.002)
    assert run(seats, first, "refused", 0.0, 0.0) == "out"
    assert run(seats, first, "refused", 0.0, 0.0) is None
    assert first not in {seats.pick(0.0) for _ in range(50)}
    assert seats.in_service() == 2
    assert run(seats, first, "ok", 0.0, 0.001) == "back"
    assert first in {seats.pick(0.0) for _ in range(50)}
    assert first.cost(0.001) < 0.01


def test_five_failures_in_a_row_put_out() -> None:
    seats = seats_of(4)
    first = seats.all[0]
    for ended in ("bad", "late", "bad", "late", "ok", "bad", "late", "bad", "late"):
        assert run(seats, first, ended, 0.0, 1.0) is None
    assert run(seats, first, "failed", 0.0, 1.0) is None
    assert run(seats, first, "bad", 0.0, 1.0) == "out"


def test_by_failures_half_of_them_stay_but_by_refusals_none() -> None:
    seats = seats_of(5)
    for seat in seats.all:
        for _ in range(9):
            run(seats, seat, "bad", 0.0, 1.0)
    assert seats.in_service() == 3
    for seat in seats.all:
        run(seats, seat, "refused", 0.0, 1.0)
    assert seats.in_service() == 0
    assert len(shares(seats, 100)) == 5  # then all are candidates


def test_a_caller_who_hardly_waits_tells_nothing() -> None:
    seats = seats_of(4)
    first = seats.all[0]
    run(seats, first, "ok", 0.0, 0.1)
    for _ in range(9):
        run(seats, first, "late", 0.1, 0.11)
        run(seats, first, "cancelled", 0.1, 5.0)
    assert first.failures == 0
    assert first.ewma == pytest.approx(0.1)
    run(seats, first, "late", 0.1, 0.3)
    assert first.failures == 1


def test_back_by_a_connection_is_on_trial() -> None:
    seats = seats_of(4)
    first = seats.all[0]
    run(seats, first, "refused", 0.0, 0.0)
    assert 0.9 <= first.until <= 1.1
    assert seats.back(first) == "back"
    assert seats.back(first) is None
    assert first.cost(0.0) == 0.0
    assert run(seats, first, "bad", 1.0, 1.0) == "out"


def test_the_pause_grows_to_half_a_minute_until_a_call_has_succeeded() -> None:
    seats = seats_of(4)
    first = seats.all[0]
    run(seats, first, "refused", 0.0, 0.0)
    pauses = []
    for _ in range(7):
        seats.stay_out(first, 0.0)
        pauses.append(first.until)
    assert all(
        0.9 * expected <= pause <= 1.1 * expected
        for expected, pause in zip((2, 4, 8, 16, 30, 30, 30), pauses, strict=True)
    )
    assert len(set(pauses)) == 7  # no two workers try at the same time
    seats.back(first)
    run(seats, first, "ok", 0.0, 0.0)
    run(seats, first, "refused", 0.0, 0.0)
    assert first.until <= 1.1


def test_a_call_that_ends_well_ends_the_pauses_of_one_that_no_call_has_failed_at() -> None:
    seats = seats_of(4)
    first = seats.all[0]
    assert seats.refuse(first, 0.0) == "out"
    seats.stay_out(first, 0.0)
    assert run(seats, first, "ok", 0.0, 0.0) == "back"
    assert run(seats, first, "refused", 0.0, 0.0) == "out"
    assert first.until <= 1.1


def test_one_that_is_new_begins_slowly() -> None:
    seats = seats_of(3, "random", slow_start=20.0)
    assert max(shares(seats, 3000).values()) < 1200  # the first list is not new
    seats.update(listing(4), 100.0, 0.0)
    assert shares(seats, 3100, now=100.0)["10.0.0.3:9000"] < 160
    assert 350 < shares(seats, 3500, now=110.0)["10.0.0.3:9000"] < 650
    assert shares(seats, 4000, now=121.0)["10.0.0.3:9000"] > 850


def test_one_that_says_when_it_started_begins_slowly_in_the_first_list_too() -> None:
    seats = Seats("random", 20.0, random.Random(7))
    started = {"10.0.0.0:1": 1000.0, "10.0.0.1:1": 10.0, "10.0.0.2:1": 2000.0}
    seats.update(tuple(Instance(address=address, started=since) for address, since in started.items()), 50.0, 1000.0)
    found = shares(seats, 1200, now=50.0)
    assert found["10.0.0.1:1"] > 900
    assert 50 < found["10.0.0.0:1"] < 150  # a clock that is ahead of ours is none of the future
    assert 50 < found["10.0.0.2:1"] < 150
    assert shares(seats, 1200, now=71.0)["10.0.0.2:1"] > 300


def test_what_is_known_of_those_that_stay_is_kept() -> None:
    seats = seats_of(3)
    first, second, third = seats.all
    run(seats, second, "refused", 0.0, 0.0)
    running = object()
    seats.begin(third, running, 0.0)
    added, gone = seats.update((*listing(2, weight=7), Instance(address="new:1")), 1.0, 0.0)
    assert ([seat.instance.address for seat in added], gone) == (["new:1"], [third])
    assert seats.all[:2] == [first, second]
    assert (second.is_out, first.instance.weight) == (True, 7)
    assert [third.is_gone, first.is_gone] == [True, False]
    assert seats.running == 1
    assert seats.end(third, running, "ok", 2.0) is None
    assert seats.running == 0
    added, _ = seats.update((Instance(address="new:1", server_name="other"),), 1.0, 0.0)
    assert len(added) == 1  # another certificate needs other connections


def test_a_key_stays_with_its_instance_and_goes_on_where_that_is_out_or_full() -> None:
    seats, others = seats_of(8, "hash"), Seats("hash", source=random.Random(99))
    others.update(tuple(reversed(listing(8))), 0.0, 0.0)
    assert seats.is_by_key

    def where(key: bytes, which: Seats = seats) -> str:
        seat = which.pick(0.0, key=key)
        assert seat is not None
        return seat.instance.address

    keys = [b"%d" % number for number in range(400)]
    at_first = {key: where(key) for key in keys}
    assert at_first == {key: where(key, others) for key in keys}
    assert min(Counter(at_first.values()).values()) > 20
    first = next(seat for seat in seats.all if seat.instance.address == at_first[b"1"])
    run(seats, first, "refused", 0.0, 0.0)
    moved = [key for key in keys if where(key) != at_first[key]]
    assert all(at_first[key] == first.instance.address for key in moved)
    seats.back(first)
    for _ in range(3):
        seats.begin(first, object(), 0.0)
    assert where(b"1") != at_first[b"1"]
    assert seats.pick(0.0, [seat for seat in seats.all if seat is not first], b"1") is first


def test_the_budget_is_a_share_of_the_calls() -> None:
    budget = Budget(0.2)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(5):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]
    assert not Budget(0.0).spend()


def test_of_very_many_each_worker_has_a_part() -> None:
    few, many = listing(199), listing(1000)
    assert subset(few, 100, 3, 1) is few
    parts = [{each.address for each in subset(many, 100, slot, 1)} for slot in range(20)]
    assert all(len(part) == 100 for part in parts)
    assert len(set.union(*parts[:10])) == len(set.union(*parts[10:])) == 1000
    assert parts[0] != parts[10] != {each.address for each in subset(many, 100, 10, 2)}
    kept = {each.address for each in subset(many[:-1], 100, 0, 1)} & parts[0]
    assert len(kept) > 90  # one that leaves moves few others
