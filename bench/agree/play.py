"""Play a scenario with real sidecars, sockets and time; what happened comes back as the simulator's own `Record`.

Endpoints and clients live in this process, each sidecar in one of its own, on another core. Requests and their answers
are as the client saw them; tries and ejections as the sidecars' access logs have them.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import trio

from bench.agree.caller import Client
from bench.agree.endpoint import Endpoint
from bench.cores import pick_cores
from bench.ports import free_port
from bench.process import BenchError, pinned
from bench.proxies.sidecar import RunningSidecar, bootstrap_of
from bench.scenarios import FAST, Log
from sidecar.config.policy.traffic import encode_policy
from sidecar.sim.record import Out, Record, Tried
from sidecar.sim.scenario import Kind, Scenario, ServiceSpec

NAMESPACE = "shop"
_SETTLE_S = 0.5  # until the first request: endpoints have to listen


def play(scenario: Scenario, seed: int) -> Record:
    """Takes as long as the scenario lasts. Raises BenchError for one that cannot be played so."""
    [service] = scenario.services.values()
    if (
        service.calls
        or service.retry_after_s is not None
        or any(each.kind is Kind.PARTITION for each in scenario.faults)
    ):
        raise BenchError(f"{scenario.name}: calls, retryAfter and partitions are not played for real")
    with TemporaryDirectory(prefix="agree-") as folder:
        return trio.run(_play, scenario, service, seed, Path(folder))


async def _play(scenario: Scenario, service: ServiceSpec, seed: int, folder: Path) -> Record:
    port, [client] = free_port(), scenario.clients.values()
    cores = pick_cores(sorted(os.sched_getaffinity(0)))
    hosts = {f"{service.name}-{number}": f"127.0.3.{number}" for number in range(1, service.endpoints + 1)}
    endpoints = [
        Endpoint(scenario, service, name, host, port, Random(f"{seed}/{name}")) for name, host in hosts.items()
    ]
    folders = [folder / str(number) for number in range(1, client.instances + 1)]
    sidecars: list[RunningSidecar] = []
    try:
        sidecars += (_sidecar(each, service, hosts, port, cores.proxy) for each in folders)
        ports = [int(each.listening("outbound").rpartition(":")[2]) for each in sidecars]
        authority = f"{service.name}.{NAMESPACE}:{port}"
        asking = Client(client, authority, ports, list(scenario.faults), Random(f"{seed}/{client.name}"))
        start_s, start = trio.current_time() + _SETTLE_S, datetime.now(UTC).timestamp() + _SETTLE_S
        with pinned(cores.load):
            async with trio.open_nursery() as nursery:
                for endpoint in endpoints:
                    nursery.start_soon(endpoint.serve, start_s)
                await asking.run(start_s, scenario.duration_s)
                nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(partial(_stop_all, sidecars))  # a log is whole when its writer has ended
        return _record(service.name, asking, [each / "access.log" for each in folders], start)
    finally:
        _stop_all(sidecars)


def _stop_all(sidecars: list[RunningSidecar]) -> None:
    for each in sidecars:
        each.stop()


def _sidecar(folder: Path, service: ServiceSpec, hosts: dict[str, str], port: int, core: int) -> RunningSidecar:
    (folder / "mesh.d").mkdir(parents=True)
    ports = [{"port": port, "protocol": "http"}]
    documents = [
        _document("Workload", name, {"service": service.name, "address": host, "ports": ports})
        for name, host in hosts.items()
    ]
    policy = {"targetRefs": [{"kind": "Service", "name": service.name}], **encode_policy(service.policy)}
    documents.append(_document("TrafficPolicy", service.name, policy))
    (folder / "mesh.d" / "mesh.yaml").write_text("\n---\n".join(map(json.dumps, documents)))
    return RunningSidecar(FAST, folder, core, bootstrap_of("web", fast_path=True, log=Log.ALL))


def _document(kind: str, name: str, spec: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "sidecar-mesh.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _record(service: str, client: Client, logs: list[Path], start: float) -> Record:
    record = Record()
    for each in client.asked:
        record.on_answer(each)
    for log in logs:
        for line in _lines(log):
            at_s = datetime.fromisoformat(line["start_time"]).timestamp() - start
            if line.get("event") == "ejected":
                record.on_ejection(Out(log.parent.name, line["upstream_endpoint"], at_s, line["for_s"]))
            elif "tried" in line:
                record.requests.setdefault(service, []).append(at_s)
                for number, name in enumerate(line["tried"], 1):
                    last = number == len(line["tried"])
                    took_s = line["duration_ms"] / 1e3 if last else 0.0
                    good = last and 0 < line["response_code"] < 500
                    record.on_try(Tried(log.parent.name, name, at_s, took_s, good))
    return record


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    with log.open() as lines:
        for line in lines:
            yield json.loads(line)
