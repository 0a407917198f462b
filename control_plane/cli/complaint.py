"""How a command fails: one sentence, perhaps details, one hint, an exit status. Printed in one place (`run`).

Used by both commands of the control plane. Data goes to stdout, everything here to stderr; a traceback is shown only
when `--debug` asks for it.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence

FAILED = 1
USAGE = 2  # wrong words: unknown names and two candidates included
TIMED_OUT = 3
FINDINGS = 79  # the command worked and found something to mend (istioctl's status)
INTERRUPTED = 130

EXTRA = frozenset({"hypercorn", "starlette", "httpx2"})  # what the extra `control-plane` adds to a sidecar


class Complaint(Exception):  # noqa: N818 - it is not always an error: 3 and 79 are answers
    """A command that cannot go on.

    Attributes:
        message: What is wrong and where, one sentence without a full stop.
        hint: What to do, or "".
        details: Lines between the two, each complete.
        status: The process's exit status.
    """

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = (), status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)
        self.status = status

    def __str__(self) -> str:
        lines = [f"error: {self.message}", *(f"  {line}" for line in self.details)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a typer application and return the process's exit status; nothing it raises gets past here.

    Args:
        command: The application; ends by SystemExit, as typer's do, or by raising.
        debug: Show tracebacks.
    """
    try:
        try:
            command()
        finally:
            sys.stdout.flush()  # here, where a reader that has gone is no traceback
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else FAILED
    except Complaint as complaint:
        if debug:
            traceback.print_exc()
        print(complaint, file=sys.stderr)
        return complaint.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`) has what it wanted. Python would complain again when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as exc:  # the last line of defence: a bug is one line, with a way to see more
        if debug:
            traceback.print_exc()
        print(_unexpected(leaves(exc)[0]), file=sys.stderr)
        return FAILED
    return 0


def _unexpected(exc: BaseException) -> Complaint:
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").partition(".")[0] in EXTRA:
        return Complaint(f"this needs {exc.name}, which is not there", hint="pip install 'sidecar-mesh[control-plane]'")
    said = " ".join(str(exc).split()) or "no message"
    hint = "run it again with --debug and report what it prints"
    return Complaint(f"internal error: {type(exc).__name__}: {said}", hint=hint)


def leaves(exc: BaseException) -> list[BaseException]:
    """What really went wrong: the exceptions inside nested groups, in order; `exc` itself when it is no group."""
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in leaves(inner)]
    return [exc]
