"""SPIFFE IDs: what the standard allows, what it refuses, and that nothing has two spellings."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import names

TRUST_DOMAINS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=255)
SEGMENTS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=40).filter(
    lambda segment: segment not in (".", "..")
)


@given(TRUST_DOMAINS, st.lists(SEGMENTS, max_size=8))
def test_every_valid_id_is_read_and_printed_unchanged(trust_domain: str, segments: list[str]) -> None:
    text = "/".join([f"spiffe://{trust_domain}", *segments])
    parsed = names.parse(text)
    assert parsed.trust_domain == trust_domain
    assert parsed.path.split("/")[1:] == segments
    assert str(parsed) == text


@given(st.text(max_size=60) | st.text("spife:/.%?#@ab1_-\n\0A", max_size=60).map(lambda text: f"spiffe://{text}"))
def test_any_text_is_read_back_unchanged_or_refused(text: str) -> None:
    try:
        parsed = names.parse(text)
    except names.SpiffeIdError:
        return
    assert str(parsed) == text
    assert text == text.strip()
    assert not set("%?#@: \n\0") & set(text.removeprefix("spiffe:"))
    assert "//" not in parsed.path
    assert not parsed.path.endswith("/")


@given(TRUST_DOMAINS, SEGMENTS, SEGMENTS)
def test_an_svid_id_names_the_account_that_it_was_made_for(trust_domain: str, namespace: str, account: str) -> None:
    text = names.svid_id(trust_domain, namespace, account)
    assert text == f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
    assert names.parse(text).workload == (namespace, account)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not begin with spiffe://"),
        ("spiffe:/mesh.local/a", "does not begin with spiffe://"),
        ("SPIFFE://mesh.local/a", "does not begin with spiffe://"),
        ("https://mesh.local/a", "does not begin with spiffe://"),
        ("spiffe://", "is no trust domain"),
        ("spiffe:///a", "is no trust domain"),
        ("spiffe://Mesh.local/a", "is no trust domain"),
        ("spiffe://mesh.local:443/a", "is no trust domain"),
        ("spiffe://user@mesh.local/a", "is no trust domain"),
        ("spiffe://mesh%2elocal/a", "is no trust domain"),
        ("spiffe://mesh.local?a", "is no trust domain"),
        ("spiffe://mesh.lócal/a", "is no trust domain"),
        ("spiffe://mesh.local\n", "is no trust domain"),
        ("spiffe://" + "a" * 256 + "/a", "at most 255 bytes"),
        ("spiffe://mesh.local/", "has an empty part"),
        ("spiffe://mesh.local/a/", "has an empty part"),
        ("spiffe://mesh.local//a", "has an empty part"),
        ("spiffe://mesh.local/./a", "could mean another path"),
        ("spiffe://mesh.local/a/../b", "could mean another path"),
        ("spiffe://mesh.local/a%2fb", "a character that is not allowed"),
        ("spiffe://mesh.local/a?b", "a character that is not allowed"),
        ("spiffe://mesh.local/a#b", "a character that is not allowed"),
        ("spiffe://mesh.local/a\n", "a character that is not allowed"),
        ("spiffe://mesh.local/a\0", "a character that is not allowed"),
        ("spiffe://mesh.local/ä", "a character that is not allowed"),
        ("spiffe://mesh.local/" + "a" * 2048, "at most 2048 bytes"),
    ],
)
def test_what_the_standard_forbids_is_refused_with_the_rule(text: str, says: str) -> None:
    with pytest.raises(names.SpiffeIdError, match=says):
        names.parse(text)


def test_the_longest_id_is_allowed() -> None:
    longest = "spiffe://mesh.local/" + "a" * (2048 - len("spiffe://mesh.local/"))
    assert str(names.parse(longest)) == longest


@pytest.mark.parametrize(
    "path", ["", "/ns/shop", "/ns/shop/sa", "/sa/orders/ns/shop", "/ns/shop/sa/orders/x", "/x/ns/shop/sa/orders"]
)
def test_other_paths_name_no_account(path: str) -> None:
    assert names.parse(f"spiffe://mesh.local{path}").workload is None


@pytest.mark.parametrize(
    "parts",
    [
        ("Mesh", "shop", "orders"),
        ("mesh", "", "orders"),
        ("mesh", "shop", ""),
        ("mesh", "..", "orders"),
        ("mesh", "shop/sa/admin", "orders"),
        ("mesh", "shop", "orders/x"),
        ("mesh", "shop", "a b"),
        ("mesh", "s" * 1500, "o" * 1500),
    ],
)
def test_no_part_can_smuggle_another_part_in(parts: tuple[str, str, str]) -> None:
    with pytest.raises(names.SpiffeIdError):
        names.svid_id(*parts)


def test_control_plane_and_signer_have_fixed_ids() -> None:
    assert names.control_plane_id("mesh.local") == "spiffe://mesh.local/ns/mesh-system/sa/control-plane"
    assert names.parse(names.control_plane_id("mesh.local")).path == names.CONTROL_PLANE_PATH
    assert names.signer_id("mesh.local") == "spiffe://mesh.local"
    for make in (names.control_plane_id, names.signer_id):
        with pytest.raises(names.SpiffeIdError):
            make("Mesh")


def test_the_one_uri_is_found_beside_other_kinds_of_names() -> None:
    alternatives = (
        ("DNS", "orders.shop"),
        ("URI", "spiffe://mesh.local/ns/shop/sa/orders"),
        ("IP Address", "10.0.0.1"),
    )
    assert names.workload_id(alternatives).workload == ("shop", "orders")


@pytest.mark.parametrize(
    "alternatives", [(), None, (("DNS", "spiffe://mesh.local/a"),), (("URI", "spiffe://a/b"),) * 2]
)
def test_no_uri_or_two_are_refused(alternatives: object) -> None:
    with pytest.raises(names.SpiffeIdError, match="exactly one is needed"):
        names.workload_id(alternatives)
