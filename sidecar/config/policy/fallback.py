"""`fallback` of a TrafficPolicy; document <-> model."""

import re

from sidecar.config import grammar
from sidecar.config.node import Json, Node
from sidecar.config.policy.headers import few
from sidecar.model.fallback import DEGRADED, Fallback

MAX_BODY = 4096  # it is in every sidecar's memory, and in every push
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}(; ?charset=[A-Za-z0-9-]{1,32})?")


def parse_fallback(node: Node) -> Fallback:
    """When, and what."""
    got = node.fields("statuses", "status", "contentType", "body")
    return Fallback(
        statuses=got.maybe("statuses", _statuses, DEGRADED),
        status=got.maybe("status", lambda field: field.integer(200, 599), 200),
        content_type=got.maybe("contentType", lambda field: field.parsed(_media_type, "", 164), "application/json"),
        body=got.need("body", "the text that is answered").text(MAX_BODY),
    )


def _statuses(node: Node) -> frozenset[int]:
    found = frozenset(item.integer(400, 599) for item in few(node))
    if not found and isinstance(node.value, list):
        node.complain("is an empty list; name a status, or leave the field out")
    return found


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"{grammar.shown(text)} is not a media type such as application/json")
    return text


def encode_fallback(fallback: Fallback) -> dict[str, Json]:
    """What `parse_fallback` reads."""
    return {
        "statuses": [*sorted(fallback.statuses)],
        "status": fallback.status,
        "contentType": fallback.content_type,
        "body": fallback.body,
    }
