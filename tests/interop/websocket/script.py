"""What every WebSocket client does, in order, and how it writes down what came back.

A client is told its steps as (kind, value); each adds a line to the transcript:

    text SIZE, binary SIZE    sends a message of so many bytes: `text|binary BYTES SHA256` of what came back
    fragments PIECES          sends one text message in pieces of 1000 bytes: the same
    ping WORD                 `pong WORD`
    say TEXT                  sends text: `said TEXT` of what came back
    order TEXT                sends text, awaits nothing: `ordered`
    close CODE                closes: `closed CODE`, the code that the server sent back
    closed                    waits for the server to close: `closed CODE WHY`
"""

import hashlib

Step = tuple[str, str]
Script = tuple[Step, ...]

# Around the three ways in which a frame writes its length (RFC 6455 section 5.2), and what fits into no buffer.
SIZES = (0, 1, 125, 126, 65535, 65536, 1 << 20)
PIECE_BYTES = 1000
SUBPROTOCOL = "echo.v1"
# aiohttp cannot send a message in fragments: its writer ends every message with its first frame.
CANNOT_FRAGMENT = ("aiohttp",)


def conversation(client: str) -> Script:
    """Everything that goes on inside one connection, closed by the client."""
    sizes = [(kind, str(size)) for size in SIZES for kind in ("text", "binary")]
    fragments = [] if client in CANNOT_FRAGMENT else [("fragments", "1"), ("fragments", "70")]
    ending = [("say", "!name conversation"), ("close", "1000")]
    return (*sizes, *fragments, ("ping", "are you there"), ("say", "!ping"), ("text", "7"), *ending)


def ended(token: str) -> Script:
    """Asks how an earlier connection ended at the server."""
    return (("say", f"!ended {token}"), ("close", "1000"))


def text_of(size: int) -> str:
    """Some text of so many bytes, with characters of two and three where they fit."""
    pattern = "aé€-"  # 1 + 2 + 3 + 1 bytes
    return pattern * (size // 7) + "x" * (size % 7)


def bytes_of(size: int) -> bytes:
    """Some bytes."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def pieces_of(count: int) -> list[str]:
    """A text in so many pieces."""
    return [chr(ord("a") + number % 26) * PIECE_BYTES for number in range(count)]


def line(message: str | bytes) -> str:
    """The line for a message that came."""
    data = message.encode() if isinstance(message, str) else message
    return f"{'text' if isinstance(message, str) else 'binary'} {len(data)} {hashlib.sha256(data).hexdigest()}"


def expected(script: Script) -> list[str]:
    """The transcript when nothing is lost on the way."""
    return [_expected(kind, value) for kind, value in script]


def _expected(kind: str, value: str) -> str:
    if kind == "text":
        return line(text_of(int(value)))
    if kind == "binary":
        return line(bytes_of(int(value)))
    if kind == "fragments":
        return line("".join(pieces_of(int(value))))
    answers = {"!ping": "!ponged"}
    said = answers.get(value, "!named" if value.startswith("!name") else value)
    return {"ping": f"pong {value}", "say": f"said {said}", "close": f"closed {value}"}[kind]
