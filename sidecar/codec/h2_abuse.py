"""What one HTTP/2 connection may ask of us without paying for it: the counters, and where they end.

Asked by h2_mux.py for each frame, before the h2 library sees it, which has no such limits (reliability.md section 1).
Pure: time is an argument. Each method counts one thing and returns a `Note` once that was too often; the caller ends
the connection. Limits are rates, or relative to useful work, so that a connection between sidecars may live for weeks.
"""

from sidecar.codec.contract import Note

RESETS_CALM = 100  # premature resets above what leaks: no new streams (GOAWAY ENHANCE_YOUR_CALM)
RESETS_ABORT = 250  # the connection ends (Envoy measured: about 250)
RESETS_LEAK_PER_S = 10.0  # timeouts and cancelled calls of an honest client
EARLY_REFUSED_MAX = 1_000  # streams above the limit of a client that cannot have read our SETTINGS yet

EMPTY_DATA_MAX = 100  # in a row, without END_STREAM
SMALL_DATA_BYTES = 64  # a frame below costs more to hold than it carries
SMALL_DATA_MAX = 25_600  # held, not yet credited; mux.py makes larger ones of them

CONTROL_PER_S = 100.0  # PING and SETTINGS, and what answers ours
CONTROL_BURST = 200.0
SETTINGS_MAX_ENTRIES = 32  # RFC 9113 and its extensions know 8
CONTROL_REPLIES_MAX_BYTES = 64 * 1024  # made by reading, not yet taken: the peer does not read

IGNORED_PER_STREAM = 100  # PRIORITY, unknown frames, late RST_STREAM: times (1 + streams begun)
WINDOW_UPDATES_SPARE = 100
WINDOW_UPDATES_PER_DATA = 10  # as Envoy; Go sends 8 for each 16 KiB that its user reads
DATA_BYTES = 16_384  # a larger frame counts as so many of these
WINDOW_UPDATES_PER_STREAM = 2  # as Envoy: clients that open a stream's window at once

CONTINUATIONS_MAX = 16  # 16 frames of 16 KiB hold four times the largest head
HEADER_BLOCK_MAX_BYTES = 60 * 1024


class Abuse:
    """The counters of one connection.

    Attributes:
        streams: Begun so far, whoever began them.
    """

    __slots__ = ("_control", "_control_s", "_early", "_empty", "_ignored", "_resets", "_resets_s", "_small",
                 "_updates", "_updates_allowed", "streams")  # fmt: skip

    def __init__(self) -> None:
        self.streams = 0
        self._resets = 0.0
        self._resets_s = 0.0
        self._early = 0
        self._empty = 0
        self._small = 0
        self._control = CONTROL_BURST
        self._control_s = 0.0
        self._ignored = 0
        self._updates = 0
        self._updates_allowed = WINDOW_UPDATES_SPARE

    def stream_begun(self) -> None:
        self.streams += 1
        self._updates_allowed += WINDOW_UPDATES_PER_STREAM

    def stream_done(self) -> None:
        """One that was answered in whole takes the sting out of one that was not."""
        if self._resets:
            self._resets = max(0.0, self._resets - 1.0)

    def data_sent(self, size: int) -> None:
        """DATA is what peers measure their windows and round trips by."""
        self._updates_allowed += WINDOW_UPDATES_PER_DATA * (1 + size // DATA_BYTES)
        if self._control < CONTROL_BURST:
            self._control += 1.0

    def premature_reset(self, now_s: float) -> float:
        """A stream began and came to nothing: the peer reset it, or forced us to. Returns how many that makes."""
        leaked = (now_s - self._resets_s) * RESETS_LEAK_PER_S
        self._resets_s = now_s
        self._resets = max(0.0, self._resets - leaked) + 1.0
        return self._resets

    def refused_early(self) -> bool:
        """A stream above the limit, from a client that did not acknowledge the limit yet. False: that was too often."""
        self._early += 1
        return self._early <= EARLY_REFUSED_MAX

    def control_frame(self, now_s: float) -> Note | None:
        self._control = min(CONTROL_BURST, self._control + (now_s - self._control_s) * CONTROL_PER_S) - 1.0
        self._control_s = now_s
        if self._control >= 0.0:
            return None
        return Note("control-flood", f"more than {CONTROL_PER_S:g} PING and SETTINGS frames a second")

    def ignored_frame(self) -> Note | None:
        self._ignored += 1
        if self._ignored <= IGNORED_PER_STREAM * (1 + self.streams):
            return None
        return Note("ignored-flood", f"{self._ignored} PRIORITY and other frames that mean nothing")

    def window_update(self) -> Note | None:
        self._updates += 1
        if self._updates <= self._updates_allowed:
            return None
        return Note("window-update-flood", f"{self._updates} WINDOW_UPDATE frames, far more than DATA frames were sent")

    def data_frame(self, size: int, *, end: bool) -> Note | None:
        """A DATA frame with `size` body bytes came."""
        if size or end:
            self._empty = 0
            return None
        self._empty += 1
        if self._empty < EMPTY_DATA_MAX:
            return None
        return Note("empty-data", f"{EMPTY_DATA_MAX} empty DATA frames in a row")

    def small_data(self) -> Note | None:
        """A small DATA frame is handed on, and held until its credit comes back."""
        self._small += 1
        if self._small <= SMALL_DATA_MAX:
            return None
        return Note("tiny-data", f"more than {SMALL_DATA_MAX} small DATA frames wait to be forwarded")

    def small_released(self, count: int) -> None:
        self._small -= count
