"""Join tokens on a real store."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from control_plane.answers import Refused
from control_plane.store.contract import Store
from control_plane.store.sqlite import open_store
from control_plane.tokens import TokenError, Tokens
from tests.unit.control_plane.store.contract_suite import Clock, clock

__all__ = ["clock"]

ROOTS = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path, clock)
    yield opened
    await opened.aclose()


@pytest.fixture
def tokens(store: Store, clock: Clock) -> Tokens:
    return Tokens(store, clock)


async def made(tokens: Tokens, *, uses: int = 1, ttl_s: float = 60.0, account: str = "") -> str:
    token = await tokens.create(
        service="orders", namespace="shop", account=account, uses=uses, ttl_s=ttl_s, roots_pem=ROOTS
    )
    return text_of(token.join_file)


def text_of(join_file: str) -> str:
    """What a sidecar reads from the file."""
    roots, _, rest = join_file.partition("-----BEGIN MESH JOIN TOKEN-----\n")
    assert roots == ROOTS
    body, _, end = rest.partition("-----END MESH JOIN TOKEN-----")
    assert end == "\n"
    return base64.b64decode(body).decode()


async def test_a_token_lets_an_account_serve_a_service(tokens: Tokens) -> None:
    text = await made(tokens)
    assert await tokens.granted("shop", "orders") == frozenset()
    spent = await tokens.spend(text, b"csr")
    assert (spent.namespace, spent.account, spent.service) == ("shop", "orders", "orders")
    assert await tokens.granted("shop", "orders") == {"orders"}
    assert await tokens.granted("shop", "order") == frozenset()
    assert await tokens.granted("sho", "p") == frozenset()


async def test_an_account_may_be_granted_several_services(tokens: Tokens) -> None:
    await tokens.spend(await made(tokens, account="team"), b"csr")
    other = await tokens.create(service="stock", namespace="shop", account="team", uses=1, ttl_s=60.0, roots_pem=ROOTS)
    await tokens.spend(text_of(other.join_file), b"csr")
    assert await tokens.granted("shop", "team") == {"orders", "stock"}


async def test_the_store_does_not_hold_the_secret(tokens: Tokens, store: Store) -> None:
    _, _, secret = (await made(tokens)).partition(".")
    (entry,) = (await store.list("token/")).entries
    assert secret.encode() not in entry.value


async def test_a_used_token_says_so(tokens: Tokens) -> None:
    text = await made(tokens, uses=2)
    await tokens.spend(text, b"csr 1")
    await tokens.spend(text, b"csr 2")
    with pytest.raises(TokenError, match="used 2 times, as often as it may be") as refusal:
        await tokens.spend(text, b"csr 3")
    assert refusal.value.hint == "make a new one: meshctl token create --service orders --namespace shop"


async def test_the_same_request_may_be_signed_again(tokens: Tokens) -> None:
    text = await made(tokens)
    assert await tokens.spend(text, b"csr") == await tokens.spend(text, b"csr")


async def test_an_expired_token_says_so_for_a_day(tokens: Tokens, clock: Clock, store: Store) -> None:
    text = await made(tokens, ttl_s=60.0)
    clock.now_s += 60.0
    with pytest.raises(TokenError, match="has expired"):
        await tokens.spend(text, b"csr")
    clock.now_s += 86_400.0
    with pytest.raises(TokenError, match="not known here"):
        await tokens.spend(text, b"csr")
    assert await store.expire() == 1


@pytest.mark.parametrize("text", ["", ".", "a.b", "a/b.c", "x" * 5000, "\u00e9.\u00e9", "\ud800.\ud800", "../x.y"])
async def test_an_unknown_token_says_so(tokens: Tokens, text: str) -> None:
    with pytest.raises(TokenError, match="not known here"):
        await tokens.spend(text, b"csr")


async def test_a_wrong_secret_looks_like_an_unknown_token(tokens: Tokens) -> None:
    identifier, _, _ = (await made(tokens)).partition(".")
    with pytest.raises(TokenError, match="not known here"):
        await tokens.spend(f"{identifier}.wrong", b"csr")


async def test_a_token_is_never_spent_more_often_than_it_may(tokens: Tokens) -> None:
    text = await made(tokens, uses=3)
    results: list[bool] = []

    async def join(number: int) -> None:
        try:
            await tokens.spend(text, f"csr {number}".encode())
            results.append(True)
        except TokenError:
            results.append(False)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(join, number)
    assert sorted(results) == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"service": "Orders"}, "service: 'Orders' is not a name"),
        ({"namespace": "a/b"}, "namespace: 'a/b' is not a name"),
        ({"account": "-"}, "account: '-' is not a name"),
        ({"namespace": "mesh-system", "account": "control-plane"}, "is the control plane's own identity"),
        ({"namespace": "mesh-system", "service": "control-plane"}, "is the control plane's own identity"),
        ({"uses": 0}, "0 uses"),
        ({"uses": 1001}, "1001 uses"),
        ({"ttl_s": 0.5}, "a life of 0.5 s"),
        ({"ttl_s": float("nan")}, "a life of nan s"),
    ],
)
async def test_what_cannot_be_a_token_is_refused(tokens: Tokens, change: dict[str, str | int], message: str) -> None:
    asked = {"service": "orders", "namespace": "shop", "account": "", "uses": 1, "ttl_s": 60.0} | change
    with pytest.raises(Refused, match=message):
        await tokens.create(**asked, roots_pem=ROOTS)  # type: ignore[arg-type]  # a table of wrong values
