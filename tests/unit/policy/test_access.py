"""Who may call: exact SPIFFE IDs, a union of policies, shadow without effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.clusters import ServiceKey
from sidecar.model.policies import AllowRule, AuthorizationPolicy, Mode, TargetRef
from sidecar.policy.access import UNRESTRICTED, decide

FRONTEND = "spiffe://mesh.local/ns/shop/sa/frontend"
BATCH = "spiffe://mesh.local/ns/shop/sa/batch"


def policy(*principals: str, name: str = "orders", mode: Mode = Mode.ENFORCE) -> AuthorizationPolicy:
    """One rule for each principal."""
    return AuthorizationPolicy(
        namespace="shop",
        name=name,
        targets=(TargetRef("Service", "orders"),),
        allow=tuple(AllowRule(principals=frozenset({one})) for one in principals),
        mode=mode,
    )


def test_without_a_policy_everybody_may_call() -> None:
    assert decide((), None) is UNRESTRICTED
    assert UNRESTRICTED.allowed
    assert not UNRESTRICTED.shadow_denied


def test_a_caller_on_the_list_may_call() -> None:
    verdict = decide([policy(BATCH, FRONTEND)], FRONTEND)
    assert verdict.allowed
    assert verdict.policy == "AuthorizationPolicy/shop/orders"
    assert verdict.sentence == f"AuthorizationPolicy/shop/orders allows {FRONTEND}"


@pytest.mark.parametrize(
    "principal",
    [
        BATCH,
        FRONTEND + "/",
        FRONTEND + "2",
        FRONTEND[:-1],
        FRONTEND.upper(),
        FRONTEND.replace("mesh.local", "mesh.locaI"),
        FRONTEND + "\0",
        FRONTEND + "," + BATCH,
        "*",
        "",
    ],
)
def test_only_the_exact_id_is_on_the_list(principal: str) -> None:
    assert not decide([policy(FRONTEND)], principal).allowed


def test_a_refusal_names_caller_and_policy_and_what_to_do() -> None:
    verdict = decide([policy(FRONTEND)], BATCH)
    assert not verdict.allowed
    assert verdict.policy == "AuthorizationPolicy/shop/orders"
    assert verdict.sentence == (
        f"AuthorizationPolicy/shop/orders does not allow {BATCH}; to let it pass, add the caller's service under "
        "spec.allow of a policy"
    )


def test_a_caller_without_identity_is_on_no_list() -> None:
    verdict = decide([policy(FRONTEND)], None)
    assert not verdict.allowed
    assert "a caller without a verified identity; to let it pass, call through a sidecar" in verdict.sentence


def test_a_policy_without_rules_denies_everybody() -> None:
    assert not decide([policy()], FRONTEND).allowed


def test_services_named_in_a_rule_mean_nothing_until_they_are_resolved() -> None:
    unresolved = AuthorizationPolicy(
        namespace="shop",
        name="orders",
        targets=(TargetRef("Service", "orders"),),
        allow=(AllowRule(services=frozenset({ServiceKey("shop", "frontend")})),),
    )
    assert not decide([unresolved], FRONTEND).allowed


def test_one_policy_that_allows_is_enough() -> None:
    policies = [policy(BATCH, name="batch"), policy(FRONTEND, name="web")]
    assert decide(policies, FRONTEND).policy == "AuthorizationPolicy/shop/web"
    refused = decide(policies, None)
    assert refused.policy == "AuthorizationPolicy/shop/batch, AuthorizationPolicy/shop/web"


def test_a_shadow_policy_alone_refuses_nobody_and_says_whom_it_would() -> None:
    shadow = [policy(FRONTEND, mode=Mode.SHADOW)]
    refused = decide(shadow, BATCH)
    assert (refused.allowed, refused.shadow_denied) == (True, True)
    assert refused.policy == "AuthorizationPolicy/shop/orders"
    assert "would refuse" in refused.sentence
    taken = decide(shadow, FRONTEND)
    assert (taken.allowed, taken.shadow_denied, taken.policy) == (True, False, "")
    assert "would allow" in taken.sentence


def test_a_shadow_policy_never_lets_pass_what_an_enforced_one_refuses() -> None:
    verdict = decide([policy(FRONTEND), policy(BATCH, name="next", mode=Mode.SHADOW)], BATCH)
    assert (verdict.allowed, verdict.shadow_denied) == (False, False)


@given(
    policies=st.lists(
        st.builds(
            lambda names, mode: policy(*names, mode=mode), st.sets(st.sampled_from("abc")), st.sampled_from(Mode)
        ),
        max_size=4,
    ),
    principal=st.sampled_from(["a", "b", "c", "d", None]),
)
def test_decisions_follow_the_plain_definition(policies: list[AuthorizationPolicy], principal: str | None) -> None:
    def listed(some: list[AuthorizationPolicy]) -> bool:
        return any(principal in rule.principals for one in some for rule in one.allow)

    enforced = [one for one in policies if one.mode is Mode.ENFORCE]
    verdict = decide(policies, principal)
    assert verdict.allowed == (not enforced or listed(enforced))
    # What would change if the shadow policies were enforced too.
    assert verdict.shadow_denied == (verdict.allowed and bool(policies) and not listed(policies))
    assert verdict.sentence
