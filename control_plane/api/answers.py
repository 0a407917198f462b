"""The two shapes of every answer: a JSON object, or {"error": {"message", "hint", "details", "kind"}}.

`ApiError` is how a handler or the guard refuses; it becomes an error answer in one place. A traceback, a path of this
machine's code or an exception's repr never gets into one.
"""

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request that is refused by the API itself (the mesh's own refusals are `facade.Refused`).

    Attributes:
        status: HTTP status.
        message, hint: What is wrong; what to do about it ("" when the message says it all).
        details: Further lines, each complete.
        kind: One word that programs can rely on.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        details: Sequence[str] = (),
        kind: str = "request",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.details = list(details)
        self.kind = kind
        self.headers = dict(headers or {})

    def answer(self) -> JSONResponse:
        """The error as an HTTP response."""
        body = {"message": self.message, "hint": self.hint, "details": self.details, "kind": self.kind}
        return JSONResponse({"error": body}, self.status, headers=self.headers)


def too_slow() -> ApiError:
    """The answer when a bound of time was reached."""
    return ApiError(504, "the request took too long", hint="try again; see the control plane's log", kind="slow")


def bug() -> ApiError:
    """The answer when the program failed; what failed is for the operator's log alone."""
    return ApiError(500, "the control plane failed to answer", hint="see its log", kind="internal")
