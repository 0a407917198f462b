"""The Debian packages that are missing for the tests' `needs(...)` marks and for the bench.

Run by .ci/run with the project's Python; prints one line. Reads the tests instead of a second list, so that a test that
comes with a new tool brings its package along. Asks for tools, not for packages: a tool may be there from elsewhere,
and the package would then not install over it.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.needs import PACKAGES, find  # noqa: E402 - the path comes first

_BENCH = ("nginx", "wrk")


def marked(source: str) -> set[str]:
    """The tools in every call of something named `needs` in a Python source."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "needs"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def main() -> int:
    """Print the packages; fail for a tool whose package nobody knows."""
    tools = {tool for path in (ROOT / "tests").rglob("test_*.py") for tool in marked(path.read_text("utf-8"))}
    unknown = sorted(tools - PACKAGES.keys())
    if unknown:
        print(f"tests/support/needs.py knows no package for: {', '.join(unknown)}", file=sys.stderr)
        return 1
    print(*sorted({PACKAGES[tool] for tool in tools.union(_BENCH) if find(tool) is None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
