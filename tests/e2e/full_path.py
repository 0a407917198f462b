"""The end-to-end and the interoperability tests once more, with every sidecar's fast path switched off.

They start real processes, which take `SIDECAR_FAST_PATH` from the environment (tests/e2e/test_fast_path.py shows that
it switches). Both paths must look the same to everybody, so the tests know nothing of it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from bench.progress import Say

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tests/e2e", "tests/interop")
TIMEOUT_S = 1800.0  # they take some minutes


def prove(say: Say) -> str:
    """Play them; the figure for the ledger. Raises AssertionError with what pytest says of the failures."""
    say("the tests of " + " and ".join(FOLDERS))
    argv = [sys.executable, "-m", "pytest", "-q", "--no-header", *FOLDERS]
    environment = {**os.environ, "SIDECAR_FAST_PATH": "false"}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return figure(done.stdout, done.returncode)


def figure(said: str, status: int) -> str:
    """What pytest's last line counts. Raises AssertionError unless all passed."""
    counts = re.search(r"^(\d+) passed.* in [\d.]+s", said, re.MULTILINE)
    assert status == 0, said[-4000:]
    assert counts, said[-4000:]
    assert int(counts[1]), "no test was played"
    return f"{int(counts[1]):,} tests passed with the fast path switched off"
