"""A stream to the control plane with our identity on it, joining first when that is due.

client.py calls it before each session. link.py does the reaching, identity.py knows whether to join; here is the order:
a join on a connection of its own, without a certificate, then a new connection that shows the one that it brought.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import trio

from sidecar.control.identity import IdentityKeeper
from sidecar.control.join_file import JoinFile
from sidecar.control.link import Trouble, TroubleError, connect, why_broken
from sidecar.control.messages import Message
from sidecar.control.session import ask, not_understood
from sidecar.control.wire import ALPN, WireError
from sidecar.model.bootstrap import ControlPlaneConfig, IdentityFiles
from sidecar.transport import tls
from sidecar.transport.identity import Identity


@dataclass(frozen=True, slots=True)
class Link:
    """A stream to a verified control plane, and where the roots come from that it was held against."""

    stream: trio.abc.Stream
    roots_from: str


class Dialer:
    """See module."""

    def __init__(
        self,
        config: ControlPlaneConfig,
        keeper: IdentityKeeper,
        files: IdentityFiles | None,
        complain: Callable[[Trouble], None],
    ) -> None:
        """`files` given: the identity is somebody else's business, and nothing is joined."""
        self._config = config
        self._keeper = keeper
        self._files = files
        self._complain = complain
        self._where = f"the control plane at {config.address}"

    async def dial(self) -> Link:
        """A stream to say hello on; the caller closes it. Raises TroubleError."""
        if self._files is None:
            await self._join_if_due()
        who = self._keeper.usable
        if who is None:
            raise TroubleError(Trouble("there is no certificate that is valid now", "renew the files under `identity`"))
        roots_from = str(self._files.bundle) if self._files is not None else "the cached identity of this sidecar"
        context = _context(who, who.bundle_pem, roots_from)
        return Link(await connect(self._config.address, context, roots_from), roots_from)

    async def _join_if_due(self) -> None:
        file = self._keeper.join_due()
        if file is None:
            return
        try:
            await self._join(file)
        except TroubleError as problem:
            if self._keeper.usable is None:
                raise
            self._complain(problem.trouble)  # the old identity is good enough to go on with

    async def _join(self, file: JoinFile) -> None:
        roots_from = str(self._config.join_file)
        await self._keeper.prepare()
        stream = await connect(self._config.address, _context(None, file.bundle_pem, roots_from), roots_from)

        async def ask_here(question: Message) -> Message:
            return await ask(stream, question, self._where)

        try:
            await self._keeper.join(ask_here, file)
        except trio.BrokenResourceError as broken:
            raise TroubleError(why_broken(broken, self._where, roots_from)) from None
        except WireError as problem:
            raise TroubleError(not_understood(self._where, problem)) from None
        finally:
            await trio.aclose_forcefully(stream)


def _context(who: Identity | None, bundle_pem: bytes, roots_from: str) -> ssl.SSLContext:
    try:
        return tls.client_context(who, bundle_pem, [ALPN])
    except tls.IdentityError as problem:
        raise TroubleError(Trouble(f"{roots_from}: {problem}")) from None
