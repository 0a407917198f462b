"""Apply a rule's filters to a request, once, before its first try: every try sends the same."""

from sidecar.proxy.handover import HandOver
from sidecar.routing.filters import RuleFilters
from sidecar.routing.plan import RoutePlan


def filter_request(record: HandOver, plan: RoutePlan, index: int) -> None:
    """Fill in what goes upstream, and what the answer will go through; `index` is the backend drawn by the split."""
    rule = plan.filters
    backend = plan.backend_filters[index] if plan.backend_filters else None
    filters: list[RuleFilters] = []
    for each in (rule, backend):
        if each is not None:
            record.outgoing = each.apply_request(record.outgoing)
            filters.insert(0, each)
    record.filters = tuple(filters)
