"""What holds for every meshctl command: which control plane, and which token opens it.

The token is looked for in this order, and the first place that is named or exists counts: `--token-file`,
`MESHCTL_TOKEN_FILE`, `./mesh-data/api.token` (where `control-plane serve`, started in this folder, keeps it).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from control_plane.cli.client import Client, server_url
from control_plane.cli.complaint import USAGE, Complaint

DEFAULT_SERVER = "http://127.0.0.1:15010"
DEFAULT_DATA = Path("mesh-data")
TOKEN_FILE = "api.token"  # noqa: S105 - a file's name


@dataclass(frozen=True, slots=True)
class Session:
    """The global options, as given; `None` and "" mean not given."""

    server: str | None = None
    token_file: Path | None = None

    def client(self) -> Client:
        """A client of the chosen control plane.

        Raises:
            Complaint: Status 2; the server's address or a token file that was named is unusable.
        """
        server = server_url(self.server or os.environ.get("MESHCTL_SERVER") or DEFAULT_SERVER)
        token, place = self._token()
        return Client(server, token, place)

    def _token(self) -> tuple[str | None, str]:
        named = self.token_file or _path_of(os.environ.get("MESHCTL_TOKEN_FILE"))
        if named is not None:
            return read_token(named), str(named)
        local = DEFAULT_DATA / TOKEN_FILE
        if local.exists():
            return read_token(local), f"./{local}"
        return None, f"--token-file, MESHCTL_TOKEN_FILE and ./{local}"


def read_token(path: Path) -> str:
    """The token in `path`.

    Raises:
        Complaint: Status 2; it cannot be read or holds no token.
    """
    try:
        text = path.read_bytes()[:4096].decode("ascii", "replace").strip()
    except OSError as exc:
        raise Complaint(
            f"cannot read the token file {path}: {(exc.strerror or '').lower()}",
            hint="name api.token in the data folder of control-plane serve",
            status=USAGE,
        ) from exc
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise Complaint(
            f"{path} holds no API token",
            hint="name api.token in the data folder of control-plane serve (join files and certificates are others)",
            status=USAGE,
        )
    return text


def _path_of(text: str | None) -> Path | None:
    return Path(text) if text else None
