"""What an encoder's table is spent on: fields that repeat, never those that are secret or differ each time.

A table is first in, first out, and small: each entry that is not used again costs one that would have been. So a field
is learnt when its name had the same value a short while ago. That needs no list of good names, and settles itself: of
a name with few values all are soon in the table, one with thousands of values hardly ever gets in.
"""

# Never in any table, so that nobody can guess them byte by byte (RFC 7541 section 7.1).
SECRET = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))
# Not worth a look: another value in each message, or hardly ever the same one again while it would be of use. Not so
# Date, which is the same for all answers of a second.
UNIQUE = frozenset(
    (
        *(b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid"),
        *(b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context", b"idempotency-key"),
        *(b"content-length", b"content-range", b"content-md5", b"digest", b"repr-digest", b"range", b"age"),
        *(b"expires", b"last-modified", b"etag", b"location"),
        *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
    )
)

NAMES_MAX = 64  # whose values are remembered; when there are more, all are forgotten
NAME_MAX_BYTES = 64
VALUES_MAX = 4  # of each name


class Recent:
    """The last values of each name, as hashes: nothing that a peer sent is held for it but names.

    Two values of one hash make the encoder learn a field too early, which is harmless.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[bytes, list[int]] = {}

    def seen(self, name: bytes, value: bytes) -> bool:
        """Whether `value` is among the last VALUES_MAX of `name`; from now on it is."""
        mark = hash(value)
        marks = self._values.get(name)
        if marks is None:
            if len(name) <= NAME_MAX_BYTES:
                if len(self._values) >= NAMES_MAX:
                    self._values.clear()
                self._values[name] = [mark]
            return False
        if mark in marks:
            return True
        marks.append(mark)
        if len(marks) > VALUES_MAX:
            del marks[0]
        return False
