"""The API's bearer token: one random secret in DIR/api.token, readable by its owner alone.

Made at the first start, kept afterwards, so that a restart does not lock out those who hold it. Delete the file and
restart to change it. Never printed, logged or sent anywhere.
"""

import secrets
from pathlib import Path

from certs.files import KEY_MODE, replace_durably

FILE_NAME = "api.token"
TOKEN_BYTES = 32  # 256 bits from the system's generator: nothing to guess
SHORTEST = 20  # characters; a hand-written token below this is a password, not a key


class TokenError(Exception):
    """A token file that cannot be used; the text is one complete line."""


def load_or_create(data: Path) -> str:
    """Return the token in `data`/api.token; make it, mode 0600, when it is not there.

    A file that others may read is narrowed to its owner (a volume's group settings widen it on some platforms).

    Raises:
        TokenError: The file cannot be read or written, or holds no usable token.
    """
    path = data / FILE_NAME
    try:
        if path.exists():
            return _kept(path)
        made = secrets.token_urlsafe(TOKEN_BYTES)
        replace_durably(path, made.encode() + b"\n", KEY_MODE)
    except OSError as exc:
        raise TokenError(f"{path}: {exc.strerror}") from exc
    return made


def read(path: Path) -> str:
    """Return the token that a file holds.

    Raises:
        TokenError: Unreadable, or what is in it cannot be a token.
    """
    try:
        raw = path.read_bytes()[:4096]
    except OSError as exc:
        raise TokenError(f"{path}: {exc.strerror}") from exc
    text = raw.decode("ascii", "replace").strip()
    if len(text) < SHORTEST or not text.isprintable() or " " in text or "\ufffd" in text:
        raise TokenError(f"{path}: holds no API token, {SHORTEST} characters of ASCII or more; delete it for a new one")
    return text


def _kept(path: Path) -> str:
    token = read(path)
    if path.stat().st_mode & 0o077:
        path.chmod(KEY_MODE)
    return token
