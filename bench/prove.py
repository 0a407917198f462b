"""`make prove`: the long acceptance runs, one line each in bench/proof.json with figure, commit and date.

Fuzz tests (`Proof`), with many more inputs than a test run has. They are drawn from a seed made of the commit, the test
and the block, so that a failure can be repeated and each commit sees inputs that the last one did not. Such a run can
be stopped at any time and goes on where it was, as long as the commit is the same; a tree with changes starts afresh.
So can a run that cuts itself into parts (`InParts`). Other runs (`Whole`) are played from start to end. Exit status: 0
all hold, 1 one failed or was stopped, 2 usage.
"""

import argparse
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from random import Random
from types import FrameType
from typing import Any, Protocol, TypeAlias

from bench import machine, progress
from bench.ledger import Ledger
from bench.progress import Say

# What a proof is about: a commit that touches none of this leaves it standing.
SUBJECT = ("sidecar", "certs", "control_plane", "tests", "pyproject.toml")
GOOD, FAILED, USAGE = 0, 1, 2
BLOCK = 1_000  # inputs between two saves: at most some seconds of work are lost
_TOLD = 10  # blocks between two lines of progress
_PARTS_DONE = "parts done"  # among the counts of a run in parts
_LONGEST_BYTES = 4096  # of an input; hypothesis makes whole scripts of a few hundred
Target = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Proof:
    """A long run.

    Attributes:
        what: What holds when it passes.
        targets: Tests by module and name, each with its number of blocks.
    """

    name: str
    what: str
    targets: tuple[tuple[str, int], ...]

    @property
    def inputs(self) -> int:
        """Inputs in all."""
        return sum(blocks for _, blocks in self.targets) * BLOCK

    @property
    def size(self) -> str:
        """How much it is."""
        return f"{self.inputs:,} inputs"


@dataclass(frozen=True, slots=True)
class Whole:
    """A long run without blocks.

    Attributes:
        what: What holds when it passes.
        target: Module and name of a function that takes `Say`, and returns the figure or raises.
        size: How much it is.
    """

    name: str
    what: str
    target: str
    size: str


class Player(Protocol):
    """What plays the parts of a run, and says what came of it."""

    @property
    def parts(self) -> Sequence[str]:
        """Names of the parts, in the order in which they are played."""

    def play(self, part: str, rng: Random) -> Mapping[str, int]:
        """Play one; returns what it counted, or raises."""

    def figure(self, counts: Mapping[str, int]) -> str:
        """The line for the ledger, from the sums of all parts; raises if they are not good enough."""


@dataclass(frozen=True, slots=True)
class InParts:
    """A long run whose parts are remembered, so that it goes on after a stop.

    Attributes:
        what: What holds when it passes.
        target: Module and name of a function that gives a context manager with a `Player`.
        size: How much it is.
    """

    name: str
    what: str
    target: str
    size: str


Run: TypeAlias = Proof | Whole | InParts
PROOFS: tuple[Run, ...] = (
    Proof(
        "codec-fuzz",
        "the HTTP/1.1 codecs answer any bytes with events or a fault, however they are cut, and agree with h11",
        (
            ("tests.fuzz.test_codec_bytes:test_a_client_may_send_anything", 200),
            ("tests.fuzz.test_codec_bytes:test_an_upstream_may_send_anything", 200),
            ("tests.fuzz.test_codec_bytes:test_what_we_accept_h11_understands_alike", 200),
        ),
    ),
    Proof(
        "stream-fuzz",
        "any order of calls on both ends of a stream loses, doubles and moves no byte: sockets, TLS, memory",
        (
            ("tests.fuzz.test_stream_ops:test_any_calls_on_sockets", 50),
            ("tests.fuzz.test_stream_ops:test_any_calls_over_tls", 10),
            ("tests.fuzz.test_stream_ops:test_any_calls_in_memory", 50),
        ),
    ),
    Whole(
        "rolling-restart",
        "no request is lost and none done twice while replicas restart: HTTP/1.1, HTTP/2 and gRPC at 300 a second",
        "tests.rolling.run:prove",
        "50,400 requests, 20 restarts; 3 minutes",
    ),
    Whole(
        "h2load",
        "no request fails over HTTP/2: 50 connections of 10 streams, through one sidecar and through two",
        "tests.interop.h2load:prove",
        "2 runs of 100,000 requests",
    ),
    Whole(
        "full-path",
        "with the fast path switched off all is the same to everybody: the end-to-end and interoperability tests",
        "tests.e2e.full_path:prove",
        "two folders of tests; 6 minutes",
    ),
    Whole(
        "schedules",
        "the attempts machine and its policies keep their rules under random faults on virtual time",
        "tests.sim.schedules:prove",
        "10,000 schedules of 500 requests; 4 minutes",
    ),
    Whole(
        "retry-storm",
        "a service that fails gets no more than the budget lets through, and what may not be repeated reaches it once",
        "tests.storm.run:prove",
        "4 storms of 10 s, 50,000 requests under random resets, on both paths; 3 minutes",
    ),
    InParts(
        "agreement",
        "the simulator says of a scenario what real sidecars, sockets and time do",
        "bench.agree.proof:prove",
        "5 scenarios of 30 to 60 s; 4 minutes",
    ),
    InParts(
        "differential",
        "h11, llhttp (Node), nginx and Envoy read what the sidecar accepts and forwards as it does itself",
        "tests.conformance.differential:prove",
        "100,000 generated requests",
    ),
    InParts(
        "fast-heads",
        "the fast path takes no head that the full one refuses, and means the same by those that it takes",
        "tests.fuzz.heads:prove",
        "10,000,000 generated heads",
    ),
    InParts(
        "hpack",
        "our HPACK and the hpack package's read, refuse and write the same, tables and never-indexed fields included",
        "tests.fuzz.hpack_blocks:prove",
        "1,000,000 generated header blocks",
    ),
    InParts(
        "attacks",
        "an attack on a process costs others no error and little time, and all that it took comes back",
        "bench.attacks.proof:prove",
        "43 attacks, 10 to 120 s each; 30 minutes",
    ),
    InParts(
        "guided-fuzz",
        "no bytes that atheris thinks of break a codec, a reader of first bytes, the configuration, the stream",
        "tests.fuzz.guided:prove",
        "a minute for each of the readers, ten for HPACK",
    ),
)


class FoundFailureError(Exception):
    """An input that fails; str() says which and where it was kept."""


class StoppedError(Exception):
    """Somebody asked for an end."""


class Stop:
    """Ctrl-C as a flag that is looked at between inputs. An exception could come up inside a callback and be lost."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on SIGINT and SIGTERM set the flag; a second one ends the process at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not yet proven at this commit; return the exit status."""
    parser = argparse.ArgumentParser(prog="make prove", description="The long acceptance runs.")
    parser.add_argument("--list", action="store_true", help="say which runs there are and end")
    parser.add_argument("--only", default="", metavar="TEXT", help="only runs with TEXT in their name")
    parser.add_argument("--again", action="store_true", help="also what is proven at this commit already")
    options = parser.parse_args(arguments)
    chosen = [proof for proof in PROOFS if options.only in proof.name]
    if not chosen:
        print(f"prove: no run has {options.only!r} in its name", file=sys.stderr)
        return USAGE
    ledger, commit = Ledger(), machine.commit(*SUBJECT)
    for proof in chosen:
        line = ledger.proven().get(proof.name)
        stands = line is not None and line["commit"] == commit and not line["figure"].startswith("FAILED")
        known = f"proven at {line['commit']} on {line['date']}: {line['figure']}" if line else "never run"
        print(f"{proof.name}: {proof.what}\n  {proof.size}; {known}", flush=True)
        if options.list or (stands and not options.again):
            continue
        if not _prove(proof, commit, ledger, again=options.again):
            return FAILED
    return GOOD


def _prove(proof: Run, commit: str, ledger: Ledger, *, again: bool) -> bool:
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    try:
        figure = _figure(proof, commit, ledger, again=again)
    except (StoppedError, KeyboardInterrupt):
        progress.clear()
        afresh = isinstance(proof, Whole) or commit.endswith("+changes")
        then = "starts afresh" if afresh else "goes on where it was"
        print(f"prove: stopped; at the next make prove {proof.name} {then}", file=sys.stderr)
        return False
    except FoundFailureError as exc:
        progress.clear()
        traceback.print_exception(exc.__cause__)
        print(f"prove: {proof.name}: {exc}", file=sys.stderr)
        ledger.record(proof.name, f"FAILED: {exc}", commit, today)
        return False
    progress.clear()
    ledger.record(proof.name, figure, commit, today)
    print(f"  {figure}")
    return True


def _figure(proof: Run, commit: str, ledger: Ledger, *, again: bool) -> str:
    if isinstance(proof, Proof):
        return _prove_blocks(proof, commit, ledger, again=again)
    # A run cleans up behind itself when it is interrupted.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if isinstance(proof, InParts):
            return _prove_parts(proof, commit, ledger, again=again)
        return _prove_whole(proof)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prove_whole(proof: Whole) -> str:
    try:
        return str(_named(proof.target)(progress.to_stderr))
    except Exception as exc:
        raise FoundFailureError(_first_line(exc)) from exc


def _prove_parts(proof: InParts, commit: str, ledger: Ledger, *, again: bool) -> str:
    known = {} if again else ledger.done(proof.name, commit)
    try:
        with _named(proof.target)() as player:
            return play_parts(proof.name, player, commit, ledger, known)
    except Exception as exc:
        raise FoundFailureError(_first_line(exc)) from exc


def play_parts(name: str, player: Player, commit: str, ledger: Ledger, known: Mapping[str, int]) -> str:
    """Play the parts that are not done; returns the figure. `known` is what the ledger remembers of earlier ones."""
    counts = Counter(known)
    for number, part in enumerate(player.parts[counts[_PARTS_DONE] :], counts[_PARTS_DONE] + 1):
        progress.to_stderr(f"{name}: {part} ({number}/{len(player.parts)})")
        counts.update(player.play(part, Random(f"{commit}/{name}/{part}")))
        counts[_PARTS_DONE] = number
        ledger.save(name, commit, dict(counts))
    return player.figure(counts)


def _named(target: str) -> Any:  # noqa: ANN401 - each kind of run has a signature of its own
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0] or type(exc).__name__


def _prove_blocks(proof: Proof, commit: str, ledger: Ledger, *, again: bool) -> str:
    done = {} if again else ledger.done(proof.name, commit)
    targets = {name: (fuzz_target(name), blocks) for name, blocks in proof.targets}
    stop = Stop()
    stop.listen()
    Runner(proof, commit, ledger, stop, progress.to_stderr).run(targets, done)
    return f"{proof.inputs:,} inputs, 0 failures"


@dataclass(frozen=True, slots=True)
class Runner:
    """Plays the inputs of one proof."""

    proof: Proof
    commit: str
    ledger: Ledger
    stop: Stop
    say: Say

    def run(self, targets: dict[str, tuple[Target, int]], done: dict[str, int]) -> None:
        """Play what is not done yet.

        Args:
            targets: By name: what takes an input and raises when it fails, and its number of blocks.
            done: Blocks done by target; grows, and is saved after each block.

        Raises:
            FoundFailureError: An input failed; its cause is the test's own exception.
            StoppedError: `stop` was asked for; the block under way will be played again.
        """
        for name, (target, blocks) in targets.items():
            started_s, first = time.monotonic(), done.get(name, 0)
            for block in range(first, blocks):
                if block % _TOLD == 0:
                    spent_s = time.monotonic() - started_s
                    left_s = spent_s / max(1, block - first) * (blocks - block)
                    left = f", about {left_s / 60:.0f} min left" if block > first else ""
                    self.say(f"{_short(name)}: {block}/{blocks} blocks of {BLOCK:,}{left}")
                self._block(name, target, block)
                done[name] = block + 1
                self.ledger.save(self.proof.name, self.commit, done)

    def _block(self, name: str, target: Target, block: int) -> None:
        rng = Random(f"{self.commit}/{name}/{block}")
        for number in range(BLOCK):
            if self.stop.asked:
                raise StoppedError
            data = rng.randbytes(rng.randrange(_LONGEST_BYTES))
            try:
                target(data)
            except Exception as exc:
                kept = self.ledger.keep(self.proof.name, data)
                where = f"{_short(name)}, block {block}, input {number}"
                raise FoundFailureError(f"{where} fails; the input is in {kept.name}") from exc


def _short(name: str) -> str:
    return name.partition(":")[2]


def fuzz_target(name: str) -> Target:
    """The test as hypothesis lets a fuzzer drive it: bytes in, exception out."""
    from hypothesis import settings  # of the test extra; `make bench` has no need of it

    settings.register_profile("prove", database=None, deadline=None)
    settings.load_profile("prove")
    module, _, function = name.partition(":")
    test = getattr(import_module(module), function)
    target: Target = test.hypothesis.fuzz_one_input
    return target


if __name__ == "__main__":
    sys.exit(main())
