"""Names of the mesh are understood, everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ServiceKey
from sidecar.routing.hosts import resolve

ORDERS = ServiceKey("shop", "orders")


def ask(authority: bytes, default_port: int = 80) -> tuple[ServiceKey, int | None] | None:
    return resolve(authority, default_namespace="home", default_port=default_port)


@pytest.mark.parametrize("name", [b"orders.shop", b"orders.shop.mesh", b"orders.shop.svc.cluster.local"])
@pytest.mark.parametrize("dot", [b"", b"."])
@pytest.mark.parametrize(("port", "number"), [(b"", 80), (b":8080", 8080), (b":1", 1), (b":65535", 65535)])
def test_every_form_of_a_name_is_the_same_service(name: bytes, dot: bytes, port: bytes, number: int) -> None:
    assert ask(name + dot + port) == (ORDERS, number)
    assert ask(name.upper() + dot + port) == (ORDERS, number)


@pytest.mark.parametrize("authority", [b"orders", b"Orders", b"orders.", b"orders:80", b"orders.:80"])
def test_a_bare_name_is_in_the_callers_namespace(authority: bytes) -> None:
    assert ask(authority) == (ServiceKey("home", "orders"), 80)


def test_without_a_default_port_the_caller_decides() -> None:
    assert ask(b"orders.shop", default_port=0) == (ORDERS, None)
    assert ask(b"orders.shop:8080", default_port=0) == (ORDERS, 8080)


def test_labels_may_have_digits_and_hyphens_and_63_characters() -> None:
    assert ask(b"orders-v1.shop") == (ServiceKey("shop", "orders-v1"), 80)
    assert ask(b"0.9") == (ServiceKey("9", "0"), 80)
    long = b"a" * 63
    assert ask(long + b"." + long + b".svc.cluster.local.:65535") == (ServiceKey("a" * 63, "a" * 63), 65535)


@pytest.mark.parametrize(
    "authority",
    [
        b"", b".", b":80", b"orders:", b"orders:0", b"orders:65536", b"orders:999999", b"orders:-1", b"orders:80a",
        b"orders: 80", b"orders..shop", b".orders", b"orders..", b"orders.shop.example.com",
        b"example.co.uk", b"orders.svc.cluster.local", b"orders.shop.svc", b"orders.shop.cluster.local",
        b"orders.shop.mesh.mesh", b"orders.shop.mesh.svc.cluster.local", b"10.0.0.5", b"127.0.0.1:80", b"[::1]",
        b"[::1]:80", b"user@orders", b"orders/x", b"orders shop", b" orders", b"orders\n", b"orders\0", b"or_ders",
        b"-orders", b"orders-", b"orders.-shop", b"*", b"*.shop", b"a" * 64, b"a." + b"b" * 64, b"x" * 5000,
        "b\u00fccher".encode(), "\u212aube".encode(),
    ],
)  # fmt: skip
def test_other_hosts_are_refused(authority: bytes) -> None:
    assert ask(authority) is None


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(
    name=LABELS,
    namespace=LABELS,
    suffix=st.sampled_from(["", ".mesh", ".svc.cluster.local"]),
    dot=st.sampled_from(["", "."]),
    port=st.one_of(st.none(), st.integers(1, 65535)),
)
def test_what_is_put_together_comes_apart_again(
    name: str, namespace: str, suffix: str, dot: str, port: int | None
) -> None:
    authority = f"{name}.{namespace}{suffix}{dot}" + (f":{port}" if port else "")
    assert ask(authority.encode()) == (ServiceKey(namespace, name), port or 80)


@given(authority=st.binary(max_size=200))
def test_no_bytes_raise_and_a_service_has_plain_labels_only(authority: bytes) -> None:
    found = ask(authority)
    if found is not None:
        key, port = found
        assert all(part.replace("-", "").isalnum() and part.isascii() and len(part) <= 63 for part in key)
        assert port is not None
        assert 0 < port < 65536
