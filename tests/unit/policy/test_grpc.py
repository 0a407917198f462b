"""What is gRPC, how long a call may take, and what its status says of the endpoint and of another try."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import errors
from sidecar.errors import Fault
from sidecar.model.messages import Fields, RequestHead, ResponseHead
from sidecar.model.policies import Retries, RetryOn, Timeouts
from sidecar.policy import deadline, grpc
from sidecar.policy.retry import Failure, GiveUp, conditions, worth_another_try

FAULTS = [row for row in vars(errors).values() if isinstance(row, Fault)]


def call(content_type: bytes | None, version: bytes = b"2") -> RequestHead:
    fields = [] if content_type is None else [(b"content-type", content_type)]
    return RequestHead(b"POST", b"/shop.Orders/Get", b"orders.shop", fields, content_length=None, version=version)


def answer(status: int = 200, **fields: bytes) -> ResponseHead:
    named = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    return ResponseHead(status, named)


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/grpc",
        b"application/grpc+proto",
        b"application/grpc+json",
        b"application/grpc;charset=utf-8",
        b"application/grpc ; charset=utf-8",
        b"Application/GRPC",
    ],
)
def test_grpc_is_known_by_its_content_type_over_http2_only(content_type: bytes) -> None:
    assert grpc.is_grpc(call(content_type))
    assert not grpc.is_grpc(call(content_type, b"1.1"))


@pytest.mark.parametrize(
    "content_type", [None, b"", b"application/grp", b"application/grpc-web", b"application/grpcx", b"application/json"]
)
def test_what_looks_alike_is_not_grpc(content_type: bytes | None) -> None:
    assert not grpc.is_grpc(call(content_type))


# --- The deadline ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"500u", 0.0005),
        (b"99999999n", 0.099999999),
        (b"99999999H", 359_999_996_400.0),
        (b"00000010S", 10.0),
    ],
)
def test_a_timeout_has_up_to_eight_digits_and_a_unit(value: bytes, seconds: float) -> None:
    assert grpc.timeout_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [None, b"", b"1", b"S", b"1s", b"1 S", b" 1S", b"1S ", b"-1S", b"+1S", b"1.5S", b"100000000S", b"0S",
              b"1S, 2S", "\N{ARABIC-INDIC DIGIT ONE}S".encode(), b"1S\n"]
)  # fmt: skip
def test_any_other_timeout_is_ignored(value: bytes | None) -> None:
    assert grpc.timeout_s(value) is None


@pytest.mark.parametrize(
    ("left_s", "header"),
    [
        (0.25, b"250m"),
        (0.2501, b"251m"),
        (0.0, b"1m"),
        (-5.0, b"1m"),
        (15.0, b"15000m"),
        (99_999.999, b"99999999m"),
        (100_000.0, b"100000S"),
        (100_000_000.0, b"1666667M"),
        (6_000_000_000.0, b"1666667H"),
        (1e15, b"99999999H"),
    ],
)
def test_what_is_left_is_told_rounded_up_in_the_finest_unit_with_room(left_s: float, header: bytes) -> None:
    assert grpc.timeout_header(left_s, 0.0) == header


@given(st.floats(0.001, 3e11), st.floats(0, 1e6))
def test_the_next_hop_reads_what_was_left_and_never_less(left_s: float, now_s: float) -> None:
    header = grpc.timeout_header(now_s + left_s, now_s)
    assert len(header) <= 9
    told_s = grpc.timeout_s(header)
    assert told_s is not None
    really_s = (now_s + left_s) - now_s
    assert told_s >= really_s * (1 - 1e-9) - 1e-6  # to a microsecond: binary fractions
    assert told_s <= max(really_s * 1.001, really_s + 0.0011) + 1e-6


@given(st.binary(max_size=12))
def test_no_timeout_is_costly_or_below_nothing(value: bytes) -> None:
    seconds = grpc.timeout_s(value)
    assert seconds is None or 0.0 < seconds < 4e11


def test_the_shortest_of_policy_mesh_header_and_grpc_timeout_holds() -> None:
    assert deadline.ends_at(15.0, None, 100.0, grpc_s=2.0) == 102.0
    assert deadline.ends_at(15.0, b"1000", 100.0, grpc_s=2.0) == 101.0
    assert deadline.ends_at(1.0, None, 100.0, grpc_s=2.0) == 101.0
    assert deadline.ends_at(None, None, 100.0, grpc_s=2.0) == 102.0
    assert deadline.ends_at(None, None, 100.0) is None


def test_on_the_inbound_side_anybody_may_shorten_and_only_a_verified_peer_prolong() -> None:
    assert deadline.ends_at(15.0, None, 100.0, inbound=True, grpc_s=2.0) == 102.0
    assert deadline.ends_at(15.0, None, 100.0, inbound=True, grpc_s=200.0) == 130.0
    assert deadline.ends_at(15.0, b"60000", 100.0, inbound=True, verified=True, grpc_s=50.0) == 150.0
    assert deadline.ends_at(None, None, 100.0, inbound=True, grpc_s=200.0) == 300.0


def test_a_stream_ends_by_a_time_that_somebody_asked_for_not_by_the_default() -> None:
    assert deadline.asked_s(15.0, Timeouts(), in_route=False) is None
    assert deadline.asked_s(15.0, Timeouts(request_asked=True), in_route=False) == 15.0
    assert deadline.asked_s(3.0, Timeouts(), in_route=True) == 3.0
    assert deadline.asked_s(None, Timeouts(request_s=None, request_asked=True), in_route=False) is None


# --- Success and failure --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(17))
def test_a_trailers_only_answer_is_judged_by_its_status(status: int) -> None:
    failure = grpc.judge_head(answer(grpc_status=b"%d" % status))
    if status in (1, 2, 4, 8, 13, 14, 15):
        assert failure == Failure(None, 200, False, status)
    else:
        assert failure is None  # fine, or the caller's own mistake: NOT_FOUND, UNIMPLEMENTED, ...
    assert grpc.judge_end([(b"grpc-status", b"%d" % status)]) == failure


def test_a_head_without_a_status_says_nothing_yet() -> None:
    assert grpc.judge_head(answer(content_type=b"application/grpc")) is None
    assert grpc.status_in(answer()) is None
    assert grpc.status_in(answer(grpc_status=b"5")) == 5


@pytest.mark.parametrize("http", [500, 501, 502, 503, 504, 599])
def test_an_answer_of_something_else_than_grpc_is_judged_by_its_http_status(http: int) -> None:
    assert grpc.judge_head(answer(http)) == Failure(None, http, False, 14 if http in (502, 503, 504) else 2)


@pytest.mark.parametrize("http", [200, 302, 400, 401, 403, 404, 429, 499])
def test_no_endpoint_failed_when_the_request_was_not_wanted(http: int) -> None:
    assert grpc.judge_head(answer(http)) is None


@pytest.mark.parametrize("value", [b"", b"17", b"99", b"100", b"-1", b"1.0", b"ok", b"0x1", b"13, 0", b" 0", b"\xb2"])
def test_a_status_that_nobody_knows_is_unknown(value: bytes) -> None:
    assert grpc.status_in(answer(grpc_status=value)) == grpc.UNKNOWN
    assert grpc.status_at_end([(b"grpc-status", value)]) == grpc.UNKNOWN


def test_trailers_without_a_status_are_unknown_as_clients_have_it() -> None:
    nothing: Fields = []
    assert grpc.status_at_end(nothing) == grpc.UNKNOWN
    assert grpc.judge_end([(b"x-count", b"1")]) == Failure(None, 200, False, grpc.UNKNOWN)
    assert grpc.status_at_end([(b"Grpc-Status", b"0")]) == grpc.OK


def test_a_mesh_peer_that_did_not_take_the_call_says_so_in_the_head() -> None:
    failure = grpc.judge_head(answer(grpc_status=b"14"), untouched=True)
    assert failure == Failure(None, 200, True, 14)
    assert conditions(failure) == {RetryOn.GRPC_UNAVAILABLE, RetryOn.GATEWAY_ERROR, RetryOn.CONNECT_FAILURE}


# --- Another try ----------------------------------------------------------------------------------------------------


def ask(failure: Failure, *on: str, method: bytes = b"POST") -> float | GiveUp:
    policy = Retries(on=frozenset(map(RetryOn, on))) if on else Retries()
    return worth_another_try(
        failure,
        policy=policy,
        method=method,
        has_idempotency_key=False,
        attempt=1,
        replayable=True,
        refused_before=False,
        cut_off_before=0,
        budget=lambda: True,
        now_s=0.0,
        ends_at_s=None,
        rng=Random(1),
    )


CODES = {
    grpc.CANCELLED: "grpc-cancelled",
    grpc.DEADLINE_EXCEEDED: "grpc-deadline-exceeded",
    grpc.RESOURCE_EXHAUSTED: "grpc-resource-exhausted",
    grpc.INTERNAL: "grpc-internal",
    grpc.UNAVAILABLE: "grpc-unavailable",
}


@pytest.mark.parametrize(("status", "condition"), CODES.items())
def test_who_names_a_status_means_post_as_well(status: int, condition: str) -> None:
    failure = Failure(None, 200, False, status)
    assert isinstance(ask(failure, condition), float)
    for other in set(CODES.values()) - {condition}:
        assert ask(failure, other) is GiveUp.POLICY


@pytest.mark.parametrize("status", range(17))
def test_the_default_policy_repeats_no_call_that_may_have_been_taken(status: int) -> None:
    assert isinstance(ask(Failure(None, 200, False, status)), GiveUp)


def test_the_default_policy_repeats_what_was_provably_not_taken() -> None:
    assert ask(Failure(None, 200, True, grpc.UNAVAILABLE)) == 0.0
    assert ask(grpc.failure_of(errors.CONNECT_FAILED, untouched=True)) == 0.0
    assert ask(grpc.failure_of(errors.UPSTREAM_REFUSED, untouched=True)) == 0.0


def test_unavailable_is_what_503_is_and_still_not_safe_for_post() -> None:
    assert ask(Failure(None, 200, False, grpc.UNAVAILABLE), "gateway-error") is GiveUp.METHOD
    assert isinstance(ask(Failure(None, 200, False, grpc.UNAVAILABLE), "gateway-error", method=b"PUT"), float)


@pytest.mark.parametrize(
    ("fault", "condition"),
    [
        (errors.UPSTREAM_RESET, "grpc-unavailable"),
        (errors.UPSTREAM_CLOSED, "grpc-unavailable"),
        (errors.CONNECT_FAILED, "grpc-unavailable"),
        (errors.UPSTREAM_REFUSED, "grpc-unavailable"),
        (errors.TRY_TIMEOUT, "grpc-deadline-exceeded"),
    ],
)
def test_a_condition_covers_what_the_caller_would_see_however_it_came_about(fault: Fault, condition: str) -> None:
    assert isinstance(ask(grpc.failure_of(fault, untouched=fault.upstream_untouched), condition), float)
    plain = Failure(fault, None, fault.upstream_untouched)
    assert ask(plain, condition) is GiveUp.POLICY  # a request that is not gRPC's


@pytest.mark.parametrize("fault", [row for row in FAULTS if row.flag not in {"UF", "UC", "UR", "UPE", "UT", "FI"}])
def test_faults_of_our_own_and_of_the_client_are_never_worth_another_try(fault: Fault) -> None:
    assert ask(grpc.failure_of(fault, untouched=True), *(condition.value for condition in RetryOn)) is GiveUp.POLICY


# --- Our own answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (errors.NO_ENDPOINT, 14),
        (errors.CONNECT_FAILED, 14),
        (errors.CONNECT_TIMEOUT, 14),
        (errors.UPSTREAM_CLOSED, 14),
        (errors.UPSTREAM_RESET, 14),
        (errors.UPSTREAM_PROTOCOL, 14),
        (errors.REQUEST_TIMEOUT, 4),
        (errors.TRY_TIMEOUT, 4),
        (errors.NO_ROUTE, 12),
        (errors.MISDIRECTED, 12),
        (errors.NO_CLUSTER, 14),
        (errors.INVALID_BACKEND, 14),
        (errors.OVERFLOW, 14),
        (errors.QUEUE_TIMEOUT, 14),
        (errors.RETRY_LIMIT, 14),
        (errors.RATE_LIMITED, 8),
        (errors.DENIED, 7),
        (errors.CLIENT_GONE, 1),
        (errors.MALFORMED, 13),
        (errors.HEAD_TIMEOUT, 4),
        (errors.BODY_TIMEOUT, 4),
        (errors.BODY_TOO_BIG, 8),
        (errors.TARGET_TOO_LONG, 8),
        (errors.HEAD_TOO_BIG, 8),
        (errors.NOT_IMPLEMENTED, 12),
        (errors.VERSION_UNSUPPORTED, 2),
        (Fault("URX,UC", errors.Side.UPSTREAM, 503, False, ""), 14),
        (Fault("FI", errors.Side.SELF, 403, True, ""), 7),
    ],
)
def test_every_fault_has_its_code(fault: Fault, status: int) -> None:
    assert grpc.status_of(fault) == status


def test_no_row_of_the_table_is_success() -> None:
    assert all(0 < grpc.status_of(fault) <= 16 for fault in FAULTS)


def test_the_log_has_the_endpoints_word_or_else_ours() -> None:
    assert grpc.final_status(5, None, 200) == "5"
    assert grpc.final_status(None, errors.NO_ENDPOINT, 200) == "14"
    assert grpc.final_status(None, None, 404) == "12"
    assert grpc.final_status(14, errors.RETRY_LIMIT, 200) == "14"
    assert grpc.final_status(0, errors.CLIENT_GONE, 200) == "1"


@pytest.mark.parametrize(
    ("sentence", "encoded"),
    [
        ("orders.shop has no endpoint", b"orders.shop has no endpoint"),
        ("100% sure\n", b"100%25 sure%0A"),
        ("\N{SNOWMAN}\x7f\t", b"%E2%98%83%7F%09"),
        ("", b""),
    ],
)
def test_messages_are_percent_encoded(sentence: str, encoded: bytes) -> None:
    assert grpc.message(sentence) == encoded


@given(st.text(max_size=2_000))
def test_a_message_is_plain_bounded_and_means_the_same(sentence: str) -> None:
    from urllib.parse import unquote_to_bytes

    encoded = grpc.message(sentence)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert len(encoded) <= 3 * grpc.MAX_MESSAGE_BYTES
    meant = sentence.encode("utf-8", "replace")
    assert meant.startswith(unquote_to_bytes(encoded))
    assert len(meant) > grpc.MAX_MESSAGE_BYTES or unquote_to_bytes(encoded) == meant
