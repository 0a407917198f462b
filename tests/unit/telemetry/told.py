"""Requests, endpoints and names that the telemetry tests tell about."""

from typing import Any

from sidecar.model.clusters import ClusterKey, Endpoint, Mesh, ServiceKey
from sidecar.telemetry.observer import DESTINATION, SOURCE, RequestDone

ORDERS = ServiceKey("shop", "orders")
ORDERS_V1 = ClusterKey(ServiceKey("shop", "orders-v1"), 8080)
FRONTEND_ID = "spiffe://mesh.local/ns/shop/sa/frontend"
ORDERS_ID = "spiffe://mesh.local/ns/shop/sa/orders"
ORDERS_1 = Endpoint(
    id="orders-1",
    service_port=8080,
    host="10.0.0.5",
    port=15006,
    version="v1",
    hop=Mesh("8080.orders.shop.mesh", frozenset({ORDERS_ID})),
)


def done(**changed: Any) -> RequestDone:
    """A request that went well, seen by the caller's sidecar."""
    values: dict[str, Any] = {
        "reporter": SOURCE,
        "started_s": 100.0,
        "ended_s": 100.012,
        "method": b"GET",
        "target": b"/orders/7?full=1",
        "authority": b"orders.shop",
        "route": "shop/orders/canary",
        "service": ORDERS,
        "cluster": ORDERS_V1,
        "endpoint": ORDERS_1,
        "status": 200,
        "attempts": 1,
        "tried": ("orders-1",),
        "bytes_sent": 80,
        "downstream_peer": "127.0.0.1:50000",
        "principal": ORDERS_ID,
        "tls": True,
    }
    return RequestDone(**(values | changed))


def inbound(**changed: Any) -> RequestDone:
    """The same request, seen by the sidecar of the app."""
    app = Endpoint(id="app", service_port=8080, host="127.0.0.1", port=8080)
    cluster = ClusterKey(ORDERS, 8080)
    return done(**({"reporter": DESTINATION, "cluster": cluster, "endpoint": app, "principal": FRONTEND_ID} | changed))
