"""What the simulation shows of each way of balancing; the same seed has the same figures on every machine."""

import pytest

from benchmarks.simulate.model import Case, Server, simulated

pytestmark = pytest.mark.unmeasured

WELL = (Server(),) * 7


@pytest.mark.parametrize("workers", [1, 16])
def test_a_slow_one_and_one_that_hangs_are_avoided_by_ewma_alone(workers: int) -> None:
    for broken in (Server(slower=10.0), Server(hangs=True)):
        case = Case(servers=(*WELL, broken), length=3.0)
        found = simulated(case, "ewma", workers)
        assert found.p99 < 0.04
        assert found.failed < 0.001
        assert simulated(case, "random", workers).failed > 0.01


def test_one_that_fails_fast_attracts_no_calls() -> None:
    case = Case(servers=(*WELL, Server(fails=0.3)), length=3.0)
    assert simulated(case, "ewma", 4).failed < 0.002
    assert simulated(case, "least", 4).failed > 0.02


def test_a_second_attempt_helps() -> None:
    case = Case(servers=(*WELL, Server(fails=1.0)), attempts=2, length=3.0)
    assert simulated(case, "random", 4).failed < 0.001


def test_the_same_seed_has_the_same_figures() -> None:
    case = Case(servers=(*WELL, Server(slower=3.0)), length=1.0)
    assert simulated(case, "ewma", 2) == simulated(case, "ewma", 2) != simulated(case, "ewma", 2, seed=2)
