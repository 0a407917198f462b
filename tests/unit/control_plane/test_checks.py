"""The lines of `meshctl check`."""

import dataclasses

from control_plane.answers import CertificateRow, CheckLine, RejectedResource, SidecarRow
from control_plane.checks import DAY_S, sidecar_lines, signer_lines

NOW_S = 1_000_000.0
FINE = SidecarRow(
    node="shop/orders-1",
    service="orders",
    version="v1",
    account="orders",
    address="10.0.0.1",
    sidecar_version="0.1.0",
    connected=True,
    ready=True,
    registered=True,
    applied=7,
    latest=7,
    in_sync=True,
    rejected=(),
    lease_left_s=25.0,
    held=False,
    config_age_s=1.0,
    cert_not_after_s=NOW_S + 80_000.0,
)


def bad(*rows: SidecarRow) -> list[CheckLine]:
    return [line for line in sidecar_lines(rows, NOW_S) if not line.ok]


def changed(**fields: object) -> SidecarRow:
    return dataclasses.replace(FINE, **fields)  # type: ignore[arg-type]  # fields by name


def test_a_healthy_mesh_has_no_complaint() -> None:
    assert bad(FINE, changed(node="shop/orders-2")) == []
    assert bad() == []


def test_each_trouble_is_one_line_with_its_node_and_a_hint() -> None:
    rejected = (RejectedResource("shop/orders-1", "HTTPRoute/shop/orders", 7, "unknown kind of match"),)
    for row, cause in [
        (changed(connected=False), "shop/orders-1"),
        (changed(in_sync=False), "shop/orders-1"),
        (changed(rejected=rejected), "shop/orders-1: HTTPRoute/shop/orders: unknown kind of match"),
        (changed(ready=False), "shop/orders-1"),
        (changed(held=True), "shop/orders-1"),
        (changed(cert_not_after_s=NOW_S + 60.0), "shop/orders-1"),
    ]:
        (line,) = bad(row)
        assert line.cause == cause
        assert line.hint


def test_many_nodes_are_not_all_listed() -> None:
    (line,) = bad(*(changed(node=f"shop/n{number}", connected=False) for number in range(9)))
    assert line.what == "0 of 9 sidecars are connected"
    assert line.cause == "shop/n0, shop/n1, shop/n2, shop/n3, shop/n4, and 4 more"


def test_certificates_that_end_soon() -> None:
    def row(kind: str, left_s: float) -> CertificateRow:
        return CertificateRow(kind, kind, "spiffe://mesh.local", 0.0, NOW_S + left_s)

    lines = signer_lines([row("root", 200 * DAY_S), row("issuer", 2 * DAY_S), row("control-plane", -1.0)], NOW_S)
    assert [(line.what, line.ok, line.cause) for line in lines] == [
        ("root certificate is valid for 200 days", True, ""),
        ("issuer certificate is valid", False, "ends in 2 days"),
        ("control-plane certificate is valid", False, "has expired"),
    ]
