"""What every engine of control_plane.store must do, as one test class.

An engine's test file subclasses `StoreContract` and gives a fixture `open_store`: a function that opens the *same*
store again each time it is called (for the tests of restarts), with the clock it is handed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.store.contract import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Change,
    Compacted,
    Conflict,
    Delete,
    Expect,
    Operation,
    Put,
    Store,
    StoreError,
)

Opener = Callable[[Callable[[], float]], Awaitable[Store]]


class Clock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


class StoreContract:
    """Subclass it with a fixture `open_store`."""

    @pytest.fixture
    async def store(self, open_store: Opener, clock: Clock) -> AsyncIterator[Store]:
        opened = await open_store(clock)
        yield opened
        await opened.aclose()

    async def test_a_new_store_is_empty_at_revision_0(self, store: Store) -> None:
        assert await store.revision() == 0
        assert (await store.list("")).entries == ()
        assert await store.get("a") is None

    async def test_each_transaction_makes_one_revision_for_all_its_keys(self, store: Store) -> None:
        assert await store.txn([Put("a", b"1"), Put("b", b"2")]) == 1
        assert await store.txn([Put("b", b"3")]) == 2
        listing = await store.list("")
        assert listing.revision == 2
        assert [(e.key, e.value, e.revision) for e in listing.entries] == [("a", b"1", 1), ("b", b"3", 2)]

    async def test_list_takes_the_prefix_literally_and_sorts_by_key(self, store: Store) -> None:
        await store.txn([Put(key, b"") for key in ("r/b", "r/a", "r%", "r_x", "R/a", "s/a", "r")])
        assert [entry.key for entry in (await store.list("r/")).entries] == ["r/a", "r/b"]
        assert [entry.key for entry in (await store.list("r_")).entries] == ["r_x"]
        assert [entry.key for entry in (await store.list("r")).entries] == ["r", "r%", "r/a", "r/b", "r_x"]

    async def test_a_failed_expectation_changes_nothing_and_names_the_keys(self, store: Store) -> None:
        await store.txn([Put("a", b"1")])
        await store.txn([Put("a", b"2")])
        with pytest.raises(Conflict) as refusal:
            await store.txn([Put("b", b"x"), Delete("a")], [Expect("a", 1), Expect("b", 0), Expect("c", 7)])
        assert refusal.value.keys == ("a", "c")
        assert await store.get("b") is None
        assert await store.revision() == 2
        assert await store.txn([Put("b", b"x")], [Expect("a", 2), Expect("b", 0)]) == 3

    async def test_only_one_of_many_that_expect_the_same_wins(self, store: Store) -> None:
        won: list[int] = []

        async def claim(number: int) -> None:
            try:
                await store.txn([Put("leader", str(number).encode())], [Expect("leader", 0)])
                won.append(number)
            except Conflict:
                pass

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(claim, number)
        entry = await store.get("leader")
        assert entry is not None
        assert [str(number).encode() for number in won] == [entry.value]

    async def test_removing_what_is_not_there_is_no_change(self, store: Store) -> None:
        assert await store.txn([Delete("a")]) == 0
        await store.txn([Put("a", b"1")])
        assert await store.txn([Delete("a"), Delete("b")]) == 2
        assert await store.get("a") is None
        assert await store.txn([]) == 2

    @pytest.mark.parametrize(
        "operations",
        [
            [Put("a", b""), Delete("a")],
            [Put("", b"")],
            [Put("k" * 1025, b"")],
            [Put("\u00e9", b"")],
            [Put("a\n", b"")],
            [Put("a", b"x" * (MAX_VALUE_BYTES + 1))],
            [Delete(str(number)) for number in range(MAX_OPERATIONS + 1)],
        ],
        ids=["twice", "no key", "long key", "not ASCII", "line feed", "long value", "too many"],
    )
    async def test_a_transaction_above_the_bounds_is_refused(self, store: Store, operations: list[Operation]) -> None:
        with pytest.raises(ValueError, match=r"transaction|key|bytes"):
            await store.txn(operations)
        assert await store.revision() == 0

    async def test_the_largest_transaction_is_taken_and_watched_whole(self, store: Store) -> None:
        await store.txn([Put(f"k{number}", b"") for number in range(MAX_OPERATIONS)])
        assert len(await store.watch("k", 0).next()) == MAX_OPERATIONS

    async def test_watching_from_a_listing_misses_nothing_and_repeats_nothing(self, store: Store) -> None:
        await store.txn([Put("a/1", b"old")])
        watch = store.watch("a/", (await store.list("a/")).revision)
        await store.txn([Put("a/1", b"new"), Put("b/1", b"other prefix")])
        await store.txn([Put("b/2", b"other prefix")])
        await store.txn([Delete("a/1")])
        assert list(await watch.next()) == [Change(2, "a/1", b"new"), Change(4, "a/1", None)]

    async def test_a_watch_wakes_when_something_under_its_prefix_changes(self, store: Store) -> None:
        seen: list[Change] = []
        watch = store.watch("a/", 0)

        async def look() -> None:
            seen.extend(await watch.next())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await store.txn([Put("b", b"")])
            await store.txn([Put("a/x", b"1")])
        assert seen == [Change(2, "a/x", b"1")]

    async def test_history_is_forgotten_on_request_and_says_so(self, store: Store) -> None:
        for number in range(10):
            await store.txn([Put("a", str(number).encode())])
        assert await store.compact(keep=3) == 7
        with pytest.raises(Compacted) as refusal:
            await store.watch("", 6).next()
        assert refusal.value.oldest == 7
        assert [change.revision for change in await store.watch("", 7).next()] == [8, 9, 10]
        entry = await store.get("a")
        assert entry is not None
        assert entry.value == b"9"
        assert await store.compact(keep=100) == 7

    async def test_a_lease_ends_at_its_time_unless_put_again(self, store: Store, clock: Clock) -> None:
        await store.txn([Put("lease/a", b"x", expires_s=1_010.0), Put("lease/b", b"y", expires_s=1_010.0)])
        clock.now_s = 1_009.0
        await store.txn([Put("lease/b", b"y", expires_s=1_020.0)])
        clock.now_s = 1_010.0
        assert await store.get("lease/a") is None
        assert [entry.key for entry in (await store.list("lease/")).entries] == ["lease/b"]
        assert await store.txn([Put("taken", b"")], [Expect("lease/a", 0)]) == 3
        watch = store.watch("lease/", 3)
        assert await store.expire() == 1
        assert list(await watch.next()) == [Change(4, "lease/a", None)]
        assert await store.expire() == 0

    async def test_a_closed_store_says_so_and_wakes_its_watchers(self, store: Store) -> None:
        watch = store.watch("", 0)

        async def look() -> None:
            with pytest.raises(StoreError, match="closed"):
                await watch.next()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            await store.aclose()
        with pytest.raises(StoreError, match="closed"):
            await store.get("a")

    async def test_everything_is_there_after_a_restart(self, open_store: Opener, clock: Clock) -> None:
        first = await open_store(clock)
        await first.txn([Put("a", b"1"), Put("lease", b"", expires_s=2_000.0)])
        await first.txn([Put("b", b"2")])
        await first.aclose()
        second = await open_store(clock)
        assert await second.revision() == 2
        assert [(e.key, e.value, e.revision, e.expires_s) for e in (await second.list("")).entries] == [
            ("a", b"1", 1, None),
            ("b", b"2", 2, None),
            ("lease", b"", 1, 2_000.0),
        ]
        assert [change.key for change in await second.watch("", 0).next()] == ["a", "lease", "b"]
        await second.aclose()

    def test_the_watch_replays_to_the_listing(self, open_store: Opener) -> None:
        """Whatever is written, applying the changes to nothing gives what a listing shows."""
        keys = st.sampled_from(["a", "b", "c", "d"])
        writes = st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=4)

        @settings(max_examples=15, deadline=None)
        @given(st.lists(writes, max_size=6))
        def check(transactions: list[dict[str, bytes | None]]) -> None:
            trio.run(self._replayed, open_store, transactions)

        check()

    @staticmethod
    async def _replayed(open_store: Opener, transactions: list[dict[str, bytes | None]]) -> None:
        store = await open_store(Clock())
        try:
            before = await store.list("")
            state = {entry.key: entry.value for entry in before.entries}
            for each in transactions:
                await store.txn([Delete(key) if value is None else Put(key, value) for key, value in each.items()])
            after = await store.list("")
            if after.revision > before.revision:
                for change in await store.watch("", before.revision).next():
                    if change.value is None:
                        del state[change.key]
                    else:
                        state[change.key] = change.value
            assert state == {entry.key: entry.value for entry in after.entries}
        finally:
            await store.aclose()
