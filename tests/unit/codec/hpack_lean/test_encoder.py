"""What the encoder learns, what it never does, and that its table cannot be made to churn."""

import pytest

from sidecar.codec.hpack_lean import encoder
from sidecar.codec.hpack_lean.decoder import Decoder
from sidecar.codec.hpack_lean.encoder import Encoder
from sidecar.codec.hpack_lean.learning import NAMES_MAX, SECRET, UNIQUE, VALUES_MAX, Recent
from sidecar.model.messages import Fields, NeverIndexed


def entries(writer: Encoder) -> Fields:
    return list(writer._table.entries)


def test_what_repeats_takes_a_byte_from_the_third_time_on() -> None:
    writer = Encoder()
    field = (b"x-tenant", b"acme")

    assert writer.encode([field]) == b"\x00\x08x-tenant\x04acme"
    assert writer.encode([field])[:1] == b"\x40"
    assert writer.encode([field, field]) == b"\xbe\xbe"


def test_an_index_moves_with_each_new_entry() -> None:
    writer, reader = Encoder(), Decoder(fields_max=100, bytes_max=60_000)
    first, second = (b"x-a", b"1"), (b"x-b", b"2")
    reader.decode(writer.encode([first, second]) + writer.encode([first]) + writer.encode([first]))

    block = writer.encode([first, second, first, second])

    assert reader.decode(block) == [first, second, first, second]
    assert (block[:1], block[-2:]) == (b"\xbe", b"\xbf\xbe")


@pytest.mark.parametrize("name", sorted(SECRET))
def test_secrets_are_written_as_never_indexed(name: bytes) -> None:
    writer, reader = Encoder(), Decoder(fields_max=100, bytes_max=60_000)
    for value in (b"", b"s3cret", b"s3cret", b"s3cret"):
        (field,) = reader.decode(writer.encode([(name, value)]))
        assert field == (name, value)
        assert field.__class__ is NeverIndexed
    assert not entries(writer)


def test_what_came_as_never_indexed_stays_so_even_if_its_twin_is_in_the_table() -> None:
    writer, reader = Encoder(), Decoder(fields_max=100, bytes_max=60_000)
    plain = (b"x-token", b"abc")
    for _ in range(3):
        reader.decode(writer.encode([plain]))
    assert entries(writer) == [plain]

    for static in (plain, (b":method", b"GET"), (b"accept", b"")):
        (field,) = reader.decode(writer.encode([NeverIndexed(static)]))
        assert field.__class__ is NeverIndexed
        assert reader.decode(writer.encode([static]))[0].__class__ is tuple


@pytest.mark.parametrize("name", sorted(UNIQUE))
def test_unique_names_are_never_learnt(name: bytes) -> None:
    writer = Encoder()
    for _ in range(5):
        writer.encode([(name, b"1")])

    assert not entries(writer)


def test_many_values_of_a_name_hardly_ever_get_in() -> None:
    """Paths with numbers in them, in turn: none comes again while it is remembered."""
    writer = Encoder()
    for number in range(5_000):
        writer.encode([(b":path", b"/items/%d" % (number % 100)), (b":authority", b"shop")])

    assert entries(writer) == [(b":authority", b"shop")]


def test_a_few_values_of_a_name_all_get_in() -> None:
    """The methods of a gRPC service."""
    writer = Encoder()
    paths = [b"/shop.Orders/%b" % method for method in (b"Get", b"List", b"Put", b"Watch")]
    for number in range(12):
        writer.encode([(b":path", paths[number % 4])])

    assert {value for _, value in entries(writer)} == set(paths)
    assert all(len(writer.encode([(b":path", path)])) == 1 for path in paths)


def test_heads_larger_than_the_table_do_not_make_it_churn() -> None:
    """Each entry would be driven out before it is used: all would be written in full, and entered, each time."""
    writer = Encoder()
    head = [(b"x-%d" % number, b"v" * 120) for number in range(40)]
    for _ in range(3):
        writer.encode(head)

    before = writer._table._written
    sizes = [len(writer.encode(head)) for _ in range(64)]

    assert sum(len(block) == 1 for block in map(writer.encode, ([field] for field in head))) >= 20
    assert max(sizes) < sum(len(name) + len(value) for name, value in head) / 1.5
    assert writer._table._written - before <= 64 * 40 / encoder._EVICTING_EVERY


def test_a_date_is_learnt_although_the_table_is_full() -> None:
    writer = Encoder()
    for number in range(200):
        writer.encode([(b"x-%d" % (number % 50), b"%d" % number)] * 2)
    dates = [b"Tue, 01 Dec 2026 12:00:%02d GMT" % second for second in range(3)]

    sizes = [len(writer.encode([(b"date", date)])) for date in dates for _ in range(40)]

    assert sum(size == 1 for size in sizes) >= 60


def test_large_fields_are_not_learnt() -> None:
    writer = Encoder()
    for _ in range(4):
        writer.encode([(b"x-large", b"v" * 1024)])

    assert not entries(writer)


@pytest.mark.parametrize(
    ("limits", "updates"),
    [
        ((4096,), b""),
        ((65_536,), b""),
        ((100,), b"\x3f\x45"),
        ((0,), b"\x20"),
        ((0, 4096), b"\x20\x3f\xe1\x1f"),
        ((100, 0, 200, 30_000), b"\x20\x3f\xe1\x1f"),
        ((200, 100), b"\x3f\x45"),
    ],
)
def test_the_peers_settings_are_followed_as_section_4_2_says(limits: tuple[int, ...], updates: bytes) -> None:
    writer = Encoder()
    for _ in range(3):
        writer.encode([(b"x-tenant", b"acme")])
    for limit in limits:
        writer.limit_table(limit)

    assert writer.encode([(b":method", b"GET")]) == updates + b"\x82"
    assert writer.encode([(b":method", b"GET")]) == b"\x82"
    assert bool(entries(writer)) is (min(limits) >= 44)


def test_a_table_of_nothing_learns_nothing() -> None:
    writer = Encoder()
    writer.limit_table(0)
    writer.encode([])
    for _ in range(4):
        assert writer.encode([(b"x", b"y")]) == b"\x00\x01x\x01y"


def test_what_is_remembered_is_bounded() -> None:
    writer = Encoder()
    for number in range(10_000):
        writer.encode([(b"name-%d" % number, b"v")] * 2)
        writer.encode([(b":path", b"/%d" % number)])

    table = writer._table
    assert table.size_bytes <= 4096
    assert len(table._recent._values) <= NAMES_MAX
    assert all(len(marks) <= VALUES_MAX for marks in table._recent._values.values())
    assert len(table._numbers) == len(table.entries) <= 4096 // 32
    assert len(table) <= 61 + 4096 // 32
    assert len(encoder.PLAIN) <= encoder.NAMES_MAX


def test_long_names_are_not_remembered() -> None:
    recent, long = Recent(), b"n" * 65
    assert [recent.seen(long, b"v") for _ in range(2)] == [False, False]
    before = len(encoder.PLAIN)
    assert Encoder().encode([(long, b"v")]) == b"\x00\x41" + long + b"\x01v"
    assert len(encoder.PLAIN) == before
