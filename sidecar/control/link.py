"""Reach the control plane: TCP, TLS 1.3, and the proof that it is the control plane; or say in one line why not.

client.py dials with this for a join (no certificate yet) and for the long-lived stream. trio's SSLStream is good enough
here: this is not the data path. Every failure is a `Trouble`: what is wrong, and what to do about it.

Refuses a peer that is not of the trusted roots, whose SPIFFE ID is not exactly the control plane's, or that does not
speak this wire, before anything is sent to it: a join token never reaches somebody else.
"""

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import trio

from certs import names
from sidecar.control.wire import ALPN, HANDSHAKE_S
from sidecar.model.bootstrap import HostPort
from sidecar.transport import tls

DIAL_S = 5.0

_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, ..._NOT_YET_VALID
_JOIN_AGAIN = "put a new join file of that control plane in its place: meshctl token create"

TlsStream = trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no stream (any more).

    Attributes:
        sentence: What is wrong, without a full stop.
        hint: What to do; "" when the sentence says it.
        final: Trying again cannot help; somebody must do something first.
    """

    sentence: str
    hint: str = ""
    final: bool = False

    def __str__(self) -> str:
        return f"{self.sentence}; {self.hint}" if self.hint else self.sentence


class TroubleError(Exception):
    """Carries a Trouble to whoever decides when to try again."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


def one_line(text: str, longest: int = 300) -> str:
    """What a peer wrote, fit for a log line or a terminal."""
    printable = "".join(char if char.isprintable() else " " for char in text[: longest + 1]).strip()
    return printable if len(printable) <= longest else f"{printable[: longest - 3]}..."


async def connect(address: HostPort, context: ssl.SSLContext, roots_from: str) -> TlsStream:
    """A stream to the verified control plane; the caller closes it.

    Args:
        context: From tls.client_context. Without a trust domain of its own (a join) it takes that of its roots.
        roots_from: Where the trusted roots come from, for the message about a wrong one: `./join.pem`.

    Raises:
        TroubleError: In at most DIAL_S + HANDSHAKE_S.
    """
    where = f"the control plane at {address}"
    with trio.move_on_after(DIAL_S):
        try:
            tcp = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, UnicodeError) as failure:  # UnicodeError: a name that is none
            sentence = f"{where} cannot be reached ({_reason(failure)})"
            raise TroubleError(Trouble(sentence, "is it running, and is control_plane.address right?")) from None
        return await _secured(tcp, context, where, roots_from)
    raise TroubleError(
        Trouble(f"{where} did not accept a connection within {DIAL_S:g} s", "is control_plane.address right?")
    )


async def _secured(tcp: trio.SocketStream, context: ssl.SSLContext, where: str, roots_from: str) -> TlsStream:
    _pin_trust_domain(context)
    # A peer that ends without close_notify (killed) is an end like any other: frames say where messages end.
    stream: TlsStream = trio.SSLStream(tcp, context, https_compatible=True)
    trouble = Trouble(f"{where} did not finish the TLS handshake within {HANDSHAKE_S:g} s")
    try:
        with trio.fail_after(HANDSHAKE_S):
            await stream.do_handshake()
        if stream.selected_alpn_protocol() != ALPN:
            trouble = Trouble(f"{where} does not speak {ALPN}", "is that its stream port (15012)?")
        else:
            # SSLStream hands context, getpeercert() and the like through to its SSLObject.
            tls.verify_control_plane(cast("ssl.SSLObject", stream))
            return stream
    except trio.BrokenResourceError as broken:
        trouble = why_broken(broken, where, roots_from)
    except tls.PeerRefused as refused:
        trouble = Trouble(f"{where} is not one to talk to: {one_line(str(refused))}")
    except trio.TooSlowError:
        pass
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    await trio.aclose_forcefully(stream)
    raise TroubleError(trouble)


def why_broken(broken: BaseException, where: str, roots_from: str) -> Trouble:
    """What a TLS stream that broke means; `broken` is trio's BrokenResourceError."""
    cause = broken.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in (_EXPIRED, _NOT_YET):
            return Trouble(
                f"{where} shows a certificate that does not hold now ({cause.verify_message})",
                "compare the clocks of both machines",
            )
        return Trouble(f"{where} is not of the trust root in {roots_from} ({cause.verify_message})", _JOIN_AGAIN)
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "unknown").lower().replace("_", " ")
        if "alert" in reason:
            said = reason.partition("alert ")[2] or reason
            return Trouble(f"{where} refuses this sidecar's certificate ({said})", _JOIN_AGAIN)
        return Trouble(f"{where} does not speak TLS 1.3 ({reason})", "is that its stream port (15012)?")
    if isinstance(cause, OSError):
        return Trouble(f"the connection to {where} broke ({_reason(cause)})")
    return Trouble(f"the connection to {where} broke")


def _pin_trust_domain(context: ssl.SSLContext) -> None:
    """Before the first join our trust domain is the one that the trusted roots name, if they agree."""
    if not isinstance(context, tls.MeshContext) or context.trust_domain:
        return
    found = {value for root in context.get_ca_certs() for kind, value in _alternatives(root) if kind == "URI"}
    if len(found) == 1:
        try:
            context.trust_domain = names.parse(found.pop()).trust_domain
        except names.SpiffeIdError:
            pass  # a root of another make; chain and path are still checked


def _alternatives(root: object) -> Iterator[tuple[str, str]]:
    found = root.get("subjectAltName", ()) if isinstance(root, dict) else ()
    yield from found


def _reason(failure: BaseException) -> str:
    """The system's words for a failure; trio wraps those of single addresses in a group."""
    if isinstance(failure, BaseExceptionGroup):
        return _reason(failure.exceptions[0])
    if isinstance(failure, OSError) and failure.errno is not None and failure.errno > 0:
        return os.strerror(failure.errno).lower()
    if failure.__cause__ is not None:
        return _reason(failure.__cause__)
    return (getattr(failure, "strerror", None) or str(failure) or type(failure).__name__).lower()
