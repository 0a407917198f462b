"""The official gRPC interoperability tests (Python), fetched from Debian's source package `grpc` into a cache folder.

Not vendored: the cases are worth something because they are theirs. apt fetches the package with the signatures that it
checks anyway, into lists and archives of our own, from the Debian mirrors that the machine uses already; no root and no
change of the machine's sources is needed. Only the few files of the Python tests and their .proto files are unpacked,
and grpcio-tools makes the stubs. A second call finds the folder and does nothing.

    python -m tests.support.grpc_source     # prints the folder
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

FETCH_S = 300.0
_SOURCES = Path("/etc/apt")
_CASES = "src/python/grpcio_tests/tests/interop/"
_PROTOS = "src/proto/grpc/testing/"
_NEEDED = (
    *(_CASES + name for name in ("__init__.py", "client.py", "methods.py", "resources.py", "service.py")),
    *(_PROTOS + name for name in ("empty.proto", "messages.proto", "test.proto")),
    "LICENSE",
)


class FetchError(Exception):
    """The source package could not be had; str() says why."""


def interop_tree(cache: Path | None = None) -> Path:
    """A folder for `sys.path`: `tests.interop` and `src.proto.grpc.testing` as the official tests import them.

    Raises:
        FetchError: no Debian mirror known or reachable, or the package is not what it was.
    """
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sidecar-mesh"
    tree = cache / f"grpc-interop-{version('grpcio-tools')}"  # whose stubs an older runtime refuses
    if tree.is_dir():
        return tree
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        made = folder / "tree"
        _unpack(_fetch(folder), made)
        _make_stubs(made)
        try:
            made.rename(tree)
        except OSError:  # somebody else was faster
            if not tree.is_dir():
                raise
    return tree


def _fetch(folder: Path) -> Path:
    """The package's original archive, checked by apt."""
    if shutil.which("apt-get") is None:
        raise FetchError("there is no apt-get here: the official gRPC tests come from Debian's source package grpc")
    sources = _debian_sources()
    if not sources:
        raise FetchError(f"no Debian mirror is named in {_SOURCES}/sources.list or {_SOURCES}/sources.list.d")
    for name in ("sources", "state/lists/partial", "cache/archives/partial", "package"):
        (folder / name).mkdir(parents=True)
    for name, text in sources.items():
        (folder / "sources" / name).write_text(text, "utf-8")
    own = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": folder / "sources",
        "Dir::State": folder / "state",
        "Dir::Cache": folder / "cache",
        "Acquire::Retries": 3,
        "APT::Sandbox::User": "root",  # the folder is readable for its owner only
    }
    apt = ["apt-get", "-q", *(word for key, value in own.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], folder)
    _run([*apt, "source", "--download-only", "grpc"], folder / "package")
    archives = list((folder / "package").glob("grpc_*.orig.tar.*"))
    if len(archives) != 1:
        raise FetchError(f"the source package has {len(archives)} original archives, not one")
    return archives[0]


def _debian_sources() -> dict[str, str]:
    """The machine's entries for Debian itself, asking for sources instead of packages; by file name."""
    found: dict[str, str] = {}
    parts = sorted((_SOURCES / "sources.list.d").glob("*")) if (_SOURCES / "sources.list.d").is_dir() else []
    for path in (_SOURCES / "sources.list", *parts):
        if not path.is_file():
            continue
        text = path.read_text("utf-8", "replace")
        if path.suffix == ".sources":
            stanzas = [
                stanza for stanza in re.split(r"\n\s*\n", text) if re.search(r"^URIs:.*/debian/?\s*$", stanza, re.M)
            ]
            kept = "\n\n".join(re.sub(r"^Types:.*$", "Types: deb-src", stanza, flags=re.M) for stanza in stanzas)
        else:
            lines = re.findall(r"^\s*deb\s+((?:\[[^\]]*\]\s+)?\S+/debian/?\s.*)$", text, re.M)
            kept = "\n".join(f"deb-src {line}" for line in lines)
        if kept:
            found["debian" + str(len(found)) + (path.suffix or ".list")] = kept + "\n"
    return found


def _unpack(archive: Path, tree: Path) -> None:
    """The files that the tests need, at the paths by which they import each other."""
    with tarfile.open(archive) as package:
        for member in package:
            name = member.name.partition("/")[2]
            if name not in _NEEDED:
                continue
            content = package.extractfile(member)
            assert content is not None
            target = tree / name.replace("src/python/grpcio_tests/", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
    (tree / "tests/__init__.py").write_text("", "utf-8")  # theirs imports their test runner
    missing = [name for name in _NEEDED if not (tree / name.replace("src/python/grpcio_tests/", "")).is_file()]
    if missing:
        raise FetchError(f"the source package no longer has {', '.join(missing)}")


def _make_stubs(tree: Path) -> None:
    protos = [f"{_PROTOS}{name}.proto" for name in ("empty", "messages", "test")]
    out = ["-I.", "--python_out=.", "--grpc_python_out=."]
    _run([sys.executable, "-m", "grpc_tools.protoc", *out, *protos], tree)


def _run(command: list[str], folder: Path) -> None:
    environment = os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise FetchError(f"{command[0]} did not end within {FETCH_S:g} s") from exc
    if done.returncode != 0:
        raise FetchError(
            f"{' '.join(command[:1] + command[-2:])} failed: {(done.stderr or done.stdout).strip()[-500:]}"
        )


if __name__ == "__main__":
    print(interop_tree())
