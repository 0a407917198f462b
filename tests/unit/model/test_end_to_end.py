"""Which fields of a message go on to the next hop."""

from sidecar.model.messages import end_to_end


def test_connection_fields_stay_and_the_announcement_of_trailers_goes_on() -> None:
    fields = [(b"Connection", b"TE"), (b"TE", b"trailers"), (b"Keep-Alive", b"timeout=5"), (b"Trailer", b"X-Checksum")]
    assert end_to_end(fields, frozenset()) == [(b"Trailer", b"X-Checksum")]


def test_names_keep_their_case_and_duplicates_their_order() -> None:
    fields = [(b"X-Mixed", b"1"), (b"x-mixed", b"2"), (b"Dropped", b"")]
    assert end_to_end(fields, frozenset((b"dropped",))) == fields[:2]
