"""Cut a request body that comes too slowly, whether it stops or trickles.

Asked by `proxy/upload.py` before it waits for the client. Waiting has an account: it begins with the grace, every byte
pays 1/rate seconds into it up to the grace, every second of waiting takes one out. So nothing for the whole grace is
too slow, a byte now and then is too slow after the grace, and a fast beginning buys no more than the grace. Only time
in which we waited for the client counts: a body that we stopped reading, because the endpoint is slow, ages no further.
"""


class MinRate:
    """The account of one body.

    Args:
        bytes_per_s: Slowest rate; 0 asks only for a byte within every grace.
        grace_s: Most seconds of waiting in the account.

    Attributes:
        left_s: How long to wait for the next bytes before the body is late; never below 0.
    """

    __slots__ = ("_bytes_per_s", "_grace_s", "left_s")

    def __init__(self, bytes_per_s: float, grace_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._grace_s = grace_s
        self.left_s = grace_s

    def came(self, size_bytes: int, waited_s: float) -> None:
        """After `waited_s` seconds of waiting `size_bytes` came, at least one."""
        earned_s = size_bytes / self._bytes_per_s if self._bytes_per_s else self._grace_s
        self.left_s = min(max(self.left_s - waited_s, 0.0) + earned_s, self._grace_s)
