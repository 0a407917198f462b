"""Run the official gRPC interoperability cases: their server, and their client against any address.

    python tests/support/grpc_interop.py TREE serve [--goaway-ms N]          prints `listening PORT`
    python tests/support/grpc_interop.py TREE run HOST:PORT [--rounds N]     prints `pass CASE` or `fail CASE REASON`

TREE is what `grpc_source.interop_tree()` gives; run as a file and not as a module, because the official tests are
called `tests` too. The fourteen cases are those that need no cloud account. One channel carries all cases and rounds,
so that a proxy's connections are shared as a real client's are. `--goaway-ms` makes the server say GOAWAY on each
connection when it is so old. (Ending the server would not do: while it shuts down, grpcio answers calls that it just
received with CANCELLED, with or without a proxy.)
"""

import argparse
import sys
import threading
import types
from concurrent import futures
from importlib import import_module
from typing import Any

import grpc

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
)
CASE_S = 30.0  # a case that hangs has failed; the slowest takes well under a second


def official(tree: str, name: str) -> Any:
    """A module of the official tests.

    They import google-auth for the cases with cloud accounts, which are not run: empty modules stand in for it.
    """
    for module in ("google.auth", "google.auth.transport"):
        if module not in sys.modules:
            parent = import_module(module.rpartition(".")[0])
            stand_in = types.ModuleType(module)
            children = ("jwt", "environment_vars") if module == "google.auth" else ("grpc", "requests")
            stand_in.__path__ = []
            for child in children:
                leaf = types.ModuleType(f"{module}.{child}")
                setattr(stand_in, child, leaf)
                sys.modules[f"{module}.{child}"] = leaf
            setattr(parent, module.rpartition(".")[2], stand_in)
            sys.modules[module] = stand_in
    if sys.path[0] != tree:
        sys.path.insert(0, tree)
    return import_module(name)


def serve(tree: str, goaway_ms: int) -> int:
    """The official service on a port that the kernel picks, until it is killed."""
    service = official(tree, "tests.interop.service")
    stubs = official(tree, "src.proto.grpc.testing.test_pb2_grpc")
    options = (("grpc.max_connection_age_ms", goaway_ms),) if goaway_ms else ()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=10), options=options)
    stubs.add_TestServiceServicer_to_server(service.TestService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening {port}", flush=True)
    server.wait_for_termination()
    return 0


def run(tree: str, target: str, rounds: int) -> int:
    """All cases, `rounds` times; 1 when one failed."""
    client = official(tree, "tests.interop.client")
    methods = official(tree, "tests.interop.methods")
    failed = 0
    with grpc.insecure_channel(target) as channel:
        for number in range(rounds):
            for name in CASES:
                arguments = types.SimpleNamespace(test_case=name)
                stub = client.create_stub(channel, arguments)
                reason = _try(methods.TestCase(name), stub, arguments)
                failed += bool(reason)
                print(f"fail {name} {reason}" if reason else f"pass {name}", flush=True)
            print(f"round {number + 1}", flush=True)
    return 1 if failed else 0


def _try(case: Any, stub: Any, arguments: object) -> str:
    """Why the case failed; "" when it passed."""
    reason = [f"no end within {CASE_S:g} s"]

    def body() -> None:
        try:
            case.test_interoperability(stub, arguments)
        except Exception as exc:
            reason[0] = f"{type(exc).__name__}: {exc}".replace("\n", " ")
        else:
            reason[0] = ""

    thread = threading.Thread(target=body, daemon=True)  # one that hangs must not keep the process
    thread.start()
    thread.join(CASE_S)
    return reason[0]


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="official gRPC interoperability cases")
    parser.add_argument("tree")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve")
    server.add_argument("--goaway-ms", type=int, default=0)
    runner = commands.add_parser("run")
    runner.add_argument("target")
    runner.add_argument("--rounds", type=int, default=1)
    told = parser.parse_args()
    return serve(told.tree, told.goaway_ms) if told.command == "serve" else run(told.tree, told.target, told.rounds)


if __name__ == "__main__":
    sys.exit(main())
