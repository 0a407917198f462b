"""Identity files for sidecars that run without a control plane: one root, one SVID each."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench import mesh
from certs import bundle, names
from certs.issue import issue
from certs.request import key_and_request
from certs.signer import make_issuer, make_root

TRUST_DOMAIN = "mesh.local"


@dataclass(frozen=True, slots=True)
class Door:
    """A proxy's side for other sidecars, and what it takes to get in."""

    address: str
    server_name: str
    cert: Path
    key: Path
    roots: Path


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

    def door(self, address: str, server_name: str, folder: Path) -> Door:
        """Files for a client of `address`, in a folder of its own below `folder`."""
        place = folder / "caller"
        place.mkdir()
        names_of = self.write(place, mesh.NAMESPACE, mesh.CALLER)
        port = address.rpartition(":")[2]
        cert, key, roots = (place / names_of[name] for name in ("cert", "key", "bundle"))
        return Door(f"127.0.0.1:{port}", server_name, cert, key, roots)
