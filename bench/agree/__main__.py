"""`python -m bench.agree [NAME ...]`: play scenarios for real, and print what the simulator says beside it."""

import argparse
import sys
from collections.abc import Sequence

from bench.agree.proof import SCENARIOS, both
from bench.process import BenchError


def main(arguments: Sequence[str] | None = None) -> int:
    """0: they agree; 1: they do not; 2: usage, or a scenario cannot be played so."""
    parser = argparse.ArgumentParser(prog="python -m bench.agree", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of examples/sim; default: {', '.join(SCENARIOS)}")
    good = True
    try:
        for name in parser.parse_args(arguments).names or SCENARIOS:
            print(name)
            for as_wanted, words in both(name).told():
                print(f"  {words}", flush=True)
                good = good and as_wanted
    except (BenchError, OSError) as exc:
        print(f"agree: {exc}", file=sys.stderr)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
