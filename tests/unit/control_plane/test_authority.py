"""Signing and renewal, with a clock that tests move."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509

from certs.ca import TrustDomainError
from certs.signer import DAY_S, ISSUER_LIFE_S
from control_plane import authority as module
from control_plane.authority import Authority, Bucket, SigningError, open_authority
from tests.net.stream_client import Keys
from tests.unit.control_plane.store.contract_suite import Clock

LIFE_S = 3_600.0


async def opened(
    path: Path, clock: Callable[[], float], name: str = "mesh.local", signed: list[int] | None = None
) -> Authority:
    def on_signed() -> None:
        if signed is not None:
            signed.append(1)

    return await open_authority(path, name, LIFE_S, on_signed=on_signed, clock=clock, rng=random.Random(1))


@pytest.fixture
def clock() -> Clock:
    made = Clock()
    made.now_s = 1_800_000_000.0
    return made


async def test_the_first_start_makes_the_trust_domain_and_later_ones_open_it(tmp_path: Path, clock: Clock) -> None:
    first = await opened(tmp_path / "trust", clock)
    second = await opened(tmp_path / "trust", clock)
    assert first.bundle_pem == second.bundle_pem
    assert (tmp_path / "trust").stat().st_mode & 0o777 == 0o700
    assert [row.kind for row in second.signers] == ["root", "issuer"]
    assert second.own.spiffe_id == "spiffe://mesh.local/ns/mesh-system/sa/control-plane"


async def test_another_name_than_the_one_there_is_refused(tmp_path: Path, clock: Clock) -> None:
    await opened(tmp_path, clock)
    with pytest.raises(TrustDomainError, match=r"is mesh\.local, not other\.example; start with --trust-domain mesh"):
        await opened(tmp_path, clock, "other.example")


async def test_a_request_is_signed_for_the_account_that_is_asked_for(tmp_path: Path, clock: Clock) -> None:
    signed: list[int] = []
    authority = await opened(tmp_path, clock, signed=signed)
    before = len(signed)
    issued = await authority.sign(Keys().csr.encode(), "shop", "orders")
    leaf = x509.load_pem_x509_certificate(issued.chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://mesh.local/ns/shop/sa/orders"]
    assert issued.not_after_s == clock.now_s + LIFE_S
    assert len(signed) == before + 1


@pytest.mark.parametrize("csr", [b"", b"junk", b"x" * 20_000])
async def test_a_bad_request_is_refused_with_what_is_wrong(tmp_path: Path, clock: Clock, csr: bytes) -> None:
    authority = await opened(tmp_path, clock)
    for attempt in (authority.check(csr), authority.sign(csr, "shop", "orders")):
        with pytest.raises(SigningError, match="the signing request") as refusal:
            await attempt
        assert not refusal.value.again


async def test_more_than_so_many_a_second_are_told_to_come_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIGN_BURST", 2.0)
    monkeypatch.setattr(module, "SIGN_PER_S", 0.001)
    authority = await opened(tmp_path, clock)
    csr = Keys().csr.encode()
    await authority.sign(csr, "shop", "orders")
    await authority.sign(csr, "shop", "orders")
    with pytest.raises(SigningError, match="certificates a second were asked for") as refusal:
        await authority.sign(csr, "shop", "orders")
    assert refusal.value.again


async def test_the_own_certificate_is_renewed_at_half_of_its_life(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    def clock() -> float:
        return 1_800_000_000.0 + autojump_clock.current_time()

    authority = await opened(tmp_path, clock)
    first, context = authority.own, authority.context
    async with trio.open_nursery() as nursery:
        nursery.start_soon(authority.keep_fresh, pytest.fail)
        await trio.sleep(LIFE_S * 0.39)
        unchanged = authority.own is first
        await trio.sleep(LIFE_S * 0.12)
        nursery.cancel_scope.cancel()
    assert unchanged
    assert authority.own.not_after_s > first.not_after_s
    assert authority.context is not context


async def test_the_issuer_is_renewed_before_it_ends(tmp_path: Path, clock: Clock) -> None:
    authority = await opened(tmp_path, clock)
    first_s = authority.issuer_ends_s
    clock.now_s += ISSUER_LIFE_S - 10 * DAY_S
    issued = await authority.sign(Keys().csr.encode(), "shop", "orders")
    assert authority.issuer_ends_s > first_s
    assert issued.not_after_s == clock.now_s + LIFE_S


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(99.0) is False  # a clock that goes back gives nothing
