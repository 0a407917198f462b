"""The files that `apply` and `validate` are given: read completely, joined into one text, problems told by file.

The control plane takes one text, all or nothing. Its problems name lines of that text; `Bundle.translated` gives them
back their file and line, so that several files read as well as one.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.cli.complaint import USAGE, Complaint

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MOST_BYTES = 4 * 1024 * 1024  # read at once
MOST_APPLIED_BYTES = 1024 * 1024  # as much text as the control plane takes at once, all or nothing
SOURCE = "<files>"  # what the joined text is called on the wire when it has several files

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML readers count as lines


@dataclass(frozen=True, slots=True)
class Text:
    """One file's content; `name` is how problems call it."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several files as one YAML text.

    Attributes:
        source: What the text is called: the file's own name when there is only one.
        text: All of it.
        starts: For each file its name and the line of `text` (from 1) where it begins.
    """

    source: str
    text: str
    starts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, texts: Sequence[Text]) -> "Bundle":
        """Join `texts`; each becomes documents of its own.

        Raises:
            Complaint: Status 2; together they are more than the control plane takes at once.
        """
        size = sum(len(text.content.encode()) for text in texts)
        if size > MOST_APPLIED_BYTES:
            raise Complaint(
                f"{size} bytes at once; the control plane takes {MOST_APPLIED_BYTES} (1 MiB)",
                hint="give the files in parts",
                status=USAGE,
            )
        if len(texts) == 1:
            return cls(texts[0].name, texts[0].content, ((texts[0].name, 1),))
        pieces: list[str] = []
        starts: list[tuple[str, int]] = []
        line = 1
        for text in texts:
            piece = "---\n" + text.content.removeprefix("\ufeff") + "\n"
            starts.append((text.name, line + 1))
            line += len(_BREAK.findall(piece))
            pieces.append(piece)
        return cls(SOURCE, "".join(pieces), tuple(starts))

    def translated(self, line: str) -> str:
        """A problem's line with the place in the joined text replaced by file and line."""
        if len(self.starts) < 2:
            return line
        found = re.match(re.escape(self.source) + r":(\d+):", line)
        if found is None:
            return line
        number = int(found[1])
        name, start = max((place for place in self.starts if place[1] <= number + 1), key=lambda place: place[1])
        return f"{name}:{max(1, number - start + 1)}:{line[found.end() :]}"

    def retold(self, complaint: Complaint) -> Complaint:
        """A refusal of the joined text, in terms of its files."""
        message = complaint.message.replace(SOURCE, f"{len(self.starts)} files")
        details = [self.translated(line) for line in complaint.details]
        return Complaint(message, hint=complaint.hint, details=details, status=complaint.status)


def read(paths: Sequence[Path]) -> list[Text]:
    """The content of every file named, of every YAML or JSON file in a folder named, and of stdin for `-`.

    Raises:
        Complaint: Status 2; something cannot be read, a folder holds nothing, or it is too much.
    """
    texts: list[Text] = []
    for path in paths:
        if str(path) == "-":
            texts.append(Text("<stdin>", _decoded(sys.stdin.buffer.read(MOST_BYTES + 1), "<stdin>")))
            continue
        texts += [Text(str(file), _decoded(_bytes(file), str(file))) for file in _files(path)]
    size = sum(len(text.content) for text in texts)
    if size > MOST_BYTES:
        raise Complaint(
            f"the files are larger than {MOST_BYTES} bytes together", hint="give them in parts", status=USAGE
        )
    return texts


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    except OSError as exc:
        raise Complaint(f"cannot read {path}: {(exc.strerror or '').lower()}", status=USAGE) from exc
    if not found:
        raise Complaint(f"{path} holds no .yaml, .yml or .json file", status=USAGE)
    return found


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as exc:
        raise Complaint(f"cannot read {file}: {(exc.strerror or '').lower()}", status=USAGE) from exc


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Complaint(f"{name} is not UTF-8 (byte {exc.start})", status=USAGE) from exc
