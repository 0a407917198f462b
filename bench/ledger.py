"""What is proven, in bench/proof.json (committed), and how far unfinished runs are (beside the results, not committed).

proof.json holds one line a run, so that a change of one is a change of one line. Files are replaced whole: a run that
is stopped while it writes leaves the old one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from bench import machine

Line = dict[str, str]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The two files."""

    proof: Path = machine.ROOT / "bench" / "proof.json"
    results: Path = machine.ROOT / "bench" / "results"

    def proven(self) -> dict[str, Line]:
        """Figure, commit and date of each run by its name."""
        known: dict[str, Line] = json.loads(self.proof.read_text()) if self.proof.exists() else {}
        return known

    def record(self, name: str, figure: str, commit: str, today: str) -> None:
        """Write one line; the others stay."""
        known = self.proven() | {name: {"figure": figure, "commit": commit, "date": today}}
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(known[key])}" for key in sorted(known))
        _replace(self.proof, f"{{\n{lines}\n}}\n")

    def done(self, name: str, commit: str) -> dict[str, int]:
        """Blocks done by target, if the run was of this commit; none for a tree with changes."""
        path = self._progress(name)
        if commit.endswith("+changes") or not path.exists():
            return {}
        state = json.loads(path.read_text())
        blocks: dict[str, int] = state["blocks"]
        return blocks if state["commit"] == commit else {}

    def save(self, name: str, commit: str, blocks: dict[str, int]) -> None:
        """Remember how far a run is."""
        self.results.mkdir(parents=True, exist_ok=True)
        _replace(self._progress(name), json.dumps({"commit": commit, "blocks": blocks}))

    def keep(self, name: str, data: bytes) -> Path:
        """Keep an input that fails."""
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{name}-failure.bin"
        path.write_bytes(data)
        return path

    def _progress(self, name: str) -> Path:
        return self.results / f"{name}-progress.json"


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)
