"""The part that all kinds share: apiVersion, kind, metadata.

Fields that Kubernetes itself writes (`uid`, `managedFields`, `status`, ...) are accepted and ignored, so that the
output of `kubectl get -o yaml` can be used as it is.
"""

from dataclasses import dataclass

from sidecar.config import grammar
from sidecar.config.node import Json, Node

OWN_API = "sidecar-mesh.dev/v1alpha1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
GATEWAY_ALPHA = ("gateway.networking.k8s.io/v1alpha2", "gateway.networking.k8s.io/v1alpha3")  # same fields, older CRDs
DEFAULT_NAMESPACE = "default"

_FROM_KUBERNETES = (
    *("deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation", "managedFields"),
    *("ownerReferences", "resourceVersion", "selfLink", "uid"),
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Who a document is about."""

    namespace: str
    name: str
    labels: dict[str, str]
    created: str = ""


def read_metadata(node: Node, *, dotted: bool) -> Metadata:
    """The metadata of a document. `dotted` names may have dots; those of services may not, they are DNS labels."""
    got = node.fields("name", "namespace", "labels", "annotations", "creationTimestamp", ignored=_FROM_KUBERNETES)
    name = got.need("name", "the name of the object")
    namespace = got.maybe("namespace", Node.label, DEFAULT_NAMESPACE)
    created = got.get("creationTimestamp")
    return Metadata(
        namespace,
        name.parsed(grammar.parse_subdomain, "") if dotted else name.label(),
        got.maybe("labels", Node.labels, {}),
        "" if created is None or created.value is None else created.text(64),
    )


def document(api: str, kind: str, namespace: str, name: str, spec: dict[str, Json]) -> dict[str, Json]:
    """A document without labels; the twin of `read_metadata`."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
