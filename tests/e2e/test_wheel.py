"""The wheel in an empty environment outside the checkout, and `--help` that loads nothing heavy.

How long `--help` takes is printed, not asserted: a busy machine is not a slow program. What makes it slow is asserted
instead: the libraries that each cost a tenth of a second and that only running commands need.
"""

import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("sidecar", "control-plane", "meshctl")
HEAVY = ("cryptography", "httpx2", "starlette", "hypercorn", "google.protobuf")
_LIMIT_S = 300.0


def run(*argv: str | Path, cwd: Path) -> str:
    """Run to a good end; return stdout."""
    done = subprocess.run([str(part) for part in argv], cwd=cwd, capture_output=True, text=True, timeout=_LIMIT_S)
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of an environment that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    run(sys.executable, *pip, "wheel", ROOT, "--no-deps", "--wheel-dir", folder / "dist", cwd=folder)
    (wheel,) = (folder / "dist").iterdir()
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    run(folder / "venv/bin/python", *pip, "install", wheel, cwd=folder)
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_the_commands_of_the_wheel_answer_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    for command in COMMANDS:
        started_s = time.perf_counter()
        said = run(installed / command, "--help", cwd=tmp_path)
        print(f"{command} --help: {time.perf_counter() - started_s:.2f} s")
        assert "Usage" in said
        assert command in said


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_their_type_marks_only(installed: Path, tmp_path: Path) -> None:
    show = "import sidecar, control_plane, certs; print(*(m.__path__[0] for m in (sidecar, control_plane, certs)))"
    folders = [Path(text) for text in run(installed / "python", "-c", show, cwd=tmp_path).split()]

    assert all(ROOT not in folder.parents for folder in folders)
    assert all((folder / "py.typed").exists() for folder in folders)
    assert not {"tests", "bench", "demo"} & {path.name for path in folders[0].parent.iterdir()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    (script,) = entry_points(group="console_scripts", name=command)
    program = f"""
import sys
sys.argv = [{command!r}, "--help"]
from {script.module} import {script.attr}
try:
    {script.attr}()
except SystemExit as exit:
    assert exit.code in (0, None), exit.code
print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    last = run(sys.executable, "-c", program, cwd=tmp_path).splitlines()[-1]

    assert last == "LOADED"
