"""Inputs that the guided fuzzer has found, kept from run to run: tests/fuzz/kept has a file for each target.

One input a line, in base64, the shortest first. Only short ones: they say most about the code for what they take.
"""

from base64 import b64decode, b64encode
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "kept"
INPUT_MAX_BYTES = 200
INPUTS_MAX = 800  # of a target, the shortest; a file stays below 100 KB


def kept(target: str) -> list[bytes]:
    """What was kept for a target."""
    path = FOLDER / f"{target}.txt"
    return [b64decode(line) for line in path.read_text().split()] if path.exists() else []


def keep(target: str, found: Path) -> None:
    """Add the files of the folder `found`. libFuzzer puts there what takes a branch that nothing took before."""
    inputs = {*kept(target), *(path.read_bytes() for path in found.iterdir())}
    short = sorted((data for data in inputs if 0 < len(data) <= INPUT_MAX_BYTES), key=lambda data: (len(data), data))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.txt").write_text("".join(f"{b64encode(data).decode()}\n" for data in short[:INPUTS_MAX]))
