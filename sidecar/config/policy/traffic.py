"""`TrafficPolicy`: times, tries, balancing, ejection and limits of a service; documents <-> model.

What a document leaves out keeps the product's default (`model/policies.py`). One module beside this one reads and
writes each section; its checks across fields see to it that no part of a policy makes another one meaningless.
"""

from sidecar.config.header import OWN_API, Metadata, document
from sidecar.config.node import Fields, Json, Node
from sidecar.config.policy.balancing import encode_balancing, encode_hash_key, parse_balancing, parse_hash_key
from sidecar.config.policy.ejection import encode_ejection, parse_ejection
from sidecar.config.policy.fallback import encode_fallback, parse_fallback
from sidecar.config.policy.faults import encode_faults, parse_faults
from sidecar.config.policy.limits import encode_limits, parse_limits
from sidecar.config.policy.rates import encode_rate_limits, parse_rate_limits
from sidecar.config.policy.retries import encode_retries, parse_retries
from sidecar.config.policy.timeouts import encode_timeouts, parse_timeouts
from sidecar.config.targets import encode_targets, parse_targets
from sidecar.model.policies import (
    DEFAULT_POLICY,
    Mode,
    TrafficPolicy,
    TrafficPolicyResource,
)
from sidecar.model.routes import ROUTE_KINDS

POLICY_FIELDS = (
    "timeouts",
    "retries",
    "balancing",
    "ejection",
    "limits",
    "rateLimits",
    "stickySplit",
    "fallback",
    "faults",
    "mode",
)


def parse_traffic_policy(meta: Metadata, spec: Node) -> TrafficPolicyResource:
    """A TrafficPolicy and what it attaches to."""
    got = spec.fields("targetRefs", *POLICY_FIELDS)
    targets = parse_targets(got, ("Service", *ROUTE_KINDS))
    return TrafficPolicyResource(namespace=meta.namespace, name=meta.name, targets=targets, policy=policy_of(got))


def policy_of(got: Fields) -> TrafficPolicy:
    """The policy in the fields of a TrafficPolicy's `spec`, or of a MeshPolicy's `defaults`."""
    base = DEFAULT_POLICY
    return TrafficPolicy(
        timeouts=got.maybe("timeouts", parse_timeouts, base.timeouts),
        retries=got.maybe("retries", parse_retries, base.retries),
        balancing=got.maybe("balancing", parse_balancing, base.balancing),
        ejection=got.maybe("ejection", parse_ejection, base.ejection),
        limits=got.maybe("limits", parse_limits, base.limits),
        rate_limits=got.maybe("rateLimits", parse_rate_limits, base.rate_limits),
        sticky=got.maybe("stickySplit", parse_hash_key, base.sticky),
        fallback=got.maybe("fallback", parse_fallback, base.fallback),
        faults=got.maybe("faults", parse_faults, base.faults),
        mode=got.maybe("mode", lambda node: node.choice(Mode), base.mode),
    )


def encode_traffic_policy(resource: TrafficPolicyResource) -> dict[str, Json]:
    """The document of a TrafficPolicy; values are written, defaults too, so that `/config` shows what holds."""
    spec: dict[str, Json] = {"targetRefs": encode_targets(resource.targets), **encode_policy(resource.policy)}
    return document(OWN_API, "TrafficPolicy", resource.namespace, resource.name, spec)


def encode_policy(policy: TrafficPolicy) -> dict[str, Json]:
    """The fields that `policy_of` reads."""
    return {
        "timeouts": encode_timeouts(policy.timeouts),
        "retries": encode_retries(policy.retries),
        "balancing": encode_balancing(policy.balancing),
        "ejection": encode_ejection(policy.ejection),
        "limits": encode_limits(policy.limits),
        **({"rateLimits": encode_rate_limits(policy.rate_limits)} if policy.rate_limits else {}),
        **({} if policy.sticky is None else {"stickySplit": encode_hash_key(policy.sticky)}),
        **({} if policy.fallback is None else {"fallback": encode_fallback(policy.fallback)}),
        **({"faults": encode_faults(policy.faults)} if policy.faults else {}),
        "mode": policy.mode.value,
    }
