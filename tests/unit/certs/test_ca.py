"""The trust domain on disk: made once, opened as it was, repaired where that needs no judgement, else refused."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs import issue, names
from certs.ca import TrustDomain, TrustDomainError
from certs.files import alone_in
from certs.signer import BACKDATE_S, DAY_S, ISSUER_LIFE_S, ROOT_LIFE_S, make_issuer, make_root
from sidecar.transport.identity import Identity
from tests.support import pki

NOW_S = 1_800_000_000.0


@pytest.fixture
def domain(tmp_path: Path) -> TrustDomain:
    return TrustDomain.create(tmp_path / "ca", "mesh.local", NOW_S)


def key_usage(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


def uris(certificate: x509.Certificate) -> list[str]:
    names_of = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names_of.get_values_for_type(x509.UniformResourceIdentifier)


def test_root_and_issuer_are_signers_of_the_trust_domain(domain: TrustDomain) -> None:
    root, issuer = domain.root.certificate, domain.issuer.certificate
    root.verify_directly_issued_by(root)
    issuer.verify_directly_issued_by(root)
    for certificate, path_length in ((root, 1), (issuer, 0)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
        assert (key_usage(certificate).key_cert_sign, key_usage(certificate).digital_signature) == (True, False)
        assert uris(certificate) == ["spiffe://mesh.local"]
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_lives_are_ten_years_and_ninety_days_with_five_minutes_before(domain: TrustDomain) -> None:
    for signer, life_s in ((domain.root, ROOT_LIFE_S), (domain.issuer, ISSUER_LIFE_S)):
        assert signer.not_after_s == NOW_S + life_s
        assert signer.certificate.not_valid_before_utc.timestamp() == NOW_S - BACKDATE_S


def test_keys_are_closed_to_others_and_hidden_from_repr(domain: TrustDomain) -> None:
    assert stat.S_IMODE(domain.directory.stat().st_mode) == 0o700
    for name in ("root.key", "issuer.key"):
        assert stat.S_IMODE((domain.directory / name).stat().st_mode) == 0o600
    assert "key" not in repr(domain.root)
    assert sorted(path.name for path in domain.directory.iterdir()) == [
        "issuer.key",
        "issuer.pem",
        "root.key",
        "root.pem",
    ]


def test_opening_gives_what_was_made(domain: TrustDomain) -> None:
    opened = TrustDomain.open(domain.directory, NOW_S)
    assert (opened.name, opened.root.pem, opened.issuer.pem) == ("mesh.local", domain.root.pem, domain.issuer.pem)
    assert opened.issuer.key_pem == domain.issuer.key_pem
    assert opened.bundle_pem == domain.root.pem


def test_a_trust_domain_is_never_overwritten(domain: TrustDomain) -> None:
    with pytest.raises(TrustDomainError, match="there is a trust domain already"):
        TrustDomain.create(domain.directory, "mesh.local", NOW_S)


def test_a_creation_that_was_cut_off_starts_afresh(domain: TrustDomain) -> None:
    (domain.directory / "root.pem").unlink()
    again = TrustDomain.create(domain.directory, "mesh.local", NOW_S)
    assert again.root.pem != domain.root.pem
    assert TrustDomain.open(domain.directory, NOW_S).root.pem == again.root.pem


def test_a_bad_name_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrustDomainError, match="'Mesh' is no trust domain"):
        TrustDomain.create(tmp_path / "ca", "Mesh", NOW_S)
    assert not (tmp_path / "ca").exists()


def test_a_long_name_fits(tmp_path: Path) -> None:
    name = "a" * 255
    assert TrustDomain.create(tmp_path, name, NOW_S).name == TrustDomain.open(tmp_path, NOW_S).name == name


def test_the_issuer_is_due_when_a_third_of_its_life_is_left(domain: TrustDomain) -> None:
    assert not domain.issuer_is_due(NOW_S + 59 * DAY_S)
    assert domain.issuer_is_due(NOW_S + 60 * DAY_S)


def test_a_renewed_issuer_is_another_one_of_the_same_root_and_on_disk(domain: TrustDomain) -> None:
    old = domain.issuer
    domain.renew_issuer(NOW_S + 60 * DAY_S)
    assert domain.issuer.key_pem != old.key_pem
    domain.issuer.certificate.verify_directly_issued_by(domain.root.certificate)
    assert not domain.issuer_is_due(NOW_S + 61 * DAY_S)
    assert TrustDomain.open(domain.directory, NOW_S).issuer.pem == domain.issuer.pem


def test_an_issuer_never_outlives_its_root() -> None:
    root = make_root("mesh.local", NOW_S)
    assert make_issuer(root, "mesh.local", NOW_S + ROOT_LIFE_S - DAY_S).not_after_s == root.not_after_s


@pytest.mark.parametrize("damage", ["no certificate", "no key", "garbage", "pair of a crash", "of another root"])
def test_a_damaged_issuer_is_made_anew(domain: TrustDomain, damage: str) -> None:
    other = make_issuer(domain.root, "mesh.local", NOW_S)
    match damage:
        case "no certificate":
            (domain.directory / "issuer.pem").unlink()
        case "no key":
            (domain.directory / "issuer.key").unlink()
        case "garbage":
            (domain.directory / "issuer.pem").write_bytes(b"-----BEGIN")
        case "pair of a crash":  # the key is written first
            (domain.directory / "issuer.key").write_bytes(other.key_pem)
        case _:
            stranger = make_issuer(make_root("mesh.local", NOW_S), "mesh.local", NOW_S)
            (domain.directory / "issuer.key").write_bytes(stranger.key_pem)
            (domain.directory / "issuer.pem").write_bytes(stranger.pem)
    opened = TrustDomain.open(domain.directory, NOW_S)
    opened.issuer.certificate.verify_directly_issued_by(domain.root.certificate)
    assert opened.issuer.pem != domain.issuer.pem
    assert TrustDomain.open(domain.directory, NOW_S).issuer.pem == opened.issuer.pem


def test_an_expired_issuer_is_made_anew_at_opening(domain: TrustDomain) -> None:
    later_s = NOW_S + ISSUER_LIFE_S + DAY_S
    assert TrustDomain.open(domain.directory, later_s).issuer.not_after_s == later_s + ISSUER_LIFE_S


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("root.pem", None, r"root\.pem: cannot read \(No such file"),
        ("root.pem", b"nothing", r"root\.pem: no certificate in PEM form"),
        ("root.key", None, r"root\.key: cannot read \(No such file"),
        ("root.key", b"nothing", r"root\.key: no private key in PEM form"),
        ("root.key", pki.key_pem(pki.new_key()), r"root\.key: not the key of the certificate beside it"),
    ],
)
def test_a_damaged_root_is_never_replaced(domain: TrustDomain, name: str, content: bytes | None, says: str) -> None:
    path = domain.directory / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(TrustDomainError, match=says) as refused:
        TrustDomain.open(domain.directory, NOW_S)
    assert "PRIVATE" not in str(refused.value)


def test_an_expired_root_is_refused(domain: TrustDomain) -> None:
    with pytest.raises(TrustDomainError, match="the root expired at"):
        TrustDomain.open(domain.directory, NOW_S + ROOT_LIFE_S)


@pytest.mark.parametrize("alternatives", [(), ("spiffe://a", "spiffe://b"), ("https://mesh.local",)])
def test_a_root_that_names_no_trust_domain_is_refused(domain: TrustDomain, alternatives: tuple[str, ...]) -> None:
    with pytest.raises(TrustDomainError, match="exactly one SPIFFE ID"):
        domain.trust_also(pki.pki().forged(pki.Leaf(uris=alternatives, self_signed=True)).chain_pem)


def test_a_workload_is_not_taken_for_a_root(domain: TrustDomain) -> None:
    with pytest.raises(TrustDomainError, match="names a workload"):
        domain.trust_also(pki.identity().chain_pem)


def test_a_second_root_is_trusted_beside_the_first_which_goes_on_signing(domain: TrustDomain) -> None:
    second = make_root("mesh.local", NOW_S)
    for _ in range(2):
        domain.trust_also(second.pem + domain.root.pem)
    assert domain.bundle_pem == domain.root.pem + second.pem
    opened = TrustDomain.open(domain.directory, NOW_S)
    assert opened.bundle_pem == domain.bundle_pem
    assert opened.root.pem == domain.root.pem


@pytest.mark.parametrize(
    ("pem", "says"),
    [(make_root("other", NOW_S).pem, "is not of mesh.local"), (b"nothing", "no certificate in PEM form")],
)
def test_what_is_no_root_of_this_trust_domain_is_not_trusted(domain: TrustDomain, pem: bytes, says: str) -> None:
    with pytest.raises(TrustDomainError, match=says):
        domain.trust_also(pem)
    assert domain.bundle_pem == domain.root.pem


def test_a_leaf_of_an_old_issuer_stays_good_after_renewal(tmp_path: Path) -> None:
    """It carries its issuer along; only the root is trusted."""
    now_s = pki.pki().now_s
    domain = TrustDomain.create(tmp_path, "mesh.local", now_s)
    key = pki.new_key()
    old = issue.issue(domain.issuer, pki.csr_pem(key), names.svid_id("mesh.local", "shop", "orders"), now_s)
    domain.renew_issuer(now_s)
    assert domain.issuer.pem not in old.chain_pem
    assert Identity.from_pem(old.chain_pem, pki.key_pem(key), domain.bundle_pem).spiffe_id == old.spiffe_id


def test_two_processes_do_not_change_it_at_once(domain: TrustDomain) -> None:
    with alone_in(domain.directory), pytest.raises(TrustDomainError, match="another process is changing"):
        domain.renew_issuer(NOW_S)


def test_a_disk_that_refuses_is_named_and_changes_nothing(domain: TrustDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = domain.issuer
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrustDomainError, match="cannot write \\(No space left on device"):
        domain.renew_issuer(NOW_S)
    assert domain.issuer is before
