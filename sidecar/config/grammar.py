"""The small languages inside values: durations, sizes, names, addresses, identities.

Each `parse` function takes text and returns a value, or raises `ValueError` with the sentence that users read: what is
wrong and what is allowed. Their `format` twins write the canonical text back. `node.py` adds file, line and path.
"""

import ipaddress
import re

from sidecar.model.bootstrap import HostPort
from sidecar.model.clusters import ServiceKey

_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")  # Gateway API, GEP-2257
_DURATION_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_MAX_DURATION_MS = 99_999 * 3_600_000  # one part of hours, so that four parts always write any duration
_QUANTITY = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|k|M|G)?")
_UNIT_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[-A-Za-z0-9_.]{0,251}[A-Za-z0-9_.])?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")


def shown(text: object) -> str:
    """`text` quoted for a message: one line, control characters escaped, at most about 60 characters."""
    quoted = repr(text)
    return quoted if len(quoted) <= 64 else f"{quoted[:56]}...{quoted[-1:]}"


def parse_duration(text: str) -> float:
    """Seconds of `1h30m`, `250ms`; Gateway API's grammar: whole numbers of h, m, s and ms, at most four parts."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a duration such as 250ms, 3s or 1m30s (no fractions, no blanks)")
    total_ms = sum(int(count) * _UNIT_MS[unit] for count, unit in _DURATION_PART.findall(text))
    if total_ms > _MAX_DURATION_MS:
        raise ValueError(f"{shown(text)} is longer than 99999h, the longest duration there is")
    return total_ms / 1000


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back to the millisecond."""
    rest_ms = round(seconds * 1000)
    parts = []
    for unit, unit_ms in _UNIT_MS.items():
        count, rest_ms = divmod(rest_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_quantity(text: str) -> int:
    """Bytes of `64Ki`, `1Mi`, `500k`, `65536`; whole numbers only."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a size such as 65536, 64Ki or 1Mi (no fractions, no blanks)")
    return int(match[1]) * _UNIT_BYTES[match[2] or ""]


def format_quantity(size_bytes: int) -> str:
    """The text with the largest binary unit that divides `size_bytes`."""
    for unit in ("Gi", "Mi", "Ki"):
        if size_bytes and size_bytes % _UNIT_BYTES[unit] == 0:
            return f"{size_bytes // _UNIT_BYTES[unit]}{unit}"
    return str(size_bytes)


def parse_label(text: str) -> str:
    """A DNS label: names of services, namespaces, accounts, workloads."""
    if not _LABEL.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a name: lower-case letters, digits and '-', at most 63, letter or digit at both ends"
        )
    return text


def parse_subdomain(text: str) -> str:
    """DNS labels joined by dots: names of routes and policies."""
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(
            f"{shown(text)} is not a name: lower-case letters, digits, '-' and '.', letter or digit at both ends"
        )
    return text


def parse_label_value(text: str) -> str:
    """The value of a label, as Kubernetes allows it."""
    if not _LABEL_VALUE.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a label value: letters, digits, '-', '_' and '.', at most 63, "
            "letter or digit at both ends"
        )
    return text


def parse_host(text: str) -> str:
    """A host name or an IP address without brackets; IP addresses in canonical form."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        return parse_ip_address(text)
    if not _HOST.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a host name or IP address")
    return text


def parse_ip_address(text: str) -> str:
    """An IPv4 or IPv6 address without brackets, in canonical form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address such as 10.0.0.5 or 2001:db8::5") from None


def parse_host_port(text: str, lowest_port: int = 1) -> HostPort:
    """`host:port` or `[IPv6]:port`. `lowest_port` 0 allows port 0, which picks a free one."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{shown(text)} is not an address; write IPv6 with brackets: [2001:db8::5]:8080")
    if not colon or not host:
        raise ValueError(f"{shown(text)} is not an address: host and port are needed, such as 127.0.0.1:8080")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not lowest_port <= int(port) <= 65_535:
        raise ValueError(f"{shown(text)} is not an address: the port must be {lowest_port} to 65535")
    return HostPort(parse_host(host), int(port))


def parse_service(text: str, namespace: str) -> ServiceKey:
    """`NAME.NAMESPACE`, or `NAME` in `namespace`."""
    name, dot, where = text.partition(".")
    try:
        return ServiceKey(parse_label(where) if dot else namespace, parse_label(name))
    except ValueError:
        raise ValueError(f"{shown(text)} is not a service such as orders or orders.shop (NAME.NAMESPACE)") from None


def parse_trust_domain(text: str) -> str:
    """SPIFFE's trust domain: lower-case host characters, without scheme."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a trust domain such as mesh.local: lower-case letters, digits, . _ -")
    return text


def parse_spiffe_id(text: str) -> str:
    """An exact SPIFFE ID; patterns are not supported, because they grant more than they show."""
    if len(text) > 2048 or not _SPIFFE.fullmatch(text) or any(part in (".", "..") for part in text.split("/")):
        raise ValueError(
            f"{shown(text)} is not an exact SPIFFE ID such as spiffe://mesh.local/ns/shop/sa/frontend (no wildcards)"
        )
    return text


def spiffe_id(trust_domain: str, namespace: str, account: str) -> str:
    """The identity of an account of the mesh."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
