"""What users read when the kernel, nft or their flags do not allow what they asked for."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.app import capture
from sidecar.cli import main
from sidecar.errors import ConfigError

FILE = """
node: {service: orders}
static: mesh.d
inbound: {mtls: off, ports: [{port: 8080}]%s}
outbound: {capture: true}
"""


def ran(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["capture", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_missing_nft_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(capture, "_SYSTEM_FOLDERS", ())
    assert ran("remove") == (1, "", "nft is not installed; install nftables (Debian: apt-get install nftables)\n")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'netlink: Error: cache initialization failed: Operation not permitted' >&2; exit 1",
            "the kernel lets only",
        ),
        (
            "echo 'Error: Could not process rule: No such file or directory' >&2; exit 1",
            "(needs Linux 5.2 with nf_tables",
        ),
        ("exit 3", "it gave no reason"),
    ],
)
def test_a_refusal_is_told_in_words_that_help(
    script: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nft = tmp_path / "nft"
    nft.write_text(f"#!/bin/sh\n{script}\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ConfigError) as caught:
        capture.transact("")
    assert said in str(caught.value)


def test_an_nft_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\nexec sleep 60\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(capture, "NFT_LIMIT_S", 0.2)
    with pytest.raises(ConfigError, match=r"did not end within 0\.2s"):
        capture.transact("")


def test_nfts_own_words_are_kept_short() -> None:
    assert len(capture.refusal_lines("line\n" * 500)) == 6


def test_users_and_groups_have_names_or_numbers() -> None:
    assert (capture.user_id("root"), capture.user_id("65532")) == (0, 65_532)
    assert (capture.group_id("root"), capture.group_id("7")) == (0, 7)
    for read in (capture.user_id, capture.group_id):
        with pytest.raises(ValueError, match="there is no"):
            read("no-such-one")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which connections are the sidecar's own? give --proxy-uid"),
        (("--proxy-uid", "7", "--only-uid", "7"), "the sidecar's own user must not be among the captured ones"),
        (("--no-outbound",), "nothing is to be captured"),
        (("--proxy-uid", "7", "--skip-outbound-ports", "http"), "'http' is not a port or a range of ports"),
        (("--proxy-uid", "7", "--skip-subnets", "10.0.0.1/8"), "it has bits beyond its prefix"),
        (("--proxy-uid", "nobody-here"), "there is no user 'nobody-here' on this machine"),
    ],
)
def test_flags_that_make_no_rules_are_usage_errors(words: tuple[str, ...], said: str) -> None:
    status, answer, complaint = ran("print", *words)
    assert (status, answer) == (2, "")
    assert said in complaint


def test_print_shows_what_flags_choose() -> None:
    status, rules, _ = ran(
        *("print", "--proxy-uid", "7", "--include-inbound-ports", "*", "--skip-inbound-ports", "22", "--no-ipv6"),
        *("--only-gid", "50", "--include-outbound-cidrs", "10.0.0.0/8,fd00::/8", "--outbound-port", "25001"),
    )
    assert status == 0
    assert "meta skgid != { 50 } accept" in rules
    assert "tcp dport { 22 } accept" in rules
    assert "ip daddr != { 10.0.0.0/8 } accept" in rules
    assert "redirect to :25001" in rules
    assert "meta nfproto ipv6 meta l4proto tcp redirect" not in rules


def test_a_file_says_what_and_flags_narrow_it(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(FILE % ", capture: true")
    status, rules, _ = ran("print", "-c", str(file), "--proxy-uid", "7", "--skip-outbound-ports", "5432")
    assert status == 0
    assert "tcp dport { 5432 } accept" in rules
    assert "tcp dport != { 8080 } accept" in rules
    _, fewer, _ = ran("print", "-c", str(file), "--no-outbound")
    assert "chain outbound" not in fewer
    assert "chain inbound" in fewer


def test_a_side_that_the_file_does_not_capture_cannot_be_captured(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(FILE % "")
    status, _, complaint = ran("print", "-c", str(file), "--proxy-uid", "7", "--include-inbound-ports", "8080")
    assert status == 2
    assert "does not say inbound.capture" in complaint
    status, _, complaint = ran("print", "-c", str(file), "--proxy-uid", "7", "--outbound-port", "1")
    assert (status, "-c has the listeners" in complaint) == (2, True)
    file.write_text("node: {service: orders}\nstatic: mesh.d\n")
    status, _, complaint = ran("print", "-c", str(file))
    assert (status, "captures nothing; write capture: true" in complaint) == (2, True)


def test_an_unusable_file_is_1_and_a_missing_one_2(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("outbound: {capture: maybe}\n")
    assert ran("apply", "-c", str(file))[0] == 1
    assert ran("apply", "-c", str(tmp_path / "none.yaml"))[0] == 2
