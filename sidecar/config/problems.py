"""Where complaints are gathered, so that users see every problem at once and not one a run.

A line is `file:line:column: path: what is wrong, what is allowed`; without positions (JSON, the wire) `path: ...`.
Bounded: a file of rubbish yields the first two hundred lines and a count.
"""

from typing import NamedTuple

from sidecar.errors import ConfigError

MAX_PROBLEMS = 200  # more than anybody reads; keeps a hostile megabyte from becoming a hundred of them


class Problem(NamedTuple):
    """One complaint. `line` and `column` start at 1; 0 means that the text had no lines. Sorts by place."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.path}: {self.message}"


class Problems:
    """Errors and warnings of one load; several files may share it."""

    __slots__ = ("errors", "left_out", "warnings")

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.left_out = 0

    @property
    def count(self) -> int:
        """Errors so far. Compare two readings to know whether a part was fine, and skip follow-on noise."""
        return len(self.errors) + self.left_out

    def add(self, problem: Problem) -> None:
        """Take an error; the same one twice is one."""
        if len(self.errors) >= MAX_PROBLEMS:
            self.left_out += 1
        elif problem not in self.errors:
            self.errors.append(problem)

    def warn(self, problem: Problem) -> None:
        """Take a warning: the text is usable, but perhaps not what its author meant."""
        if len(self.warnings) < MAX_PROBLEMS and problem not in self.warnings:
            self.warnings.append(problem)

    def lines(self) -> list[str]:
        """The errors in order of place."""
        more = [f"... and {self.left_out} more problems"] if self.left_out else []
        return [str(problem) for problem in sorted(self.errors)] + more

    def warning_lines(self) -> list[str]:
        """The warnings in order of place."""
        return [str(problem) for problem in sorted(self.warnings)]

    def raise_if_any(self) -> None:
        """Raises ConfigError with every error's line, if there is one."""
        if self.errors:
            raise ConfigError(self.lines())
