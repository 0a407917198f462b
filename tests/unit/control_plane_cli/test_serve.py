"""Settings of `control-plane serve`, and what is said when it cannot start."""

from pathlib import Path

import pytest

from certs.ca import TrustDomainError
from control_plane.api import listen
from control_plane.cli.complaint import FAILED, USAGE, Complaint, leaves
from control_plane.cli.serve import chosen, explained, main
from control_plane.cli.serve_file import ServeFile, parse_serve_file
from sidecar.errors import ConfigError

WHOLE = """\
data: ./data
trust_domain: prod.example
api: {listen: "[::1]:0", hosts: [Mesh.Internal], open_metrics: true}
streams: {listen: "0.0.0.0:15012", certificate_life: 12h}
"""


def test_every_field_is_read() -> None:
    assert parse_serve_file(WHOLE, "f") == ServeFile(
        data="./data",
        trust_domain="prod.example",
        api="[::1]:0",
        hosts=("mesh.internal",),
        open_metrics=True,
        streams="0.0.0.0:15012",
        certificate_life_s=43_200.0,
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "api: {}"])
def test_every_field_may_be_left_out(text: str) -> None:
    assert parse_serve_file(text, "f") == ServeFile()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apii: {}", "f:1:1: apii: unknown field 'apii' (did you mean 'api'? known: data, trust_domain, api, streams)"),
        ("api: {listen: 15010}", "f:1:15: api.listen: 15010 is not text here"),
        ("api: {listen: 'x:99999'}", "f:1:15: api.listen: "),
        ("trust_domain: A", "f:1:15: trust_domain: 'A' is no trust domain"),
        (
            "streams: {certificate_life: 1s}",
            "f:1:29: streams.certificate_life: '1s' is too short; at least 5m is needed",
        ),
        ("streams: {certificate_life: 999h}", "f:1:29: streams.certificate_life: 999h is too long"),
        ("api: {open_metrics: yes}", "f:1:21: api.open_metrics: 'yes' is a boolean to some YAML readers"),
        ("data: a\ndata: b", "f:2:1: data: field 'data' is there twice"),
        ("a: [", "is not valid YAML"),
        ("{}\n---\n{}", "f:3:1: document: is a second document; the file has one"),
    ],
)
def test_problems_are_told_with_their_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_serve_file(text, "f")
    assert any(line.startswith(says) or says in line for line in refused.value.problems), refused.value.problems


def test_flags_win_over_the_file_and_its_folder_counts(tmp_path: Path) -> None:
    path = tmp_path / "cp.yaml"
    path.write_text(WHOLE)
    settings = chosen(path, None, None, None, None)
    assert settings.data == tmp_path / "data"
    settings = chosen(path, Path("d"), "127.0.0.1:1", "127.0.0.1:2", "a.b")
    assert settings.data == Path("d")
    assert (settings.file.api, settings.file.streams, settings.file.trust_domain) == (
        "127.0.0.1:1",
        "127.0.0.1:2",
        "a.b",
    )
    assert settings.file.hosts == ("mesh.internal",)
    assert chosen(None, None, None, None, None).data == Path("mesh-data")


def test_flags_and_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff")
    (tmp_path / "bad").write_text("apii: {}")
    cases: list[tuple[Path | None, str | None, str, int]] = [
        (None, "x", "--api: 'x' is not an address", USAGE),
        (tmp_path / "none", None, "no such file or directory", USAGE),
        (tmp_path / "latin", None, "is not UTF-8 (byte 0)", USAGE),
        (tmp_path / "bad", None, "bad cannot be used", FAILED),
    ]
    for config, api, says, status in cases:
        with pytest.raises(Complaint) as refused:
            chosen(config, None, api, None, None)
        assert says in refused.value.message
        assert refused.value.status == status


def test_a_port_in_use_is_one_line_and_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    with listen.bind("127.0.0.1:0") as taken:
        address = listen.address_of(taken)
        assert main(["serve", "--data", str(data), "--api", address, "--listen", "127.0.0.1:0"]) == 1
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err == (
        f"error: cannot listen on {address}: address already in use\n"
        "hint: choose another with --api HOST:PORT (port 0 picks one)\n"
    )
    assert not data.exists()  # nothing was touched


def test_what_a_user_can_mend_is_told_apart_from_bugs() -> None:
    group = BaseExceptionGroup("", [ExceptionGroup("", [TrustDomainError("root.pem: damaged")])])
    assert str(explained(group, "127.0.0.1:1")) == "error: root.pem: damaged"
    assert (
        str(explained(OSError(28, "No space left on device", "d/mesh.db"), "127.0.0.1:1"))
        == "error: d/mesh.db: no space left on device"
    )
    assert explained(KeyError("x"), "127.0.0.1:1") is None
    assert explained(ExceptionGroup("", [ValueError("x")]), "127.0.0.1:1") is None
    assert [
        str(leaf) for leaf in leaves(ExceptionGroup("", [ValueError("a"), ExceptionGroup("", [ValueError("b")])]))
    ] == [
        "a",
        "b",
    ]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("control-plane ")
    assert main(["serve", "--help"]) == 0
    assert "--data DIR" in capsys.readouterr().out
    assert main(["serve", "--nothing"]) == 2
