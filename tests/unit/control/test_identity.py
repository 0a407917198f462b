"""Getting an identity and keeping it fresh, on virtual time; a child process makes a real key in one test."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from certs.bundle import KeyRequest
from sidecar.control import messages as m
from sidecar.control.identity import IdentityKeeper, make_key_request
from sidecar.control.link import Trouble, TroubleError
from sidecar.transport.identity import Identity
from tests.support.fake_control_plane import FakeControlPlane
from tests.support.pki import HOUR_S, Pki, csr_pem, key_pem, new_key, pki


async def new_request() -> KeyRequest:
    key = new_key()
    return KeyRequest(key_pem(key), csr_pem(key))


class Fixture:
    """A keeper whose wall clock runs with trio's, and a control plane to sign."""

    def __init__(self, join_file: Path | None = None) -> None:
        self.fake = FakeControlPlane()
        self.fake.now_unix = self.now_unix
        self.start_s = trio.current_time()
        self.changes: list[Identity] = []
        self.complaints: list[Trouble] = []
        self.requests = 0
        self.keeper = IdentityKeeper(
            join_file,
            self.changes.append,
            self.complaints.append,
            rng=Random(1),
            now_unix=self.now_unix,
            make_request=self.make_request,
        )

    def now_unix(self) -> float:
        return pki().now_s + trio.current_time() - self.start_s

    async def make_request(self) -> KeyRequest:
        self.requests += 1
        return await new_request()

    def issue(self, csr: str) -> m.Cert:
        return self.fake.certify(csr, "shop", "orders")

    async def joins(self, question: m.Message) -> m.Message:
        """An `ask` that signs."""
        assert isinstance(question, m.Join)
        return self.issue(question.csr)

    def refuses(self, error: m.Error) -> Callable[[m.Message], Awaitable[m.Message]]:
        async def ask(question: m.Message) -> m.Message:
            return error

        return ask

    async def renewals(self, answer: Callable[[m.Renew], m.Cert | m.Error | None], for_s: float) -> list[float]:
        """Keep fresh for `for_s`; return when a renewal was asked for, in seconds from the start."""
        asked: list[float] = []

        async def send(message: m.Message) -> None:
            assert isinstance(message, m.Renew)
            asked.append(trio.current_time() - self.start_s)
            said = answer(message)
            if said is not None:
                self.keeper.answered(said)

        with trio.move_on_after(for_s):
            await self.keeper.keep_fresh(send)
        return asked


def join_file(folder: Path, token: str = "id1.secret") -> Path:
    return FakeControlPlane().write_join_file(folder / "join.pem", token)


async def test_the_child_makes_a_key_and_a_request() -> None:
    made = await make_key_request()
    cert = FakeControlPlane().certify(made.csr_pem.decode(), "shop", "orders")
    found = Identity.from_pem(cert.chain.encode(), made.key_pem, cert.bundle.encode())
    assert found.spiffe_id == "spiffe://mesh.local/ns/shop/sa/orders"


async def test_a_join_gives_an_identity_and_no_other_join_is_due(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    await here.keeper.join(here.joins, file)
    assert [each.spiffe_id for each in here.changes] == ["spiffe://mesh.local/ns/shop/sa/orders"]
    assert here.keeper.join_due() is None
    assert here.keeper.joined_with == file.digest


async def test_a_new_join_file_means_join_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    await here.keeper.join(here.joins, file)
    join_file(tmp_path, "id2.other")
    assert here.keeper.join_due() is not None


async def test_an_expired_identity_joins_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    here.keeper.restore(pki().identity(), file.digest)
    assert here.keeper.join_due() is None
    await trio.sleep(HOUR_S + 1)
    assert here.keeper.usable is None
    assert here.keeper.join_due() == file


async def test_a_final_refusal_is_remembered_until_there_is_a_new_file(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    refusal = m.Error(message="the join token was used once", hint="make a new one", final=True)
    for _ in range(2):
        with pytest.raises(TroubleError) as refused:
            await here.keeper.join(here.refuses(refusal), here.keeper.join_due() or file)
        assert refused.value.trouble == Trouble(
            "joining was refused: the join token was used once", "make a new one", final=True
        )
        with pytest.raises(TroubleError, match="used once; make a new one"):
            here.keeper.join_due()
        assert not here.keeper.join_file_changed()
    join_file(tmp_path, "id2.other")
    assert here.keeper.join_file_changed()


async def test_a_refused_new_file_leaves_the_old_identity_in_use(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(join_file(tmp_path))
    here.keeper.restore(pki().identity(), "another digest")
    file = here.keeper.join_due()
    assert file is not None
    with pytest.raises(TroubleError):
        await here.keeper.join(here.refuses(m.Error(message="no", final=True)), file)
    assert here.keeper.join_due() is None
    assert here.keeper.usable is not None


async def test_a_lost_answer_is_asked_for_again_with_the_same_request(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A token may be spent again for the same request only."""
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    asked: list[m.Message] = []

    async def silent(question: m.Message) -> m.Message:
        asked.append(question)
        await trio.sleep_forever()
        raise AssertionError

    for _ in range(2):
        with pytest.raises(TroubleError, match="did not answer the join within 15 s"):
            await here.keeper.join(silent, file)
    assert asked[0] == asked[1]
    assert here.requests == 1


async def test_without_a_way_to_an_identity_it_says_what_to_give(autojump_clock: MockClock, tmp_path: Path) -> None:
    with pytest.raises(TroubleError) as refused:
        Fixture().keeper.join_due()
    assert str(refused.value) == (
        "there is no identity and no join file to get one; "
        "give control_plane.join_file (meshctl token create makes one)"
    )
    assert refused.value.trouble.final
    with pytest.raises(TroubleError, match="there is no such file"):
        Fixture(tmp_path / "none").keeper.join_due()


async def test_an_identity_needs_no_join_file(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(tmp_path / "gone after the join")
    here.keeper.restore(pki().identity())
    assert here.keeper.join_due() is None
    assert "there is no such file" in str(here.keeper.trouble)
    assert here.complaints == [here.keeper.trouble]


@pytest.mark.parametrize("part", ["chain", "bundle"])
async def test_a_certificate_that_does_not_fit_is_refused(autojump_clock: MockClock, tmp_path: Path, part: str) -> None:
    here = Fixture(join_file(tmp_path))
    file = here.keeper.join_due()
    assert file is not None
    other = Pki("elsewhere.example")

    async def ask(question: m.Message) -> m.Message:
        assert isinstance(question, m.Join)
        wrong = (other.identity().chain_pem if part == "chain" else other.bundle_pem).decode()
        good = here.issue(question.csr)
        return replace(good, chain=wrong) if part == "chain" else replace(good, bundle=wrong)

    with pytest.raises(TroubleError, match="sent a certificate that cannot be used"):
        await here.keeper.join(ask, file)
    assert here.changes == []


async def test_a_certificate_that_has_expired_is_refused(autojump_clock: MockClock, tmp_path: Path) -> None:
    here = Fixture(join_file(tmp_path))
    here.fake.now_unix = lambda: pki().now_s - 2 * HOUR_S + 1  # its clock is two hours behind
    file = here.keeper.join_due()
    assert file is not None
    here.fake.life_s = HOUR_S
    with pytest.raises(TroubleError, match="has expired; compare the clocks"):
        await here.keeper.join(here.joins, file)


# -- renewal ---------------------------------------------------------------------------------------------------------


async def test_it_renews_at_about_half_of_each_life(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.restore(pki().identity())
    asked = await here.renewals(lambda renew: here.issue(renew.csr), 2.5 * HOUR_S)
    assert len(asked) in (4, 5)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert all(0.44 * HOUR_S < gap < 0.56 * HOUR_S for gap in gaps)
    assert here.changes[-1] is here.keeper.identity


async def test_a_life_shorter_than_the_backdating_is_renewed_at_its_half_too(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.fake.life_s = 20.0
    here.keeper.restore(pki().identity(life_s=20.0))
    asked = await here.renewals(lambda renew: here.issue(renew.csr), 60.0)
    assert 5 <= len(asked) <= 8


async def test_a_renewal_that_is_not_answered_is_tried_again_and_the_old_stays(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.restore(pki().identity())
    old = here.keeper.identity
    asked = await here.renewals(lambda _: None, HOUR_S - 30)
    assert here.keeper.identity is old
    assert len(asked) > 5
    assert here.requests == 1  # the same request again
    assert str(here.keeper.trouble) == "the control plane did not answer the renewal within 15 s"


async def test_a_refused_renewal_backs_off_and_ends_with_success(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.restore(pki().identity())
    answers: list[m.Error | None] = [m.Error(message="busy", hint="again")] * 3

    def answer(renew: m.Renew) -> m.Cert | m.Error | None:
        return answers.pop() if answers else here.issue(renew.csr)

    asked = await here.renewals(answer, 0.7 * HOUR_S)
    assert len(asked) == 4
    assert asked[3] - asked[0] < 10.0
    assert here.keeper.trouble is None


async def test_rotate_renews_within_the_spread(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.restore(pki().identity())
    async with trio.open_nursery() as nursery:

        async def rotate() -> None:
            await trio.sleep(5.0)
            here.keeper.rotate(m.Rotate(spread_s=10.0))

        nursery.start_soon(rotate)
        [asked_s] = await here.renewals(lambda renew: here.issue(renew.csr), 60.0)
    assert 5.0 <= asked_s <= 15.0


async def test_an_answer_that_nobody_waits_for_changes_nothing(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.restore(pki().identity())
    here.keeper.answered(here.issue((await new_request()).csr_pem.decode()))
    assert here.changes == []


async def test_new_roots_are_taken_if_our_certificate_holds_against_them(autojump_clock: MockClock) -> None:
    here = Fixture()
    here.keeper.take_bundle(m.Bundle(bundle="before any identity"))
    here.keeper.restore(pki().identity())
    other = Pki("mesh.local").bundle_pem
    here.keeper.take_bundle(m.Bundle(bundle=(pki().bundle_pem + other).decode()))
    assert here.keeper.identity is not None
    assert here.keeper.identity.bundle_pem == pki().bundle_pem + other
    with pytest.raises(TroubleError, match="sent roots that do not fit"):
        here.keeper.take_bundle(m.Bundle(bundle=other.decode()))
    assert len(here.changes) == 1
