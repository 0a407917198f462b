"""What meshctl imports, where its options may stand, and how failures end."""

import subprocess
import sys

import pytest

from control_plane.cli.arguments import hoisted
from control_plane.cli.complaint import FINDINGS, INTERRUPTED, Complaint, run
from control_plane.cli.main import GLOBAL_OPTIONS, main
from sidecar import __version__

HEAVY = ("httpx2", "rich", "yaml", "cryptography", "starlette", "hypercorn", "trio", "prometheus_client")


@pytest.mark.parametrize("arguments", [["--help"], ["traffic", "set", "--help"], ["explain", "flag", "UH"], ["-h"]])
def test_help_and_offline_commands_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from control_plane.cli.main import main\n"
        f"status = main({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[] 0\n"
    assert done.stdout


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        (["status", "--server", "x", "-o", "json"], ["--server", "x", "status", "-o", "json"]),
        (["status", "--server=x", "--debug"], ["--server=x", "--debug", "status"]),
        (["get", "svc", "--token-file", "f"], ["--token-file", "f", "get", "svc"]),
        (["get", "--", "--server", "x"], ["get", "--", "--server", "x"]),
        (["status", "--server"], ["--server", "status"]),
        ([], []),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], moved: list[str]) -> None:
    assert hoisted(given, GLOBAL_OPTIONS) == moved


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["get"], ["status", "-o", "xml"], ["apply"], ["traffic", "set", "orders"], ["explain", "flag", "U?"]],
)
def test_wrong_words_end_with_2_and_no_answer(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    got = capfd.readouterr()
    assert got.out == ""
    assert "rror: " in got.err
    assert "Traceback" not in got.err


def test_a_command_without_words_shows_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capfd.readouterr().err


def ended(exc: BaseException, *, debug: bool = False) -> int:
    def command() -> None:
        raise exc

    return run(command, debug=debug)


def test_a_complaint_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = Complaint("it is wrong", hint="mend it", details=["a.yaml:1:1: x"], status=FINDINGS)
    assert ended(complaint) == FINDINGS
    got = capsys.readouterr()
    assert (got.out, got.err) == ("", "error: it is wrong\n  a.yaml:1:1: x\nhint: mend it\n")


def test_a_bug_is_two_lines_unless_debug_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(KeyError("two\nlines")) == 1
    assert capsys.readouterr().err == (
        "error: internal error: KeyError: 'two\\nlines'\nhint: run it again with --debug and report what it prints\n"
    )
    assert ended(KeyError("x"), debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ModuleNotFoundError("No module named 'hypercorn.trio'", name="hypercorn.trio")) == 1
    assert capsys.readouterr().err == (
        "error: this needs hypercorn.trio, which is not there\nhint: pip install 'sidecar-mesh[control-plane]'\n"
    )


def test_the_version_is_known_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["version", "--client"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"meshctl {__version__}", f"meshctl        {__version__}"]


@pytest.mark.parametrize(
    ("exc", "status"),
    [(KeyboardInterrupt(), INTERRUPTED), (SystemExit(79), 79), (SystemExit(), 0), (SystemExit("x"), 1)],
)
def test_statuses_pass_through(exc: BaseException, status: int) -> None:
    assert ended(exc) == status


@pytest.mark.parametrize("arguments", [["explain", "flag", "-o", "json"], ["explain", "flag", "-o", "name"]])
def test_a_reader_that_has_gone_is_no_traceback(arguments: list[str]) -> None:
    program = f"import sys; from control_plane.cli.main import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (1, b"")
