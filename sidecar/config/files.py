"""The only place of this folder that opens files: the bootstrap file and the static folder of resources.

Everything is read whole, bounded, as UTF-8. What cannot be opened or decoded is `UnreadableError`; what can be read and
not used is `ConfigError` with every problem of all files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar.config.bootstrap import read_bootstrap
from sidecar.config.bootstrap_checks import check_upstreams
from sidecar.config.check import known_services
from sidecar.config.derive import derive
from sidecar.config.problems import Problems
from sidecar.config.resources import Parsed, complain_of_repeats, read_documents
from sidecar.config.yaml_text import MAX_TEXT_BYTES
from sidecar.errors import ConfigError, UnreadableError
from sidecar.model.bootstrap import Bootstrap
from sidecar.model.mesh import DEFAULT_TRUST_DOMAIN
from sidecar.model.snapshot import Snapshot

MAX_FILES = 1000  # in a static folder
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that a sidecar can know before it opens a socket.

    Attributes:
        snapshot: The static folder's resources; None with a control plane.
        warnings: Complete lines.
    """

    bootstrap: Bootstrap
    snapshot: Snapshot | None
    warnings: list[str]


def read_text(path: Path) -> str:
    """The text of a file, at most one byte more than `parse_documents` accepts. Raises UnreadableError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as refusal:
        raise UnreadableError(f"{path}: {refusal.strerror or refusal}") from None
    except ValueError:
        raise UnreadableError(f"{path!s}: not a file name") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as refusal:
        if len(data) > MAX_TEXT_BYTES and refusal.start > MAX_TEXT_BYTES - 4:
            return data.decode("utf-8", "replace")  # cut inside a character; too large anyway, and told so
        line = data.count(b"\n", 0, refusal.start) + 1
        column = refusal.start - (data.rfind(b"\n", 0, refusal.start) + 1) + 1
        byte = data[refusal.start]
        raise UnreadableError(
            f"{path}:{line}:{column}: byte 0x{byte:02x} is not UTF-8 text; save the file as UTF-8"
        ) from None


def load(path: Path | str, environment: Mapping[str, str]) -> Loaded:
    """The bootstrap file and, if it names one, the static folder, checked together.

    Raises:
        ConfigError: Something cannot be used; all problems of all files.
        UnreadableError: A file could not be read.
    """
    problems = Problems()
    bootstrap, root = read_bootstrap(read_text(Path(path)), str(path), environment, problems)
    snapshot = None
    if bootstrap.static is not None:
        try:
            documents = _read_folder(bootstrap.static, problems)
        except (ConfigError, UnreadableError):
            problems.raise_if_any()  # what is wrong with the file itself comes first
            raise
        problems.raise_if_any()
        check_upstreams(bootstrap, root, known_services(documents))
        snapshot, warnings = _derived(documents, bootstrap.identity is not None, DEFAULT_TRUST_DOMAIN, problems)
        return Loaded(bootstrap, snapshot, warnings)
    problems.raise_if_any()
    return Loaded(bootstrap, snapshot, problems.warning_lines())


def load_bootstrap(path: Path | str, environment: Mapping[str, str]) -> tuple[Bootstrap, list[str]]:
    """The bootstrap file alone, and its warnings. Raises ConfigError or UnreadableError."""
    problems = Problems()
    bootstrap, _ = read_bootstrap(read_text(Path(path)), str(path), environment, problems)
    problems.raise_if_any()
    return bootstrap, problems.warning_lines()


def load_static_folder(
    path: Path, *, mesh: bool, trust_domain: str = DEFAULT_TRUST_DOMAIN
) -> tuple[Snapshot, list[str]]:
    """The snapshot that a folder's files make, and warnings; what is not in it does not exist.

    Args:
        mesh: Whether this sidecar has an identity, so that hops to other sidecars use mutual TLS.
        trust_domain: Of the mesh, unless a MeshPolicy in the folder names one.
    """
    problems = Problems()
    documents = _read_folder(path, problems)
    problems.raise_if_any()
    return _derived(documents, mesh, trust_domain, problems)


def _derived(documents: list[Parsed], mesh: bool, trust_domain: str, problems: Problems) -> tuple[Snapshot, list[str]]:
    derived = derive(documents, trust_domain=trust_domain, mesh=mesh)
    errors = problems.lines() + derived.problems
    if errors:
        raise ConfigError(errors)
    snapshot = Snapshot(complete=True).changed(derived.resources, version=0)
    return snapshot, problems.warning_lines() + derived.warnings


def _read_folder(folder: Path, problems: Problems) -> list[Parsed]:
    """The documents of every *.yaml and *.yml of a folder, in order of name; hidden files are left out."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _SUFFIXES)
    except OSError as refusal:
        raise UnreadableError(f"{folder}: {refusal.strerror or refusal}") from None
    names = [name for name in names if not name.startswith(".")]
    if len(names) > MAX_FILES:
        raise ConfigError([f"{folder}: more than {MAX_FILES} files; put more documents into each"])
    if not names:
        raise ConfigError([f"{folder}: no *.yaml file is there"])
    documents: list[Parsed] = []
    for name in names:
        documents += read_documents(read_text(folder / name), str(folder / name), problems)
    complain_of_repeats(documents)
    return documents
