"""Identity files for sidecars that run without a control plane: one root, one SVID each."""

import time
from pathlib import Path

from certs import bundle, names
from certs.issue import issue
from certs.request import key_and_request
from certs.signer import make_issuer, make_root

TRUST_DOMAIN = "mesh.local"


class Authority:
    """A trust domain in memory."""

    def __init__(self) -> None:
        now_s = time.time()
        self._root = make_root(TRUST_DOMAIN, now_s)
        self._issuer = make_issuer(self._root, TRUST_DOMAIN, now_s)

    def write(self, folder: Path, namespace: str, account: str) -> dict[str, str]:
        """Write certificate, key (0600) and roots; return the bootstrap's `identity` section."""
        key, request = bundle.key_request(key_and_request())
        issued = issue(self._issuer, request, names.svid_id(TRUST_DOMAIN, namespace, account), time.time())
        (folder / "svid.pem").write_bytes(issued.chain_pem)
        (folder / "roots.pem").write_bytes(self._root.pem)
        path = folder / "svid.key"
        path.touch(mode=0o600)
        path.write_bytes(key)
        return {"cert": "svid.pem", "key": "svid.key", "bundle": "roots.pem"}
