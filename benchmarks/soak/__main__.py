"""Everything at once, for ten minutes: does memory grow, do descriptors leak, is a response wrong.

    make soak                  ten minutes
    make soak SOAK=3600        an hour

Two gateways get the same calls: of every kind and protocol, with faults, hang-ups, uploads that stop and responses that
nobody reads. One is never reloaded, so that its memory can grow; the other is reloaded again and again. The upstream of
both is killed and started again all the time. The end is a picture of each process over time. The exit code is 1 where
the last quarter has more than 2 % above the third quarter, or a response was wrong. Of memory, what counts is the level
to which it falls back: large requests and responses come and go.
"""

import os
import sys

from benchmarks.soak.report import report
from benchmarks.soak.running import run


def main() -> None:
    """Run for SOAK seconds, and report."""
    lines, problems = report(run(float(os.environ.get("SOAK", "600"))))
    print("\n".join(lines))
    if problems:
        sys.exit("\n".join(f"soak: {problem}" for problem in problems[:20]))


if __name__ == "__main__":
    main()
