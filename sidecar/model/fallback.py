"""What callers get instead of a failure; frozen values."""

from dataclasses import dataclass

DEGRADED = frozenset((502, 503, 504))  # what says that nobody could answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A small answer that is always the same, for statuses that a request would otherwise end with.

    Attributes:
        statuses: The service's own answers and the sidecar's, when there is no further try.
        status, content_type, body: The answer.
    """

    statuses: frozenset[int] = DEGRADED
    status: int = 200
    content_type: str = "application/json"
    body: str

    @property
    def reads_answers(self) -> bool:
        """It takes the place of answers that are no failure to anybody else."""
        return min(self.statuses) < 500
