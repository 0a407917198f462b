"""`v1=90 v2=10`: the weights of `meshctl traffic set`, checked before anything is sent. Pure."""

import difflib
from collections.abc import Sequence

from control_plane.cli.complaint import USAGE, Complaint

LARGEST = 1_000_000  # Gateway API's bound of a backendRef's weight


def parse_weights(arguments: Sequence[str]) -> dict[str, int]:
    """The weights that `arguments` give, in their order; `v1=90%` is the same as `v1=90`.

    Raises:
        Complaint: Status 2, naming the argument: no `=`, not a whole number in 0..1000000, a name twice.
    """
    weights: dict[str, int] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise _wrong(f"{argument!r} is not a weight")
        digits = value.removesuffix("%")
        # Seven digits bound the conversion; str.isdigit alone lets other scripts' digits through.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 7 and int(digits) <= LARGEST):
            raise _wrong(f"{argument!r}: a weight is a whole number from 0 to {LARGEST}")
        if name in weights:
            raise _wrong(f"{name!r} has two weights")
        weights[name] = int(digits)
    if not weights:
        raise _wrong("no weights given")
    # All of these may be 0: others keep their weights. Whether anything is left, only the control plane knows.
    return weights


def shares(weights: dict[str, int]) -> dict[str, float]:
    """Each name's part of the traffic, in percent; all 0.0 when the sum is 0."""
    total = sum(weights.values())
    return {name: 100.0 * weight / total if total else 0.0 for name, weight in weights.items()}


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"


def _wrong(message: str) -> Complaint:
    return Complaint(message, hint="for example: meshctl traffic set orders v1=90 v2=10", status=USAGE)
