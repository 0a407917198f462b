"""`sidecar check`: every problem of a bootstrap file and its static folder, as lines and an exit status.

Opens no socket and changes nothing. Does not look at certificates and join files: those may come later than the file.
"""

from collections.abc import Mapping
from pathlib import Path

from sidecar.config.files import load
from sidecar.errors import ConfigError, UnreadableError

USABLE, UNUSABLE, UNREADABLE, DOUBTFUL = 0, 1, 2, 79


def check(path: Path | str, environment: Mapping[str, str]) -> tuple[int, list[str], list[str]]:
    """Exit status, lines for stdout, lines for stderr.

    0 usable; 1 unusable; 2 a file cannot be read; 79 usable with warnings. Problems go to stderr, so that stdout is
    empty unless the file can be used.
    """
    try:
        loaded = load(path, environment)
    except UnreadableError as refusal:
        return UNREADABLE, [], [str(refusal)]
    except ConfigError as refusal:
        return UNUSABLE, [], refusal.problems
    if not loaded.warnings:
        return USABLE, [f"{path}: usable"], []
    count = len(loaded.warnings)
    lines = [f"warning: {warning}" for warning in loaded.warnings]
    return DOUBTFUL, [f"{path}: usable, {count} warning{'' if count == 1 else 's'}"], lines
