"""Places and summaries of resources."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.commands.resources import place_of, summary
from control_plane.cli.complaint import USAGE, Complaint


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "place"),
    [
        ("route", "orders", None, ("HTTPRoute", None, "orders")),
        ("route", "orders", "shop", ("HTTPRoute", "shop", "orders")),
        ("route", "shop/orders", None, ("HTTPRoute", "shop", "orders")),
        ("route", "shop/orders", "shop", ("HTTPRoute", "shop", "orders")),
        ("HTTPRoute/shop/orders", None, None, ("HTTPRoute", "shop", "orders")),
        ("route/orders", None, "shop", ("HTTPRoute", "shop", "orders")),
        ("grpcroutes", "orders", "shop", ("GRPCRoute", "shop", "orders")),
        ("tcproute", "shop/db", None, ("TCPRoute", "shop", "db")),
        ("svc", None, "shop", ("Service", "shop", None)),
        ("svc", None, None, ("Service", None, None)),
    ],
)
def test_places_are_known_in_every_spelling(
    kind: str, name: str | None, namespace: str | None, place: tuple[str, str | None, str | None]
) -> None:
    assert place_of(kind, name, namespace) == place


@pytest.mark.parametrize(
    ("kind", "name", "namespace", "says"),
    [
        ("rout3", None, None, "unknown kind 'rout3'"),
        ("route", "shop/orders", "prod", "lies in namespace shop, but -n says prod"),
        ("route", "Orders", None, "'Orders' cannot be the name of a HTTPRoute"),
        ("route", "a/b/c", None, "'a/b' cannot be the name of a namespace"),
        ("route", "", None, "'' cannot be the name of a HTTPRoute"),
        ("svc", None, "..", "'..' cannot be the name of a namespace"),
    ],
)
def test_wrong_places_are_named(kind: str, name: str | None, namespace: str | None, says: str) -> None:
    with pytest.raises(Complaint) as refused:
        place_of(kind, name, namespace)
    assert says in refused.value.message
    assert refused.value.status == USAGE


PORTS = [{"port": 8080, "protocol": "http"}]


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("Service", {"ports": PORTS}, "8080/http"),
        ("Workload", {"service": "orders", "address": "10.0.0.5", "ports": PORTS}, "orders at 10.0.0.5:8080/http"),
        (
            "HTTPRoute",
            {"rules": [{"backendRefs": [{"name": "a", "weight": 90}, {"name": "b"}]}, {"backendRefs": []}]},
            "a=90, b=1; no backend",
        ),
        ("HTTPRoute", {"rules": [{"filters": [{"type": "RequestRedirect"}]}]}, "redirect"),
        ("GRPCRoute", {"rules": [{"backendRefs": [{"name": "a"}]}]}, "a=1"),
        ("TCPRoute", {"rules": [{"backendRefs": [{"name": "a"}]}]}, "a=1"),
        ("TLSRoute", {"hostnames": ["a.b", "*.c"], "rules": [{"backendRefs": [{"name": "a"}]}]}, "a.b, *.c: a=1"),
        ("TrafficPolicy", {"targetRefs": [{"kind": "Service", "name": "orders"}]}, "Service orders"),
        (
            "AuthorizationPolicy",
            {
                "targetRefs": [{"kind": "Service", "name": "orders"}],
                "allow": [{"from": {"services": ["frontend.shop"]}}],
            },
            "Service orders from frontend.shop",
        ),
        ("AuthorizationPolicy", {"targetRefs": [{"kind": "Service", "name": "orders"}]}, "Service orders from nobody"),
        ("Endpoints", {"endpoints": [{"ready": True}, {"ready": False}]}, "1 of 2 ready"),
        ("MeshPolicy", {"mtls": "strict"}, ""),
        ("Service", {"ports": "later forms are not understood"}, ""),
        ("Service", None, ""),
    ],
)
def test_a_resource_is_summed_up_in_a_few_words(kind: str, spec: Any, words: str) -> None:
    assert summary({"kind": kind, "spec": spec}) == words


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ports", "port", "rules", "backendRefs", "name", "allow", "from"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["Service", "Workload", "HTTPRoute", "TLSRoute", "AuthorizationPolicy", "Endpoints", "X"]),
    json_values,
)
def test_no_document_breaks_a_listing(kind: str, spec: Any) -> None:
    assert isinstance(summary({"kind": kind, "spec": spec}), str)
