"""Coverage-guided fuzzing with atheris: inputs that reach new code are kept and changed further.

`python -m tests.fuzz.guided TARGET FOLDER SECONDS SEED` drives one target of targets.py in a process of its own,
because atheris rewrites the code as it is imported and ends the process itself. `Guided` runs all of them for
bench/prove.py, and `drive` one, for a test. `python -m tests.fuzz.guided keep TARGET FOLDER` puts what such a run has
found into tests/fuzz/kept, where the next one begins (corpus.py).
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.corpus import keep, kept

SEEDS = "seeds"  # in the folder of a run: what it begins with, and what it finds
# An input that takes longer is a failure. Real ones take a millisecond; the machine may be busy with other things.
INPUT_MAX_S = 5
MEMORY_MAX_MIB = 2048
INPUT_MAX_BYTES = 16_384
STARTUP_S = 60.0  # imports, rewriting of the code, and reading of the seeds, on a busy machine

_FAILURE = re.compile(r"=== Uncaught Python exception: ===\s+(.+)|ERROR: libFuzzer: (.+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of driving one target.

    Attributes:
        executions: Inputs played.
        edges: Branches of our code that were taken, as atheris counts them.
        failure: The exception, or what libFuzzer says; "" when there is none.
        input: That failed.
    """

    executions: int
    edges: int
    failure: str = ""
    input: bytes = b""


def drive(name: str, folder: Path, seconds: int, seed: int) -> Outcome:
    """Drive a target in a process of its own until it fails or the time is over."""
    argv = [sys.executable, "-m", "tests.fuzz.guided", name, str(folder), str(seconds), str(seed)]
    env = {**os.environ, "PYTHONHASHSEED": "0"}  # the same seed gives the same inputs
    done = subprocess.run(argv, env=env, capture_output=True, timeout=seconds + STARTUP_S + INPUT_MAX_S, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    played = [
        int(number) for number in re.findall(r"^(?:#|stat::number_of_executed_units: +)(\d+)", said, re.MULTILINE)
    ]
    edges = [int(number) for number in re.findall(r" cov: (\d+)", said)]
    if not done.returncode:
        assert played, said[-2000:]
        return Outcome(max(played), max(edges, default=0))
    found = [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
    assert found, f"{name}: status {done.returncode}: {said[-2000:]}"
    why = _FAILURE.search(said)
    assert why, said[-2000:]
    return Outcome(max(played, default=0), max(edges, default=0), why[1] or why[2], found[0].read_bytes())


class Guided:
    """The long run: every target for its minutes."""

    def __init__(self) -> None:
        from tests.fuzz.targets import TARGETS

        self._targets = TARGETS
        self.parts = tuple(TARGETS)

    def play(self, part: str, rng: Random) -> Mapping[str, int]:
        """Drive one target. Raises AssertionError with the input that fails."""
        with tempfile.TemporaryDirectory() as folder:
            outcome = drive(part, Path(folder), 60 * self._targets[part].minutes, rng.randrange(1, 1 << 31))
        assert not outcome.failure, f"{part}: {outcome.failure}, with {outcome.input!r}"
        return {f"{part} executions": outcome.executions, f"{part} edges": outcome.edges}

    def figure(self, counts: Mapping[str, int]) -> str:
        """The line for the ledger."""
        sums: Counter[str] = Counter()
        for key, count in counts.items():
            sums[key.rpartition(" ")[2]] += count
        each = ", ".join(f"{part} {counts[f'{part} executions']:,}/{counts[f'{part} edges']:,}" for part in self.parts)
        return f"{sums['executions']:,} executions, {sums['edges']:,} edges, 0 failures ({each})"


@contextmanager
def prove() -> Iterator[Guided]:
    """The long run, for bench/prove.py."""
    yield Guided()


def main(name: str, folder: Path, seconds: int, seed: int) -> None:
    """Drive a target in this process; does not return."""
    import atheris  # type: ignore[import-untyped]

    ours = ["sidecar"] if name != "planted" else ["sidecar", "tests.fuzz.targets"]
    with atheris.instrument_imports(include=ours):
        from tests.fuzz.targets import PLANTED, TARGETS
    target = {**TARGETS, "planted": PLANTED}[name]
    seeds = folder / SEEDS
    seeds.mkdir()
    for number, data in enumerate((*target.seeds(), *kept(name))):
        (seeds / f"{number:04}").write_bytes(data[:INPUT_MAX_BYTES])
    options: dict[str, object] = {
        "max_total_time": seconds,
        "seed": seed,
        "timeout": INPUT_MAX_S,
        "rss_limit_mb": MEMORY_MAX_MIB,
        "max_len": INPUT_MAX_BYTES,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    if lines := "".join(f'"{_escaped(word)}"\n' for word in target.words()):
        words = folder / "words"
        words.write_text(lines)
        options["dict"] = words
    atheris.Setup([sys.argv[0], str(seeds), *(f"-{key}={value}" for key, value in options.items())], target.play)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(sys.argv[2], Path(sys.argv[3]) / SEEDS)
    else:
        main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
