"""Results as they are made: one file a row, so that a run that is stopped goes on later, and one for the whole.

`bench/results/rows/NAME.json` holds the newest result of a row with the machine's facts; a full run skips what it finds
there of the same commit and the same scenario. A tree with changes has no commit, so nothing of it is skipped.
`bench/results/configurations/ROW/PROXY/` is what each proxy ran with.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine

Entry = dict[str, Any]
RESULTS = machine.ROOT / "bench" / "results"
_CONFIGURATIONS = (".json", ".yaml", ".cfg", ".conf", ".map")
_MAX_CONFIGURATION_BYTES = 4 << 20


def slug(name: str) -> str:
    """A file name for a row: `Host + 12, unseen` is `host-12-unseen`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of results."""

    folder: Path = RESULTS

    def done(self, scenario: dict[str, Any], commit: str) -> Entry | None:
        """The row's result, if this commit has one of the same scenario."""
        path = self._row(scenario["name"])
        if commit.endswith("+changes") or not path.exists():
            return None
        entry: Entry = json.loads(path.read_text())
        # Through JSON, as the saved one went: tuples are lists there.
        same = entry["scenario"] == json.loads(json.dumps(scenario)) and entry["machine"]["commit"] == commit
        return entry if same else None

    def save(self, entry: Entry, facts: dict[str, Any]) -> None:
        """Keep a row's result. The file is replaced whole."""
        path = self._row(entry["scenario"]["name"])
        _replace(path, {**entry, "machine": facts})

    def write(self, entries: Sequence[Entry], facts: dict[str, Any], kind: str) -> Path:
        """The file of a whole run; `kind` is part of its name."""
        stamp = re.sub(r"[-:]", "", str(facts["date"]))
        path = self.folder / f"{stamp}-{facts['commit']}-{kind}.json"
        _replace(path, {"machine": facts, "rows": list(entries)})
        return path

    def newest(self, kind: str) -> Path | None:
        """The newest file of a whole run of this kind."""
        return max(self.folder.glob(f"*-{kind}.json"), default=None)

    def keep_configurations(self, row: str, made: Path) -> None:
        """Copy what the proxies below `made` ran with; keys and certificates stay behind."""
        target = self.folder / "configurations" / slug(row)
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted(made.rglob("*")):
            if path.suffix in _CONFIGURATIONS and path.is_file() and path.stat().st_size <= _MAX_CONFIGURATION_BYTES:
                copy = target / path.relative_to(made)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)

    def _row(self, name: str) -> Path:
        return self.folder / "rows" / f"{slug(name)}.json"


def _replace(path: Path, content: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)
