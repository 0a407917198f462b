"""What a person would look at first, as lines: `meshctl check`.

Called by the facade with what it found out. Pure. Each line that is not ok says why and what to do; the order is that
in which one thing breaks the next.
"""

from collections.abc import Iterable, Sequence

from control_plane.answers import CertificateRow, CheckLine, SidecarRow

DAY_S = 86_400.0
SOON_S = {"root": 180 * DAY_S, "issuer": 7 * DAY_S, "control-plane": 3600.0}
SIDECAR_SOON_S = 3600.0  # renewed at half of a day: an hour left means that renewing fails
_MOST_NAMES = 5


def signer_lines(rows: Iterable[CertificateRow], now_s: float) -> list[CheckLine]:
    """One line for root, issuer and the control plane's own certificate."""
    hints = {
        "root": "make a new trust domain while there is time",
        "issuer": "the control plane renews it by itself; look at its log",
        "control-plane": "the control plane renews it by itself; look at its log",
    }
    lines = []
    for row in rows:
        left_s = row.not_after_s - now_s
        if left_s > SOON_S[row.kind]:
            lines.append(CheckLine(f"{row.kind} certificate is valid for {_span(left_s)}", True))
        else:
            cause = f"ends in {_span(left_s)}" if left_s > 0 else "has expired"
            lines.append(CheckLine(f"{row.kind} certificate is valid", False, cause, hints[row.kind]))
    return lines


def sidecar_lines(rows: Sequence[SidecarRow], now_s: float) -> list[CheckLine]:
    """Lines about the sidecars: connected, in sync, nothing rejected, ready, certificates, leases."""
    away = [row.node for row in rows if not row.connected]
    behind = [row.node for row in rows if row.connected and not row.in_sync]
    rejecting = [row for row in rows if row.rejected]
    unready = [row.node for row in rows if row.registered and not row.ready]
    held = [row.node for row in rows if row.held]
    ending = [row.node for row in rows if row.cert_not_after_s and row.cert_not_after_s - now_s < SIDECAR_SOON_S]
    reasons = "; ".join(f"{row.node}: {row.rejected[0].name}: {row.rejected[0].reason}" for row in rejecting[:3])
    return [
        _line(
            f"{len(rows) - len(away)} of {len(rows)} sidecars are connected",
            _names(away),
            "are they running, and do they reach this address? their leases end 30 s after the last beat",
        ),
        _line("every connected sidecar has the newest configuration", _names(behind), "see meshctl status"),
        _line("no sidecar rejected a resource", reasons, "correct the resource and apply it again"),
        _line("every registered app is ready", _names(unready), "look at the apps: their sidecars cannot reach them"),
        _line(
            "no lease is held back",
            _names(held),
            "too many fell silent at once: check the network; meshctl delete Workload/NAMESPACE/ID ends one for good",
        ),
        _line("every sidecar's certificate is fresh", _names(ending), "look at the log of the sidecar: renewal fails"),
    ]


def _line(what: str, cause: str, hint: str) -> CheckLine:
    return CheckLine(what, False, cause, hint) if cause else CheckLine(what, True)


def _names(nodes: Sequence[str]) -> str:
    more = f", and {len(nodes) - _MOST_NAMES} more" if len(nodes) > _MOST_NAMES else ""
    return ", ".join(nodes[:_MOST_NAMES]) + more


def _span(seconds: float) -> str:
    for unit_s, unit in ((DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{max(0, int(seconds))} seconds"
