"""Names as users type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.names import KINDS, checked_name, kind_of, service_key
from sidecar.model.clusters import ServiceKey


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_is_known_in_any_case_and_by_its_aliases(kind: str) -> None:
    for text in (kind, kind.lower(), kind.upper(), *KINDS[kind]):
        assert kind_of(text) == kind


def test_no_alias_means_two_kinds() -> None:
    words = [word for kind, aliases in KINDS.items() for word in (kind.lower(), *aliases)]
    assert len(words) == len(set(words))


def test_an_unknown_kind_names_the_nearest_or_all() -> None:
    with pytest.raises(Complaint) as near:
        kind_of("htproute")
    assert str(near.value) == "error: unknown kind 'htproute'\nhint: did you mean HTTPRoute?"
    assert near.value.status == USAGE
    with pytest.raises(Complaint, match="unknown kind 'zebra'") as far:
        kind_of("zebra")
    assert far.value.hint == "kinds: " + ", ".join(KINDS)


@pytest.mark.parametrize(
    ("text", "namespace", "key"),
    [
        ("orders", None, ("default", "orders")),
        ("orders", "shop", ("shop", "orders")),
        ("orders.shop", None, ("shop", "orders")),
        ("orders.shop", "shop", ("shop", "orders")),
        ("shop/orders", None, ("shop", "orders")),
        ("orders.shop.mesh", None, ("shop", "orders")),
        ("orders.shop.svc", None, ("shop", "orders")),
        ("orders.shop.svc.cluster.local", None, ("shop", "orders")),
        ("orders.shop.svc.cluster.local.", None, ("shop", "orders")),
    ],
)
def test_services_are_known_in_every_spelling(text: str, namespace: str | None, key: tuple[str, str]) -> None:
    assert service_key(text, namespace) == ServiceKey(*key)


@pytest.mark.parametrize(
    "text", ["", ".", "Orders", "orders.", "orders/", "/orders", "a.b.c", "a/b/c", "-a", "a_b", "é"]
)
def test_what_cannot_be_a_service_is_refused(text: str) -> None:
    if text == "orders.":  # a root's full stop is none of a name
        assert service_key(text, None) == ServiceKey("default", "orders")
        return
    with pytest.raises(Complaint, match="is not the name of a service") as refused:
        service_key(text, None)
    assert refused.value.status == USAGE


def test_two_namespaces_contradict() -> None:
    with pytest.raises(Complaint, match=r"'orders\.shop' lies in namespace shop, but -n says prod"):
        service_key("orders.shop", "prod")


@given(st.text(max_size=40), st.none() | st.just("shop"))
def test_any_text_is_a_key_or_a_complaint(text: str, namespace: str | None) -> None:
    try:
        key = service_key(text, namespace)
    except Complaint:
        return
    assert service_key(str(key), None) == key


def test_names_of_resources_may_have_dots() -> None:
    assert checked_name("a.b-1", "HTTPRoute") == "a.b-1"
    for wrong in ("", "A", "a..b", "a" * 64, ".".join(["a" * 60] * 5), "../x"):
        with pytest.raises(Complaint, match="cannot be the name of a HTTPRoute"):
            checked_name(wrong, "HTTPRoute")
