"""Reading files: bounded, UTF-8, every problem of every file at once, and the right exit status."""

from pathlib import Path

import pytest

from sidecar.config.files import load, load_bootstrap, load_static_folder, read_text
from sidecar.config.report import check
from sidecar.config.yaml_text import MAX_TEXT_BYTES
from sidecar.errors import ConfigError, UnreadableError
from sidecar.model.clusters import PLAIN, EndpointSet, Mesh, ServiceKey
from sidecar.model.snapshot import Known

WORKLOAD = """
kind: Workload
metadata: {name: NAME, namespace: shop}
spec: {service: orders, address: 10.0.0.5, ports: [{port: 8080}], inbound: 15006}
"""


def folder(tmp_path: Path, **files: str) -> Path:
    made = tmp_path / "mesh.d"
    made.mkdir()
    for name, text in files.items():
        (made / f"{name}.yaml").write_text(text, "utf-8")
    return made


def test_a_folder_is_a_complete_snapshot(tmp_path: Path) -> None:
    path = folder(tmp_path, b=WORKLOAD.replace("NAME", "b"), a=WORKLOAD.replace("NAME", "a"))
    snapshot, warnings = load_static_folder(path, mesh=True)
    assert warnings == []
    assert snapshot.complete
    assert snapshot.knows(ServiceKey("shop", "stock")) is Known.ABSENT
    endpoints = snapshot.endpoints(ServiceKey("shop", "orders"))
    assert isinstance(endpoints, EndpointSet)
    assert [type(endpoint.hop) for endpoint in endpoints.endpoints] == [Mesh, Mesh]
    plain, _ = load_static_folder(path, mesh=False)
    found = plain.endpoints(ServiceKey("shop", "orders"))
    assert found is not None
    assert [endpoint.hop for endpoint in found.endpoints] == [PLAIN, PLAIN]


def test_all_files_are_reported_together_with_their_names(tmp_path: Path) -> None:
    path = folder(
        tmp_path, b="kind: Workload\n", a="a: [", c=WORKLOAD.replace("NAME", "x"), d=WORKLOAD.replace("NAME", "x")
    )
    with pytest.raises(ConfigError) as caught:
        load_static_folder(path, mesh=False)
    lines = caught.value.problems
    assert [Path(line.split(":")[0]).name for line in lines] == ["a.yaml", "b.yaml", "b.yaml", "d.yaml"]
    assert lines[-1].endswith(f"Workload/shop/x is there twice; the first is at {path}/c.yaml:2:1")


def test_what_is_no_folder_of_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        load_static_folder(tmp_path / "none", mesh=False)
    with pytest.raises(ConfigError, match=r"no \*\.yaml file is there"):
        load_static_folder(folder(tmp_path), mesh=False)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a: \xff\n", ":1:4: byte 0xff is not UTF-8 text; save the file as UTF-8"),
        (b"a: 1\nb: \xe9t\xe9\n", ":2:4: byte 0xe9 is not UTF-8 text; save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), ":1:1: byte 0xff is not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_bytes_that_are_no_text_have_a_place(tmp_path: Path, data: bytes, line: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    with pytest.raises(UnreadableError) as caught:
        read_text(path)
    assert str(caught.value) == f"{path}{line}"


def test_a_large_file_is_not_read_whole_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("# " + "é" * MAX_TEXT_BYTES, "utf-8")
    assert len(read_text(path)) <= MAX_TEXT_BYTES
    assert check(path, {}) == (
        1,
        [],
        [f"{path}:1:1: document: the text is larger than 1048576 bytes (1 MiB); split it into several files"],
    )


def test_a_folder_instead_of_a_file_is_unreadable(tmp_path: Path) -> None:
    assert check(tmp_path, {}) == (2, [], [f"{tmp_path}: Is a directory"])


def test_a_name_with_a_zero_byte_is_unreadable() -> None:
    status, answer, complaints = check("a\0b", {})
    assert (status, answer, len(complaints)) == (2, [], 1)


def test_the_bootstraps_own_problems_come_before_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("static: none\nworkers: 0\n", "utf-8")
    status, _, complaints = check(path, {})
    assert status == 1
    assert len(complaints) == 1
    assert "workers: 0 is not" in complaints[0]


def test_load_gives_the_snapshot_and_load_bootstrap_the_file_alone(tmp_path: Path) -> None:
    folder(tmp_path, a=WORKLOAD.replace("NAME", "a"))
    path = tmp_path / "s.yaml"
    path.write_text("static: mesh.d\n", "utf-8")
    loaded = load(path, {})
    assert loaded.snapshot is not None
    assert loaded.bootstrap.static == tmp_path / "mesh.d"
    assert load_bootstrap(path, {}) == (loaded.bootstrap, [])


def test_with_a_control_plane_there_is_no_snapshot_yet(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("node: {service: a}\ncontrol_plane: {address: 'a:1', join_file: j}\n", "utf-8")
    assert load(path, {}).snapshot is None
