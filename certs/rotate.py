"""When to renew a certificate, and when to try again after a failure.

Pure: times and chance are arguments. The sidecar's control client asks for its SVID, the control plane for its own.
Certificates are renewed at half of their life, early and spread out, so that an issuer that is away for hours hurts
nobody, and a thousand sidecars that started together do not come back together.
"""

from random import Random

RENEW_RATIO = 0.5  # Istio and Linkerd renew at half to two thirds of a 24 h leaf
JITTER_RATIO = 0.1  # of the half: between 45 % and 55 % of the life
FIRST_RETRY_S = 1.0
MAX_RETRY_S = 300.0
RETRIES_LEFT = 10  # near the end, keep at least about this many tries


def renew_at_s(not_before_s: float, not_after_s: float, rng: Random) -> float:
    """The moment to renew a certificate, on the clock of the arguments; at once for one without a life.

    Never before `not_before_s`, and after it only by 45 % to 55 % of the life.
    """
    life_s = max(0.0, not_after_s - not_before_s)
    return not_before_s + life_s * RENEW_RATIO * rng.uniform(1.0 - JITTER_RATIO, 1.0 + JITTER_RATIO)


def retry_after_s(failures: int, left_s: float, rng: Random) -> float:
    """Seconds to wait after the `failures`-th failed renewal in a row, counted from 1.

    Doubles from one second to five minutes; the shorter the life that is left, the more often, down to once a second.
    The upper half of that is drawn, so that many who failed together do not come back together.

    Args:
        failures: >= 1.
        left_s: Seconds until the certificate ends; zero or less when it has.

    Returns:
        Between 0.5 and MAX_RETRY_S.
    """
    grown_s = FIRST_RETRY_S * 2.0 ** min(failures - 1, 30)  # 30: beyond MAX_RETRY_S, below overflow
    urgent_s = max(FIRST_RETRY_S, left_s / RETRIES_LEFT) if left_s > 0 else MAX_RETRY_S
    ceiling_s = min(MAX_RETRY_S, grown_s, urgent_s)
    return rng.uniform(ceiling_s / 2, ceiling_s)
