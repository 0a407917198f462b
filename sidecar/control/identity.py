"""Where this sidecar's identity comes from, and how it stays fresh: join, then renewal at half-life.

client.py asks before each connection whether to join, and runs `keep_fresh` beside each session. Key and signing
request come from a short-lived child (`python -m certs.request`), so that this process never loads an X.509 library.
An identity in files of somebody else is not kept here but watched by transport/identity_files.py.
A new identity is tried out against itself (Identity.from_pem) before it takes the place of the old one.

Refuses to give up an identity for a worse one: whatever fails, the old one stays until it ends.
"""

import math
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import trio

from certs.bundle import KEY_REQUEST_ARGUMENTS, KeyRequest, PemError, key_request
from certs.loopback import IdentityError
from certs.rotate import renew_at_s, retry_after_s
from sidecar.control.join_file import JoinFile, read_join_file
from sidecar.control.link import Trouble, TroubleError, one_line
from sidecar.control.messages import Bundle, Cert, Error, Join, Message, Renew, Rotate
from sidecar.errors import ConfigError
from sidecar.transport.identity import Identity

KEY_S = 30.0  # a child with a cold disk cache on a busy machine
ANSWER_S = 15.0
LOOK_S = 60.0  # a wall clock may jump; nobody sleeps longer than this towards a moment on it

MakeRequest = Callable[[], Awaitable[KeyRequest]]
Ask = Callable[[Message], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def make_key_request() -> KeyRequest:
    """A new key and signing request from the child. Raises TroubleError."""
    with trio.move_on_after(KEY_S):
        child = await trio.run_process(
            [sys.executable, *KEY_REQUEST_ARGUMENTS], capture_stdout=True, capture_stderr=True, check=False
        )
        try:
            if child.returncode == 0:
                return key_request(child.stdout)
            said = one_line(child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
        except PemError as problem:
            said = str(problem)
        raise TroubleError(Trouble(f"no key could be made ({said or f'status {child.returncode}'})"))
    raise TroubleError(Trouble(f"no key could be made within {KEY_S:g} s", "is the machine overloaded?"))


class IdentityKeeper:
    """The identity in use and how it is got again.

    Attributes:
        identity: None before the first join.
        joined_with: Digest of the join file that it was got with; a join file with another digest means: join again.
        renew_at_s: When a renewal is due, unix seconds.
        trouble: Why the last join or renewal failed; None when it did not.
    """

    def __init__(
        self,
        join_file: Path | None,
        changed: Callable[[Identity], None],
        complain: Callable[[Trouble], None],
        *,
        rng: Random,
        now_unix: Callable[[], float],
        make_request: MakeRequest = make_key_request,
    ) -> None:
        self.identity: Identity | None = None
        self.joined_with = ""
        self.renew_at_s = math.inf
        self.trouble: Trouble | None = None
        self._join_file = join_file
        self._changed = changed
        self._complain = complain
        self._rng = rng
        self._now_unix = now_unix
        self._make_request = make_request
        self._request: KeyRequest | None = None
        self._refusal: tuple[str, Trouble] | None = None  # digest of a join file, and why it is good for nothing
        self._rotate = trio.Event()
        self._answered = trio.Event()
        self._answer: Cert | Error | None = None

    @property
    def usable(self) -> Identity | None:
        """The identity, unless it has expired."""
        who = self.identity
        return who if who is not None and self._now_unix() < who.not_after_s else None

    def restore(self, identity: Identity, joined_with: str = "") -> None:
        """Take an identity from the disk cache or from files, without telling anybody."""
        self.identity = identity
        self.joined_with = joined_with
        self.renew_at_s = renew_at_s(identity.not_before_s, identity.not_after_s, self._rng)

    # -- the first contact -------------------------------------------------------------------------------------------

    def join_due(self) -> JoinFile | None:
        """The join file to join with before the next connection; None when the identity is to be used.

        Raises TroubleError: there is no identity and no way to one.
        """
        who = self.usable
        try:
            found = self._read_join_file()
        except TroubleError as problem:
            if who is None:
                raise
            self._note(problem.trouble)
            return None
        if found is None or (who is not None and found.digest == self.joined_with):
            return None
        if self._refusal is not None and self._refusal[0] == found.digest:
            if who is None:
                raise TroubleError(self._refusal[1])
            return None
        return found

    async def prepare(self) -> None:
        """Make key and request now: a child may take seconds, and a peer that connects is soon expected to speak."""
        self._request = self._request or await self._make_request()

    def join_file_changed(self) -> bool:
        """Whether there is a join file now that was neither used nor refused."""
        try:
            return self.join_due() is not None
        except TroubleError:
            return False

    async def join(self, ask: Ask, file: JoinFile) -> None:
        """Turn the token into an identity. Raises TroubleError, and what `ask` raises.

        The request is kept until it was answered: a token may be spent again for the same request, not for another.
        """
        await self.prepare()
        request = self._request
        assert request is not None
        with trio.move_on_after(ANSWER_S):
            answer = await ask(Join(token=file.token, csr=request.csr_pem.decode()))
            if isinstance(answer, Cert):
                self._request = None
                self._take(self._identity_of(answer, request), file.digest)
                return
            assert isinstance(answer, Error), answer
            self.trouble = Trouble(
                f"joining was refused: {one_line(answer.message)}", one_line(answer.hint), answer.final
            )
            if answer.final:
                self._request = None
                self._refusal = (file.digest, self.trouble)
            raise TroubleError(self.trouble)
        raise TroubleError(Trouble(f"the control plane did not answer the join within {ANSWER_S:g} s"))

    def _read_join_file(self) -> JoinFile | None:
        """The join file, None when none is configured. Raises TroubleError when that leaves no way to an identity."""
        if self._join_file is not None:
            try:
                return read_join_file(self._join_file)
            except ConfigError as problem:
                raise TroubleError(Trouble(str(problem))) from None
        if self.usable is not None:
            return None
        what = "there is no identity" if self.identity is None else "the identity has expired"
        hint = "give control_plane.join_file (meshctl token create makes one)"
        raise TroubleError(Trouble(f"{what} and no join file to get one", hint, final=True))

    # -- renewal -----------------------------------------------------------------------------------------------------

    async def keep_fresh(self, send: Send) -> None:
        """Renew when it is due, while a session stands that `send` writes to. Never returns."""
        failures = 0
        while True:
            await self._due()
            try:
                await self._renew(send)
                failures = 0
            except TroubleError as problem:
                failures += 1
                self._note(problem.trouble)
                who = self.identity
                left_s = 0.0 if who is None else who.not_after_s - self._now_unix()
                await trio.sleep(retry_after_s(failures, left_s, self._rng))

    def rotate(self, message: Rotate) -> None:
        """Renew at a random moment of the next `spread_s`."""
        self.renew_at_s = min(self.renew_at_s, self._now_unix() + self._rng.uniform(0.0, message.spread_s))
        self._rotate.set()

    def answered(self, answer: Cert | Error) -> None:
        """The control plane answered; without a renewal under way it means nothing here."""
        self._answer = answer
        self._answered.set()

    def take_bundle(self, message: Bundle) -> None:
        """Trust other roots from now on, if our own certificate holds against them. Raises TroubleError."""
        who = self.identity
        if who is None:
            return
        try:
            renewed = Identity.from_pem(who.chain_pem, who.key_pem, message.bundle.encode())
        except IdentityError as problem:
            raise TroubleError(Trouble(f"the control plane sent roots that do not fit ({problem}); not used")) from None
        self.identity = renewed
        self._changed(renewed)

    async def _due(self) -> None:
        while (left_s := self.renew_at_s - self._now_unix()) > 0:
            self._rotate = trio.Event()
            with trio.move_on_after(min(left_s, LOOK_S)):
                await self._rotate.wait()

    async def _renew(self, send: Send) -> None:
        await self.prepare()
        request = self._request
        assert request is not None
        match await self._answer_to(Renew(csr=request.csr_pem.decode()), send):
            case Cert() as cert:
                self._request = None
                self._take(self._identity_of(cert, request), self.joined_with)
            case Error() as error:
                sentence = f"the certificate was not renewed: {one_line(error.message)}"
                raise TroubleError(Trouble(sentence, one_line(error.hint)))
            case None:
                raise TroubleError(Trouble(f"the control plane did not answer the renewal within {ANSWER_S:g} s"))

    async def _answer_to(self, question: Renew, send: Send) -> Cert | Error | None:
        self._answered, self._answer = trio.Event(), None
        with trio.move_on_after(ANSWER_S):
            await send(question)
            await self._answered.wait()
        return self._answer

    # -- both --------------------------------------------------------------------------------------------------------

    def _note(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._complain(trouble)

    def _identity_of(self, cert: Cert, request: KeyRequest) -> Identity:
        try:
            made = Identity.from_pem(cert.chain.encode(), request.key_pem, cert.bundle.encode())
        except IdentityError as problem:
            raise TroubleError(
                Trouble(f"the control plane sent a certificate that cannot be used ({problem})")
            ) from None
        if made.not_after_s <= self._now_unix():
            raise TroubleError(
                Trouble("the control plane sent a certificate that has expired", "compare the clocks of both machines")
            )
        return made

    def _take(self, identity: Identity, joined_with: str) -> None:
        self.identity = identity
        self.joined_with = joined_with
        self.trouble = None
        # Counted from now: the certificate begins in the past for the sake of clocks that are behind, and half of a
        # life that is shorter than that would be over already.
        begins_s = max(identity.not_before_s, min(self._now_unix(), identity.not_after_s))
        self.renew_at_s = renew_at_s(begins_s, identity.not_after_s, self._rng)
        self._changed(identity)
