"""The small languages of values: what they take, what they refuse, and that writing and reading agree."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import grammar
from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import ServiceKey


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("250ms", 0.25),
        ("3s", 3.0),
        ("1m30s", 90.0),
        ("1h30m", 5400.0),
        ("1h1m1s1ms", 3661.001),
        ("5m5m", 600.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert grammar.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "3", "1.5s", "-1s", "1 s", "s", "1d", "123456s", "1s\n", "1h1m1s1ms1s", "99999h1s", "١s", "1S"],
)
def test_what_gateway_api_does_not_call_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        grammar.parse_duration(text)


@given(st.integers(0, 99_999 * 3_600_000))
def test_a_duration_is_read_back_as_written(ms: int) -> None:
    assert grammar.parse_duration(grammar.format_duration(ms / 1000)) == ms / 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("65536", 65_536), ("64Ki", 65_536), ("1Mi", 1_048_576), ("500k", 500_000), ("1G", 10**9)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert grammar.parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "64KB", "1.5Mi", "-1", "1m", "64 Ki", "Ki", "1" * 16])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size"):
        grammar.parse_quantity(text)


@given(st.integers(0, 2**49))
def test_a_size_is_read_back_as_written(size: int) -> None:
    assert grammar.parse_quantity(grammar.format_quantity(size)) == size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", HostPort("127.0.0.1", 8080)),
        ("orders.shop.svc:80", HostPort("orders.shop.svc", 80)),
        ("my_app:80", HostPort("my_app", 80)),
        ("[::1]:8080", HostPort("::1", 8080)),
        ("[2001:DB8:0::5]:8080", HostPort("2001:db8::5", 8080)),
    ],
)
def test_addresses_are_read(text: str, expected: HostPort) -> None:
    assert grammar.parse_host_port(text) == expected
    assert grammar.parse_host_port(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            "8080",
            ":8080",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:8_0",
            "host:８０",
            "::1:8080",
        ),
        *("[::1]", "[::1", "[::g]:80", "1.2.3:80", "256.1.1.1:80", "a b:80", "-a:80", "[]:80", "http://a:80"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an? (address|IP address|host name)"):
        grammar.parse_host_port(text)


def test_port_0_is_for_listeners_only() -> None:
    assert grammar.parse_host_port("127.0.0.1:0", lowest_port=0) == HostPort("127.0.0.1", 0)


def test_a_service_without_namespace_is_in_the_readers_own() -> None:
    assert grammar.parse_service("orders", "shop") == ServiceKey("shop", "orders")
    assert grammar.parse_service("stock.store", "shop") == ServiceKey("store", "stock")


@pytest.mark.parametrize("text", ["", ".", "a.", ".b", "a.b.c", "A", "a_b", "a.B"])
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a service such as"):
        grammar.parse_service(text, "shop")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://A/b",
            "spiffe://a/b/../c",
            "spiffe://a//b",
            "spiffe://a/*",
        ),
        *("https://a/b", "spiffe://a/b?c", "spiffe://" + "a" * 256 + "/b", "spiffe://a/" + "b" * 2048),
    ],
)
def test_what_is_no_exact_spiffe_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"exact SPIFFE ID"):
        grammar.parse_spiffe_id(text)


def test_the_meshs_own_identities_are_spiffe_ids() -> None:
    made = grammar.spiffe_id("mesh.local", "shop", "orders")
    assert made == "spiffe://mesh.local/ns/shop/sa/orders"
    assert grammar.parse_spiffe_id(made) == made


@pytest.mark.parametrize(
    "parse",
    [
        grammar.parse_duration,
        grammar.parse_quantity,
        grammar.parse_host_port,
        grammar.parse_host,
        grammar.parse_label,
        grammar.parse_subdomain,
        grammar.parse_label_value,
        grammar.parse_spiffe_id,
        grammar.parse_trust_domain,
        lambda text: grammar.parse_service(text, "shop"),
    ],
)
@given(text=st.one_of(st.text(max_size=300), st.from_regex(r"[0-9a-z.:\[\]/%-]{0,40}", fullmatch=True)))
def test_any_text_is_a_value_or_one_printable_line(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as refusal:
        line = str(refusal)
        assert "\n" not in line
        assert len(line) < 300
