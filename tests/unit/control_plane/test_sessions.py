"""Subscriptions, deltas, ACK and NACK, as tables of plain values."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control_plane.closure import Closures
from control_plane.sessions import MAX_WANTS, Change, Debounce, Rejection, Session, Standing
from sidecar.model.clusters import ServiceKey
from sidecar.model.snapshot import Resource
from tests.unit.control_plane.world import access, endpoints, key, route, service, snapshot


def at(revision: int, *resources: Resource) -> Closures:
    return Closures(snapshot(*resources, version=revision))


def session(*wants: str, has: dict[str, int] | None = None) -> Session:
    return Session("shop/frontend-1", "i", key("frontend"), "", set(map(key, wants)), has or {})


def names(change: Change | None) -> tuple[list[str], list[str]]:
    assert change is not None
    return [each.name for each in change.resources], list(change.unset)


ORDERS = (service("orders"), endpoints("orders", "orders-1"))
BOTH = ["Endpoints/shop/orders", "Service/shop/orders"]


class TestPlan:
    def test_the_first_push_is_the_difference_to_what_it_has(self) -> None:
        caller = session("orders", has={"Service/shop/orders": 1, "Service/shop/gone": 4})
        assert names(caller.plan(at(7, *ORDERS), 0.0)) == (["Endpoints/shop/orders"], ["Service/shop/gone"])

    def test_nothing_owed_is_in_sync_without_a_push(self) -> None:
        caller = session("orders", has={"Service/shop/orders": 1, "Endpoints/shop/orders": 1})
        assert caller.plan(at(7, *ORDERS), 0.0) is None
        assert caller.synced == 7

    def test_one_push_is_in_flight_and_the_newest_state_follows_its_ack(self) -> None:
        caller = session("orders")
        assert names(caller.plan(at(1, *ORDERS), 0.0)) == (BOTH, [])
        assert caller.plan(at(2, service("orders", 2), ORDERS[1]), 0.1) is None
        assert caller.ack(1)
        change = caller.plan(at(3, service("orders", 3), ORDERS[1]), 0.2)
        assert names(change) == (["Service/shop/orders"], [])
        assert change is not None
        assert change.version == 3

    def test_an_absent_service_is_told_once(self) -> None:
        caller = session("nobody")
        assert names(caller.plan(at(1), 0.0)) == ([], ["Service/shop/nobody"])
        caller.ack(1)
        assert caller.plan(at(2), 0.0) is None
        assert caller.want({key("nobody")})
        assert names(caller.plan(at(3), 0.0)) == ([], ["Service/shop/nobody"])

    def test_an_absent_service_that_comes_and_goes_is_told_each_time(self) -> None:
        caller = session("orders")
        caller.plan(at(1), 0.0)
        caller.ack(1)
        assert names(caller.plan(at(2, *ORDERS), 0.0)) == (BOTH, [])
        caller.ack(2)
        assert names(caller.plan(at(3), 0.0)) == ([], BOTH)

    def test_unwant_takes_away_what_only_that_want_brought(self) -> None:
        caller = session("orders", "stock")
        world = (*ORDERS, service("stock"), route("stock", "stock", "orders"))
        caller.plan(at(1, *world), 0.0)
        caller.ack(1)
        caller.unwant({key("stock")})
        assert names(caller.plan(at(1, *world), 0.0)) == ([], ["HTTPRoute/shop/stock", "Service/shop/stock"])

    def test_wants_are_bounded(self) -> None:
        caller = session()
        assert not caller.want({ServiceKey("shop", f"s{number}") for number in range(MAX_WANTS + 1)})
        assert caller.wants == set()


class TestAckAndNack:
    def test_an_ack_of_another_push_is_ignored(self) -> None:
        caller = session("orders")
        assert not caller.ack(1)
        caller.plan(at(5, *ORDERS), 0.0)
        assert not caller.ack(4)
        assert caller.applied == 0
        assert caller.ack(5)
        assert (caller.applied, caller.synced) == (5, 5)

    def test_a_nack_refuses_one_resource_and_the_rest_is_in_force(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS), 0.0)
        assert caller.nack(5, "Service/shop/orders", "unknown protocol 'quic'")
        assert caller.ack(5)
        assert caller.has == {"Endpoints/shop/orders": 1}
        assert caller.rejected == {"Service/shop/orders": Rejection(1, "unknown protocol 'quic'")}

    def test_the_same_bad_version_is_never_sent_again_and_blocks_nothing(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS), 0.0)
        caller.nack(5, "Service/shop/orders", "bad")
        caller.ack(5)
        later = (service("orders"), endpoints("orders", "orders-1", "orders-2", version=6))
        assert names(caller.plan(at(6, *later), 0.0)) == (["Endpoints/shop/orders"], [])

    def test_a_new_version_is_tried_and_clears_the_refusal(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS), 0.0)
        caller.nack(5, "Service/shop/orders", "bad")
        caller.ack(5)
        assert names(caller.plan(at(6, service("orders", 6), ORDERS[1]), 0.0)) == (["Service/shop/orders"], [])
        caller.ack(6)
        assert caller.rejected == {}

    def test_going_back_to_the_version_that_it_has_clears_the_refusal(self) -> None:
        caller = session("orders", has={"Service/shop/orders": 1, "Endpoints/shop/orders": 1})
        caller.plan(at(5, service("orders", 5), ORDERS[1]), 0.0)
        caller.nack(5, "Service/shop/orders", "bad")
        caller.ack(5)
        assert caller.has["Service/shop/orders"] == 1
        assert caller.plan(at(6, *ORDERS), 0.0) is None
        assert caller.rejected == {}

    def test_backends_of_the_route_that_stays_in_force_are_kept_up_to_date(self) -> None:
        caller = session("orders")
        both = (*ORDERS, service("v1"), endpoints("v1", "a"), service("v2"), endpoints("v2", "b"))
        caller.plan(at(5, *both, route("orders", "orders", "v1", version=5)), 0.0)
        caller.ack(5)
        moved = route("orders", "orders", "v2", version=6)
        change = caller.plan(at(6, *both, moved), 0.0)
        assert names(change)[1] == ["Endpoints/shop/v1", "Service/shop/v1"]
        caller.nack(6, "HTTPRoute/shop/orders", "bad")
        caller.ack(6)
        assert names(caller.plan(at(6, *both, moved), 0.0)) == (["Endpoints/shop/v1", "Service/shop/v1"], [])
        caller.ack(6)
        later = (*both[:3], endpoints("v1", "a", "c", version=7), *both[4:], moved)
        assert names(caller.plan(at(7, *later), 0.0)) == (["Endpoints/shop/v1"], [])
        caller.ack(7)
        mended = route("orders", "orders", "v2", version=8)
        assert names(caller.plan(at(8, *later[:-1], mended), 0.0))[0] == ["HTTPRoute/shop/orders"]
        caller.ack(8)
        assert names(caller.plan(at(8, *later[:-1], mended), 0.0)) == ([], ["Endpoints/shop/v1", "Service/shop/v1"])

    def test_a_refused_resource_that_is_deleted_is_forgotten(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS), 0.0)
        caller.nack(5, "Service/shop/orders", "bad")
        caller.ack(5)
        caller.plan(at(6, ORDERS[1]), 0.0)
        assert caller.rejected == {}

    def test_a_nack_of_what_was_not_sent_is_ignored(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS), 0.0)
        assert not caller.nack(5, "HTTPRoute/shop/other", "x")
        assert not caller.nack(4, "Service/shop/orders", "x")

    def test_the_same_process_keeps_its_refusals_over_a_reconnect_a_new_one_does_not(self) -> None:
        former = session("orders")
        former.plan(at(5, *ORDERS), 0.0)
        former.nack(5, "Service/shop/orders", "bad")
        former.ack(5)
        again = session("orders", has=dict(former.has))
        again.resume(former)
        assert again.plan(at(5, *ORDERS), 0.0) is None
        new = Session("shop/frontend-1", "j", key("frontend"), "", {key("orders")}, dict(former.has))
        new.resume(former)
        assert names(new.plan(at(5, *ORDERS), 0.0)) == (["Service/shop/orders"], [])


class TestStanding:
    CHANGED = frozenset({"Service/shop/orders"})

    def test_who_does_not_subscribe_is_not_concerned(self) -> None:
        assert session("stock").standing(5, self.CHANGED, at(5, *ORDERS)) is Standing.UNCONCERNED

    def test_a_subscriber_waits_until_it_acknowledged_that_revision_or_a_later_one(self) -> None:
        caller = session("orders")
        world = at(5, *ORDERS)
        seen = [caller.standing(5, self.CHANGED, world)]
        caller.plan(world, 0.0)
        seen.append(caller.standing(5, self.CHANGED, world))
        caller.ack(5)
        seen.append(caller.standing(5, self.CHANGED, world))
        seen.append(caller.standing(6, self.CHANGED, world))
        assert seen == [Standing.WAITING, Standing.WAITING, Standing.ACKED, Standing.WAITING]

    def test_a_refusal_is_told_apart(self) -> None:
        caller = session("orders")
        world = at(5, *ORDERS)
        caller.plan(world, 0.0)
        caller.nack(5, "Service/shop/orders", "bad")
        caller.ack(5)
        changes = (self.CHANGED, frozenset({"Endpoints/shop/orders"}))
        assert [caller.standing(5, each, world) for each in changes] == [Standing.REJECTED, Standing.ACKED]

    def test_a_deletion_concerns_those_who_had_it(self) -> None:
        caller = session("orders")
        caller.plan(at(5, *ORDERS, access("a", ("Service", "orders"))), 0.0)
        caller.ack(5)
        changed = frozenset({"AuthorizationPolicy/shop/a"})
        after = at(6, *ORDERS)
        seen = [caller.standing(6, changed, after)]
        caller.plan(after, 0.0)
        caller.ack(6)
        seen.append(caller.standing(6, changed, after))
        assert seen == [Standing.WAITING, Standing.ACKED]

    def test_a_sidecar_that_is_away_waits(self) -> None:
        caller = session("orders", has={"Service/shop/orders": 5, "Endpoints/shop/orders": 1})
        caller.plan(at(5, service("orders", 5), ORDERS[1]), 0.0)
        caller.connected = False
        assert caller.standing(5, self.CHANGED, at(5, *ORDERS)) is Standing.WAITING

    def test_an_unknown_revision_concerns_everybody(self) -> None:
        assert session("stock").standing(5, None, at(5, *ORDERS)) is Standing.WAITING


class TestDebounce:
    def test_due_after_a_quiet_spell_and_never_later_than_the_bound(self) -> None:
        gathered = Debounce(0.05, 0.5)
        seen = [gathered.due_s]
        for now_s in (1.0, 1.04, 1.49):
            gathered.changed(now_s)
            seen.append(gathered.due_s)
        gathered.done()
        seen.append(gathered.due_s)
        assert seen == [None, 1.05, 1.09, 1.5, None]


class SidecarModel(RuleBasedStateMachine):
    """A model sidecar obeys the pushes of a session; when all is quiet it has exactly what it should have."""

    NAMES = ("orders", "stock", "pay")

    def __init__(self) -> None:
        super().__init__()
        self.session = session()
        self.revision = 0
        self.world: dict[str, Resource] = {}
        self.held: dict[str, int] = {}  # what the sidecar has
        self.sent: list[Change] = []
        self.refused: set[tuple[str, int]] = set()

    def closures(self) -> Closures:
        return at(self.revision, *self.world.values())

    @rule(name=st.sampled_from(NAMES))
    def changes(self, name: str) -> None:
        self.revision += 1
        made = service(name, self.revision)
        self.world[made.name] = made

    @rule(name=st.sampled_from(NAMES))
    def disappears(self, name: str) -> None:
        self.revision += 1
        self.world.pop(f"Service/shop/{name}", None)

    @rule(name=st.sampled_from(NAMES))
    def wants(self, name: str) -> None:
        self.session.want({key(name)})

    @rule(name=st.sampled_from(NAMES))
    def unwants(self, name: str) -> None:
        self.session.unwant({key(name)})

    @rule()
    def pushes(self) -> None:
        change = self.session.plan(self.closures(), 0.0)
        if change is not None:
            assert not self.sent
            assert all((each.name, each.version) not in self.refused for each in change.resources)
            self.sent.append(change)

    @precondition(lambda self: self.sent)
    @rule(refuse=st.sets(st.sampled_from(NAMES), max_size=1))
    def answers(self, refuse: set[str]) -> None:
        change = self.sent.pop()
        for resource in change.resources:
            if resource.name.rpartition("/")[2] in refuse:
                assert self.session.nack(change.version, resource.name, "bad")
                self.refused.add((resource.name, resource.version))
            else:
                self.held[resource.name] = resource.version
        for name in change.unset:
            self.held.pop(name, None)
        assert self.session.ack(change.version)

    @invariant()
    def the_session_knows_what_the_sidecar_has(self) -> None:
        assert self.session.has == self.held

    @invariant()
    def in_sync_means_everything_but_what_was_refused(self) -> None:
        quiet = not self.sent and self.session.synced == self.revision
        if quiet and self.session.plan(self.closures(), 0.0) is None:
            wanted = {f"Service/shop/{each.name}" for each in self.session.wants}
            right = {name: each.version for name, each in self.world.items() if name in wanted}
            for name, version in right.items():
                assert self.held.get(name) == version or (name, version) in self.refused
            assert self.held.keys() <= right.keys()
        elif self.session.flight is not None and not self.sent:
            self.sent.append(self.session.flight.change)


TestSidecarModel = SidecarModel.TestCase
