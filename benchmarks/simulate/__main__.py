"""make simulate: how each way of balancing does with fleets that have something wrong with them.

Eight instances with 4 places, calls of 10 ms, 60 % load. Each cell is the time within which 99 of 100 calls are
answered, in milliseconds, and the share of calls that fail where there are any: for one worker, and for 16 that know
nothing of each other. The same seed has the same figures; a change of gateway/fleet/seats.py shows.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from benchmarks.simulate.model import Case, Outcome, Server, simulated
from gateway.fleet.seats import Balance

WELL = Server()
SEVEN = (WELL,) * 7
CASES: dict[str, Case] = {
    "all equal": Case(servers=(*SEVEN, WELL)),
    "one 10 times slower": Case(servers=(*SEVEN, Server(slower=10.0))),
    "one hangs": Case(servers=(*SEVEN, Server(hangs=True))),
    "one fails at once": Case(servers=(*SEVEN, Server(fails=1.0))),
    "the same, 2 attempts": Case(servers=(*SEVEN, Server(fails=1.0)), attempts=2),
    "one fails 30 % of its calls": Case(servers=(*SEVEN, Server(fails=0.3))),
    "half have a fourth of the places": Case(servers=(Server(places=2),) * 4 + (Server(places=8),) * 4),
    "the same, with weights": Case(
        servers=(Server(places=2, weight=25),) * 4 + (Server(places=8),) * 4,
    ),
    "one is new and cold": Case(servers=(*SEVEN, Server(cold=3.0))),
    "the same, slow_start": Case(servers=(*SEVEN, Server(cold=3.0)), slow_start=3.0),
    "5 and 500 ms mixed": Case(servers=(*SEVEN, WELL), seconds=(0.005, 0.5), deadline=10.0, length=60.0),
}
BALANCES: tuple[Balance, ...] = ("random", "round-robin", "least", "ewma", "hash")
WORKERS = (1, 16)


def main() -> None:
    """Simulate all cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    cells = list(product(CASES.values(), BALANCES, WORKERS))
    with ProcessPoolExecutor() as pool:
        outcomes = dict(zip(cells, pool.map(simulated, *zip(*cells, strict=True), [seed] * len(cells)), strict=True))
    print(f"| p99 in ms, failed calls; 1 / 16 workers | {' | '.join(BALANCES)} |")
    print(f"| --- |{' --- |' * len(BALANCES)}")
    for name, case in CASES.items():
        row = (" / ".join(_shown(outcomes[case, balance, count]) for count in WORKERS) for balance in BALANCES)
        print(f"| {name} | {' | '.join(row)} |")


def _shown(outcome: Outcome) -> str:
    failed = f" ({outcome.failed:.2%})" if outcome.failed else ""
    return f"{outcome.p99 * 1000:.0f}{failed}"


if __name__ == "__main__":
    main()
