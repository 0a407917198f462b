"""meshctl's way to the control plane: one HTTP call in, a JSON object or a complaint out.

httpx2 is imported when the first call is made, so that help and offline commands start quickly. Proxy variables of the
environment are not followed: the token must not travel to a proxy that somebody set for the web.
"""

import ipaddress
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from control_plane.cli.complaint import FAILED, TIMED_OUT, USAGE, Complaint
from control_plane.cli.output import Json

if TYPE_CHECKING:
    import httpx2

ANSWER_S = 35.0  # a little more than the API's own bound, whose answer says more than ours
CONNECT_S = 5.0

_STATUS_OF_KIND = {"not_found": USAGE, "ambiguous": USAGE, "path": USAGE, "slow": TIMED_OUT}


class Client:
    """Calls to one control plane. Close it, or use it in a `with`."""

    def __init__(self, server: str, token: str | None, token_place: str) -> None:
        """Make ready; connects at the first call.

        Args:
            server: Base URL as `server_url` gives it.
            token: The bearer token, or None when none was found.
            token_place: Where the token came from, or where it was looked for; for messages.
        """
        self.server = server
        self._token = token
        self._token_place = token_place
        self._http: httpx2.Client | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._http.close()

    def get(self, path: str, params: Mapping[str, str] | None = None, *, timeout_s: float = ANSWER_S) -> Json:
        """GET `path`; see `call`."""
        return self.call("GET", path, params=params, timeout_s=timeout_s)

    def post(self, path: str, body: Json) -> Json:
        """POST `body` as JSON; see `call`."""
        return self.call("POST", path, body=body)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Json:
        """Make one call and return the answer's JSON object.

        Raises:
            Complaint: Nobody there, refused, too slow, or not a control plane. The status follows the reason.
        """
        import httpx2

        http = self._opened()
        try:
            answer = http.request(method, path, params=params, json=body, timeout=_timeout(timeout_s))
        except httpx2.ConnectTimeout as exc:
            raise Complaint(f"{self.server} does not answer (waited {CONNECT_S:g} s)", status=TIMED_OUT) from exc
        except httpx2.ConnectError as exc:
            raise self._nobody(exc) from exc
        except httpx2.TimeoutException as exc:
            raise Complaint(f"no answer from {self.server} within {timeout_s:g} s", status=TIMED_OUT) from exc
        except httpx2.HTTPError as exc:
            raise Complaint(
                f"the connection to {self.server} broke: {str(exc) or type(exc).__name__}",
                hint="whether the change was made is unknown; look before you repeat it" if method != "GET" else "",
            ) from exc
        return self._object(answer)

    def _opened(self) -> "httpx2.Client":
        import httpx2

        if self._http is None:
            headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
            self._http = httpx2.Client(base_url=self.server, headers=headers, trust_env=False)
            _warn_of_clear_text(self.server)
        return self._http

    def _nobody(self, exc: Exception) -> Complaint:
        reason = str(exc).rpartition("] ")[2].lower()
        if "refused" in reason:
            return Complaint(f"no control plane at {self.server} (start it: control-plane serve, or pass --server)")
        return Complaint(f"cannot reach {self.server}: {reason or 'connection failed'}", hint="see --server")

    def _object(self, answer: "httpx2.Response") -> Json:
        try:
            got = answer.json()
        except ValueError:
            got = None
        if not isinstance(got, dict) or (answer.is_error and not isinstance(got.get("error"), dict)):
            kind = answer.headers.get("content-type", "no content type")
            raise Complaint(
                f"what answers at {self.server} is not the API of a control plane (HTTP {answer.status_code}, {kind})",
                hint="the API's port is 15010 by default; see --server",
            )
        if answer.is_error:
            raise self._refusal(got["error"])
        return got

    def _refusal(self, error: Json) -> Complaint:
        kind = str(error.get("kind", ""))
        if kind == "token" and self._token is None:
            return Complaint(
                f"the control plane at {self.server} wants a token, and none was found",
                details=[f"looked at {self._token_place}"],
                hint="pass --token-file DIR/api.token, where DIR is the data folder of control-plane serve",
            )
        if kind == "token":
            return Complaint(
                f"the control plane at {self.server} does not accept the token in {self._token_place}",
                hint="pass --token-file DIR/api.token, where DIR is the data folder of that control plane",
            )
        details = error.get("details") or []
        return Complaint(
            str(error.get("message", "refused")),
            hint=str(error.get("hint", "")),
            details=[str(line) for line in details],
            status=_STATUS_OF_KIND.get(kind, FAILED),
        )


def server_url(text: str) -> str:
    """The base URL that `--server` means; `127.0.0.1:15010` is `http://127.0.0.1:15010`.

    Raises:
        Complaint: Status 2; not a URL of a server.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        usable = usable and parts.port != 0 and not parts.query and not parts.username and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise Complaint(f"--server {text!r} is not an address such as http://127.0.0.1:15010", status=USAGE)
    return url.rstrip("/")


def path(*parts: str) -> str:
    """`/v1/...` from its parts, each quoted."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _timeout(seconds: float) -> Any:  # noqa: ANN401 - httpx2 is imported lazily
    import httpx2

    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_S))


def _warn_of_clear_text(server: str) -> None:
    parts = urlsplit(server)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if parts.scheme == "http" and not loopback:
        print(f"warning: the API token travels to {host} unencrypted; a tunnel (ssh -L) hides it", file=sys.stderr)
