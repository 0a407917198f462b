"""One attack from start to verdict: all is started, the victim measured idle and under attack, the end judged."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import trio

from bench.attacks.attacker import attack as attack_once
from bench.attacks.fast import fast_service
from bench.attacks.ordinary import crowd, ordinary
from bench.attacks.proxy import Proxy, Reading, Services
from bench.attacks.service import Behaviours, Hostile, Service
from bench.attacks.site import Site
from bench.attacks.table import Attack, Outcome
from bench.attacks.turn import Seen, from_text
from bench.attacks.victim import Sample, p99_s, samples_of

RECOVER_S = 30.0
RECOVER_RSS_KIB = 5 * 1024
# The victim goes on while the end is read: its requests under way, and its new connections, are some of each.
RECOVER_DESCRIPTORS = 10
RECOVER_TASKS = 16
VICTIM_P99_TIMES = 2.0
VICTIM_P99_MORE_S = 0.050
ATTACKER_LATE_S = 240.0  # beyond its time: attacks by waiting end with their last wait, and 10 GiB take a while
_SAMPLE_S = 0.2
VICTIM_START_S = 10.0
CROWD_REST_S = 12.0  # after it, so that free memory has been given back when the base is read (sidecar/app/trim.py)


@dataclass(frozen=True, slots=True)
class Scale:
    """How an attack is played.

    Attributes:
        seconds: The attack.
        idle_s: The victim alone, before it.
        connections: The attacker's at once, unless the attack says how many.
        units_per_s: What the attacker may ask of the sidecar in all; one unit is about the work of a small request.
        rate: Requests of the victim a second.
        timed: Whether the victim's latency is judged; only where the machine has nothing else to do.
    """

    seconds: float
    idle_s: float
    connections: int
    units_per_s: float
    rate: float
    timed: bool


# What an attack takes is there within seconds, and attacks that wait for a bound of the sidecar have their own time;
# where the truth table asks for longer, the attack says so (`Attack.proof_s`). The idle 99th percentile is of 250
# requests.
LONG = Scale(seconds=10.0, idle_s=5.0, connections=10, units_per_s=500.0, rate=50.0, timed=True)
SHORT = Scale(seconds=1.5, idle_s=0.2, connections=3, units_per_s=1500.0, rate=20.0, timed=False)


@dataclass
class Verdict:
    """What came out. `complaints` is empty when all holds; `notes`, `logged` are what was counted before the attack,
    `cold_rss_kib` is the memory before a crowd came, if one did."""

    attack: str
    complaints: list[str] = field(default_factory=list)
    samples: int = 0
    idle_p99_s: float = 0.0
    p99_s: float = 0.0
    cold_rss_kib: int = 0
    base: Reading | None = None
    peak_rss_kib: int = 0
    recovered_s: float = 0.0
    seen: Seen = field(default_factory=Seen)
    notes: dict[str, float] = field(default_factory=dict)
    logged: int = 0

    @property
    def grown_kib(self) -> int:
        """Memory at most, beyond what a sidecar holds that has seen no crowd."""
        return self.peak_rss_kib - self.cold_rss_kib

    @property
    def figure(self) -> str:
        """One line for the ledger."""
        return (
            f"victim 0 errors of {self.samples}, p99 {self.p99_s * 1e3:.0f} ms (idle {self.idle_p99_s * 1e3:.0f}); "
            f"memory +{self.grown_kib / 1024:.1f} MiB at most; back after {self.recovered_s:.0f} s; "
            f"{self.seen.counts['rounds']} rounds"
        )


class Stage:
    """A running sidecar between the victim's service and the hostile one."""

    def __init__(self, proxy: Proxy, hostile: Hostile) -> None:
        self.proxy = proxy
        self.hostile = hostile

    async def play(self, attacks: Sequence[Attack], scale: Scale) -> list[Verdict]:
        """Play attacks one after the other, beside one victim that goes on through all of them."""
        self.hostile.behave(Behaviours())
        cold_rss_kib = await self._warm(attacks[0], scale)
        played: list[tuple[Verdict, _Moments]] = []
        async with _victim(self.proxy, scale.rate) as victims:
            await _first_answers(self.proxy)
            for attack in attacks:
                verdict = Verdict(attack.name, cold_rss_kib=cold_rss_kib)
                played.append((verdict, await self._attack(attack, scale, verdict)))
        for verdict, moments in played:
            verdict.complaints += _victim_complaints(victims, moments, scale, verdict)
        return [verdict for verdict, _ in played]

    async def _warm(self, attack: Attack, scale: Scale) -> int:
        """Have what ordinary clients need once in the life of a process before the base is read; the memory that a
        `crowd` found, in KiB, 0 without one.

        Each way in is used, so that what is loaded on first use is there. An attack that keeps many requests under way
        is judged by a process that had as many of ordinary clients: Python gives memory back by the MiB, and the few
        small objects that live on are spread over all the MiB that the most requests at once ever took. So a process
        never is as small again as before its first rush, though all that the rush was made of is gone, and the same
        rush finds room in what it has: what an attack leaves beyond an ordinary one is its own.
        """
        site = self._site(attack, scale)
        await ordinary(site)
        await trio.to_thread.run_sync(self.proxy.stats)
        if not scale.timed or not attack.held:
            return 0
        cold_rss_kib = self.proxy.rss_kib()
        await crowd(site, self.hostile, attack.parallel(scale.connections, long=True), attack.held)
        await trio.sleep(CROWD_REST_S)
        return cold_rss_kib

    def _site(self, attack: Attack, scale: Scale) -> Site:
        seconds = max(scale.seconds, attack.at_least_s) if scale.timed else attack.short_s or scale.seconds
        return self.proxy.site(seconds, long=scale.timed)

    async def _attack(self, attack: Attack, scale: Scale, verdict: Verdict) -> "_Moments":
        """The victim alone, the attack, and what follows until the sidecar is back."""
        proxy, site = self.proxy, self._site(attack, scale)
        service = self.hostile.behave(attack.behaviours)
        idle_s = trio.current_time()
        await trio.sleep(scale.idle_s)
        base = verdict.base = await trio.to_thread.run_sync(proxy.read)
        verdict.cold_rss_kib = verdict.cold_rss_kib or base.rss_kib
        verdict.notes = await self._notes()
        verdict.logged = len(proxy.logged())
        began_s = trio.current_time()
        peak = _Peak(proxy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peak.watch)
            verdict.seen = await _attacked(attack, site, scale)
            nursery.cancel_scope.cancel()
        ended_s = trio.current_time()
        verdict.peak_rss_kib = max(peak.rss_kib, base.rss_kib)
        if proxy.status is None:
            after, verdict.recovered_s = await _recovered(proxy, base, scale)
            verdict.complaints += [f"{RECOVER_S:g} s after the attack {what}" for what in _beyond(base, after, scale)]
        verdict.complaints += _attacker_complaints(verdict.seen)
        verdict.complaints += attack.expect(await self._outcome(attack, scale, site, service, verdict))
        verdict.complaints += _own_troubles(proxy)
        return _Moments(idle_s, began_s, ended_s, trio.current_time(), monotonic() - trio.current_time())

    async def _outcome(self, attack: Attack, scale: Scale, site: Site, service: Service, verdict: Verdict) -> Outcome:
        notes = await self._notes()
        return Outcome(
            seen=verdict.seen,
            service=service,
            notes={kind: count - verdict.notes.get(kind, 0) for kind, count in notes.items()},
            grown_kib=verdict.grown_kib,
            logged=self.proxy.logged()[verdict.logged :],
            parallel=attack.parallel(scale.connections, long=scale.timed),
            seconds=site.seconds,
            long=scale.timed,
        )

    async def _notes(self) -> dict[str, float]:
        if self.proxy.status is not None:
            return {}
        return await trio.to_thread.run_sync(self.proxy.counted, "sidecar_codec_notes_total", "kind")


@asynccontextmanager
async def staged(attack: Attack, *, long: bool) -> AsyncIterator[Stage]:
    """A stage with the configuration that `attack` asks for. In a `long` run the sidecar has the last core for itself
    and all else the others."""
    cores = sorted(os.sched_getaffinity(0))
    core = cores[-1] if long and len(cores) > 1 else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attack-")))
        if core is not None:
            os.sched_setaffinity(0, set(cores[:-1]))
            stack.callback(os.sched_setaffinity, 0, set(cores))
        fast1, fast2 = stack.enter_context(fast_service(folder))
        hostile = Hostile()
        async with trio.open_nursery() as nursery:
            await nursery.start(hostile.run)
            documents = attack.documents(*hostile.ports) if attack.documents is not None else ()
            more = attack.more(long) if attack.more is not None else None
            services = Services(fast1, fast2, *hostile.ports)
            proxy = await trio.to_thread.run_sync(Proxy, folder, services, core, more, documents)
            try:
                yield Stage(proxy, hostile)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(proxy.stop)
                nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Moments:
    """When what began, by the event loop's clock, and how far that is behind CLOCK_MONOTONIC."""

    idle_s: float
    began_s: float
    ended_s: float
    over_s: float
    behind_s: float


async def _attacked(attack: Attack, site: Site, scale: Scale) -> Seen:
    """Run the attacker: its own process where times are judged, else a task here, one round for each connection."""
    connections = attack.parallel(scale.connections, long=scale.timed)
    units_per_s = attack.units_per_s or scale.units_per_s
    if not scale.timed:
        with trio.fail_after(site.seconds + ATTACKER_LATE_S):
            return (await attack_once(attack, site, connections, units_per_s)).seen
    argv = [sys.executable, "-m", "bench.attacks.attacker", attack.name, site.text()]
    argv += [str(connections), str(units_per_s)]
    with trio.fail_after(site.seconds + ATTACKER_LATE_S):
        done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        raise AssertionError(f"the attacker of {attack.name} failed:\n{done.stderr.decode()[-2000:]}")
    return from_text(done.stdout.decode())


@asynccontextmanager
async def _victim(proxy: Proxy, rate: float) -> AsyncIterator[list[Sample]]:
    """The victim's process, as long as the block lasts; the list has what it saw afterwards."""
    argv = [sys.executable, "-m", "bench.attacks.victim", *map(str, proxy.fast), str(rate)]
    found: list[Sample] = []
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(_start, argv, found)
        try:
            yield found
        finally:
            assert process.stdin is not None
            await process.stdin.aclose()


async def _start(
    argv: list[str], found: list[Sample], task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED
) -> None:
    process = await trio.lowlevel.open_process(argv, stdin=-1, stdout=-1)
    task_status.started(process)
    assert process.stdout is not None
    said = b""
    try:
        async for piece in process.stdout:
            said += piece
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise AssertionError(f"the victim ended with status {process.returncode}")
    found += samples_of(said.decode())


class _Peak:
    """Largest resident memory while it watches."""

    def __init__(self, proxy: Proxy) -> None:
        self.rss_kib = 0
        self._proxy = proxy

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            self.rss_kib = max(self.rss_kib, self._proxy.rss_kib())
            await trio.sleep(_SAMPLE_S)


async def _first_answers(proxy: Proxy) -> None:
    """Wait until the victim, which has just been started, has its connections."""
    listeners = {f"outbound fast.shop:{port}" for port in (proxy.services.fast1, proxy.services.fast2)}
    with trio.fail_after(VICTIM_START_S):
        while True:
            now = await trio.to_thread.run_sync(proxy.counted, "sidecar_downstream_connections", "listener")
            if all(now.get(listener) for listener in listeners):
                return
            await trio.sleep(_SAMPLE_S)


async def _recovered(proxy: Proxy, base: Reading, scale: Scale) -> tuple[Reading, float]:
    """Wait until the process is back at its base, at most RECOVER_S; the last reading, and how long it took."""
    began_s = trio.current_time()
    while True:
        now = await trio.to_thread.run_sync(proxy.read)
        waited_s = trio.current_time() - began_s
        if not _beyond(base, now, scale) or waited_s > RECOVER_S:
            return now, waited_s
        await trio.sleep(_SAMPLE_S)


def _beyond(base: Reading, now: Reading, scale: Scale) -> list[str]:
    """What is not back. Memory takes its time (sidecar/app/trim.py); a short run does not wait for it."""
    found = []
    if scale.timed and now.rss_kib > base.rss_kib + RECOVER_RSS_KIB:
        found.append(f"memory is {now.rss_kib / 1024:.1f} MiB, it was {base.rss_kib / 1024:.1f}")
    if now.descriptors > base.descriptors + RECOVER_DESCRIPTORS:
        found.append(f"{now.descriptors} descriptors are open, they were {base.descriptors}")
    if now.tasks < 0 or now.tasks > base.tasks + RECOVER_TASKS:
        found.append(f"{now.tasks} tasks live, they were {base.tasks}")
    return found


def _victim_complaints(victims: list[Sample], moments: _Moments, scale: Scale, verdict: Verdict) -> list[str]:
    """The victim rule; fills in the verdict's figures."""
    behind_s = moments.behind_s
    victims = [one for one in victims if moments.idle_s <= one.due_s - behind_s < moments.over_s]
    idle = [one for one in victims if one.due_s - behind_s < moments.began_s]
    during = [one for one in victims if moments.began_s <= one.due_s - behind_s < moments.ended_s]
    verdict.samples, verdict.idle_p99_s, verdict.p99_s = len(victims), p99_s(idle), p99_s(during)
    bad = [one.problem for one in victims if one.problem]
    found = [f"the victim saw {len(bad)} errors of {len(victims)}: {'; '.join(bad[:3])}"] if bad else []
    if not victims:
        found.append("the victim sent nothing")
    allowed_s = VICTIM_P99_TIMES * verdict.idle_p99_s + VICTIM_P99_MORE_S
    if scale.timed and verdict.p99_s > allowed_s:
        found.append(
            f"the victim's p99 was {verdict.p99_s * 1e3:.0f} ms; idle {verdict.idle_p99_s * 1e3:.0f} ms allow "
            f"{allowed_s * 1e3:.0f} ms"
        )
    return found


def _attacker_complaints(seen: Seen) -> list[str]:
    found = list(seen.complaints)
    if seen.counts["complaints"] > len(found):
        found.append(f"and {seen.counts['complaints'] - len(found)} more of the attacker's")
    if not seen.counts["rounds"]:
        found.append(f"the attacker finished no round: {dict(seen.counts)}")
    return found


def _own_troubles(proxy: Proxy) -> list[str]:
    """Tracebacks and bugs that the sidecar told of, and whether it lives."""
    bad = [line for line in proxy.said() if "Traceback" in line or line.startswith("bug")]
    found = [f"the sidecar told of {len(bad)} bugs: {bad[0]}"] if bad else []
    if proxy.status is not None:
        found.append(f"the sidecar ended with status {proxy.status}")
    return found
