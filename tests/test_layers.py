"""Who may import whom: the contracts in pyproject.toml, and that they cover every package there is."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def contracts() -> list[dict[str, object]]:
    found: list[dict[str, object]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return found


def test_nobody_imports_what_stands_above() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [sys.executable, linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_of_the_sidecar_has_its_layer() -> None:
    layers = next(str(contract["layers"]) for contract in contracts() if contract["type"] == "layers")
    packages = {path.parent.name for path in (ROOT / "sidecar").glob("*/__init__.py")}

    assert packages
    assert {name for name in packages if f"sidecar.{name}" not in layers} == set()
