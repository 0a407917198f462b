"""`python -m bench.attacks [--only TEXT] [--seconds S] [--short]`: play attacks, tell of each, go on after a failure.

For looking at one of them; `make prove` plays all and remembers. Exit status: 0 all hold, 1 one does not, 2 usage.
"""

import argparse
import sys
from dataclasses import replace

import trio

from bench.attacks.all import ATTACKS
from bench.attacks.play import LONG, SHORT
from bench.attacks.proof import one


def main() -> int:
    """Play the chosen ones."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description="Attacks on a running sidecar.")
    parser.add_argument("--only", default="", metavar="TEXT", help="only attacks with TEXT in their name")
    parser.add_argument("--seconds", type=float, default=LONG.seconds, help="length of each (default %(default)g)")
    parser.add_argument("--short", action="store_true", help="one small round of each; latencies are not judged")
    options = parser.parse_args()
    chosen = [attack for attack in ATTACKS if options.only in attack.name]
    if not chosen:
        print(f"no attack has {options.only!r} in its name", file=sys.stderr)
        return 2
    scale = SHORT if options.short else replace(LONG, seconds=options.seconds)
    failed = 0
    for attack in chosen:
        print(f"{attack.name} (row {attack.row}): {attack.what}", flush=True)
        verdict = trio.run(one, attack, scale)
        print(f"  {verdict.figure}", *(f"  FAILED: {what}" for what in verdict.complaints), sep="\n", flush=True)
        failed += bool(verdict.complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
