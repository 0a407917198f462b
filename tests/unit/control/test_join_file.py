"""The join file: roots and token, or one line that names the file, the fault and the way out."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.join_file import MAX_BYTES, read_join_file
from sidecar.errors import ConfigError
from tests.support.fake_control_plane import TOKEN, FakeControlPlane
from tests.support.pki import pki

ROOT = pki().bundle_pem.decode()


def block(token: str = TOKEN) -> str:
    text = base64.b64encode(token.encode()).decode()
    return f"-----BEGIN MESH JOIN TOKEN-----\n{text}\n-----END MESH JOIN TOKEN-----\n"


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "join.pem"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


async def test_roots_and_token_are_read_and_the_token_is_not_shown(tmp_path: Path) -> None:
    found = read_join_file(FakeControlPlane().write_join_file(tmp_path / "join.pem"))
    assert found.token == TOKEN
    assert found.bundle_pem == pki().bundle_pem
    assert "secret" not in repr(found)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_owner_and_group_may_read_it(tmp_path: Path, mode: int) -> None:
    assert read_join_file(written(tmp_path, ROOT + block(), mode)).token == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, ROOT + block(), mode)
    with pytest.raises(ConfigError) as refused:
        read_join_file(path)
    assert str(refused.value) == (
        f"{path}: mode {mode:04o} lets others on this machine at the token; allowed is at most 0640: "
        f"chmod 600 {path} (Kubernetes: defaultMode: 0440)"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no root certificate in it"),
        (block(), "no root certificate in it"),
        (ROOT, "0 tokens in it where one is needed (-----BEGIN MESH JOIN TOKEN-----)"),
        (ROOT + block() + block(), "2 tokens in it where one is needed"),
        (ROOT + block("no dot"), "its token is damaged (the form is ID.SECRET"),
        (ROOT + block("a.b\n.c"), "its token is damaged"),
        (ROOT + block("é.b"), "its token is damaged"),
        (ROOT + block()[:-20], "has no END line; the text seems cut off"),
        (ROOT[:200], "has no END line; the text seems cut off"),
        ("x" * (MAX_BYTES + 1), f"larger than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_join_file_is_one_clear_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_join_file(path)
    [problem] = refused.value.problems
    assert problem.startswith(f"{path}: ")
    assert sentence in problem


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "join.pem"
    with pytest.raises(ConfigError) as refused:
        read_join_file(path)
    assert str(refused.value) == (
        f"{path}: there is no such file; make a new one: "
        f"meshctl token create --service SERVICE --namespace NAMESPACE --out {path}"
    )


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_join_file(tmp_path)


def test_another_token_or_root_gives_another_digest(tmp_path: Path) -> None:
    first = read_join_file(written(tmp_path, ROOT + block("a.b"))).digest
    assert read_join_file(written(tmp_path, ROOT + block("a.c"))).digest != first
    assert read_join_file(written(tmp_path, ROOT + ROOT + block("a.b"))).digest != first


@given(st.binary(max_size=200), st.integers(0, 1200))
def test_no_content_is_more_than_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    good = (ROOT + block()).encode()
    path = written(tmp_path_factory.getbasetemp(), good[:at] + noise + good[at:])
    try:
        found: object = read_join_file(path)
    except ConfigError as problem:
        found = str(problem)
    assert found
