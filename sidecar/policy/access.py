"""Decide whether a caller may call a service: allow-lists of exact SPIFFE IDs.

Asked on the inbound side, after the peer's certificate was verified, and by `explain`. Services named in a policy were
resolved to SPIFFE IDs before (by the control plane, or in a static folder); here nothing is matched but whole IDs.
There are no patterns, prefixes or deny rules to get wrong.

Several policies on one service are a union: one enforced policy that allows is enough, and a service with at least one
enforced policy refuses everybody else. Shadow policies decide nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.model.policies import AuthorizationPolicy, Mode


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided.

    Attributes:
        allowed: Whether the request may pass.
        shadow_denied: It passes, but would not if the shadow policies were enforced as well.
        policy: Who decided, as `AuthorizationPolicy/NAMESPACE/NAME`, several joined by a comma; empty: nobody had to.
        sentence: The decision in words, without a full stop.
    """

    allowed: bool
    shadow_denied: bool
    policy: str
    sentence: str


UNRESTRICTED = Verdict(True, False, "", "no policy restricts who may call this service")


def decide(policies: Sequence[AuthorizationPolicy], principal: str | None) -> Verdict:
    """Judge one caller.

    Args:
        policies: Those that target the called service.
        principal: The caller's verified SPIFFE ID; None when it has none, which no policy allows.
    """
    if not policies:
        return UNRESTRICTED
    enforced = [policy for policy in policies if policy.mode is Mode.ENFORCE]
    for policy in enforced:
        if _allows(policy, principal):
            return Verdict(True, False, _name(policy), f"{_name(policy)} allows {principal}")
    if enforced:
        return _denied(enforced, principal)
    for policy in policies:
        if _allows(policy, principal):
            return Verdict(True, False, "", f"no policy is enforced; {_name(policy)} would allow {principal}")
    names = ", ".join(map(_name, policies))
    return Verdict(True, True, names, f"no policy is enforced; {names} would refuse {_caller(principal)}")


def _allows(policy: AuthorizationPolicy, principal: str | None) -> bool:
    return principal is not None and any(principal in rule.principals for rule in policy.allow)


def _denied(enforced: Sequence[AuthorizationPolicy], principal: str | None) -> Verdict:
    names = ", ".join(map(_name, enforced))
    add = "add the caller's service under spec.allow of a policy" if principal else "call through a sidecar"
    return Verdict(False, False, names, f"{names} does not allow {_caller(principal)}; to let it pass, {add}")


def _caller(principal: str | None) -> str:
    return principal or "a caller without a verified identity"


def _name(policy: AuthorizationPolicy) -> str:
    return f"AuthorizationPolicy/{policy.namespace}/{policy.name}"
