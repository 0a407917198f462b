"""`meshctl validate`: every problem, offline."""

from pathlib import Path

import pytest

from control_plane.cli.main import main

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 8080}]}\n"
ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: orders}]
  rules:
    - backendRefs:
        - {name: orders-v1, port: 8080, weight: 90}
"""


def run(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["validate", "-f", str(path)])
    got = capsys.readouterr()
    return status, got.out, got.err.replace(f"{path}", "FILE")


def test_good_files_are_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE)
    status, out, err = run(path, capsys)
    assert (status, out, err) == (0, f"{path}: 1 resource ok\n", "")


def test_an_unknown_key_is_told_with_place_and_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ROUTE.replace("weight", "wieght"))
    status, out, err = run(path, capsys)
    assert (status, out) == (1, "")
    first, last = err.splitlines()
    assert first.startswith(
        "FILE:8:41: spec.rules[0].backendRefs[0].wieght: unknown field 'wieght' (did you mean 'weight'?"
    )
    assert last == "error: 1 problem; nothing was sent anywhere"


def test_a_service_that_is_in_no_file_is_a_doubt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ROUTE)
    status, out, err = run(path, capsys)
    assert status == 79
    assert out == f"{path}: 1 resource ok\n"
    assert any(line.startswith("warning: FILE:8:") and "orders-v1" in line for line in err.splitlines())
