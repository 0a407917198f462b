"""Our codec needs no library: a sidecar that never switches its fast path off never loads one (3 MiB)."""

import subprocess
import sys

ASKED = """
import sys
from sidecar.proxy.codecs import http2_client, http2_server
http2_server(100, lean=True), http2_client(100, lean=True)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"h2", "hpack", "hyperframe"}))
"""


def test_no_library_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
