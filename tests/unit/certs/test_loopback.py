"""One's own identity, read by a handshake with oneself."""

import ssl
import subprocess
import sys

import pytest

from certs.loopback import IdentityError, load_pair, read_own_leaf, shake_hands
from tests.support import pki

GOOD = pki.identity("orders")


def test_it_says_who_we_are_and_how_long() -> None:
    leaf = read_own_leaf(GOOD.chain_pem, GOOD.key_pem, GOOD.bundle_pem)
    assert leaf == (GOOD.spiffe_id, GOOD.not_before_s, GOOD.not_after_s)


@pytest.mark.parametrize("kind", ["expired", "not yet valid"])
def test_times_are_told_and_not_judged(kind: str) -> None:
    bad = pki.bad_peer(kind)
    leaf = read_own_leaf(bad.chain_pem, bad.key_pem, bad.bundle_pem)
    assert (leaf.not_before_s, leaf.not_after_s) == (int(bad.not_before_s), int(bad.not_after_s))


# A certificate that says so itself is not ours to judge here: what makes it wrong is whom it meets.
KINDS = sorted(set(pki.BAD_PEERS) - {"expired", "not yet valid", "wrong trust domain"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_peers_would_refuse_is_refused_here_already(kind: str) -> None:
    bad = pki.bad_peer(kind)
    with pytest.raises(
        IdentityError, match=r"^the certificate (does not hold against the bundle|has|is|names|may|cannot|does)"
    ):
        read_own_leaf(bad.chain_pem, bad.key_pem, bad.bundle_pem)


@pytest.mark.parametrize(
    ("chain", "key", "bundle", "says"),
    [
        (GOOD.chain_pem, pki.key_pem(pki.new_key()), GOOD.bundle_pem, "the key does not belong to the certificate"),
        (b"nothing", GOOD.key_pem, GOOD.bundle_pem, "certificate or key cannot be used"),
        (GOOD.chain_pem, b"nothing", GOOD.bundle_pem, "certificate or key cannot be used"),
        (GOOD.chain_pem, GOOD.key_pem.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"), GOOD.bundle_pem, "key is encrypted"),
        (GOOD.chain_pem, GOOD.key_pem, b"", "the bundle holds no root certificate"),
        (GOOD.chain_pem, GOOD.key_pem, b"-----BEGIN CERTIFICATE-----", "the bundle of roots is damaged"),
        (
            GOOD.chain_pem,
            GOOD.key_pem,
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the bundle holds no root certificate that can be read",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(chain: bytes, key: bytes, bundle: bytes, says: str) -> None:
    with pytest.raises(IdentityError, match=says):
        read_own_leaf(chain, key, bundle)


def test_the_key_never_has_a_name_in_a_file_system() -> None:
    """The file behind the descriptor is in memory, and it is gone afterwards."""
    seen: list[str] = []

    class Watching(ssl.SSLContext):
        def load_cert_chain(self, certfile: object, keyfile: object = None, password: object = None) -> None:
            assert password == b""  # or OpenSSL would ask on the terminal
            seen.extend([str(certfile), str(keyfile)])

    load_pair(Watching(ssl.PROTOCOL_TLS_SERVER), GOOD.chain_pem, GOOD.key_pem)
    assert all(path.startswith("/proc/self/fd/") for path in seen)
    descriptors = [int(path.rsplit("/", 1)[1]) for path in seen]
    assert len(set(descriptors)) == 2


def test_a_handshake_that_cannot_end_is_given_up() -> None:
    class Waiting(ssl.SSLObject):
        def do_handshake(self) -> None:
            raise ssl.SSLWantReadError

    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname = False
    client.sslobject_class = server.sslobject_class = Waiting
    with pytest.raises(ssl.SSLError, match="does not come to an end"):
        shake_hands(client, server)


def test_no_x509_library_is_loaded() -> None:
    """It would cost the running sidecar 20 MB."""
    code = "import sys, sidecar.transport.tls; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=20).returncode == 0
