"""What we forward is the same message to a reader of another family: Node's llhttp (h11 is asked in tests/fuzz)."""

import base64
import json
import subprocess
from pathlib import Path
from random import Random

import pytest

from sidecar.codec.h1_client import H1Client
from sidecar.model.messages import RequestHead, end_to_end, nominated
from tests.fuzz.test_codec_bytes import REQUESTS, WORDS
from tests.support.http1 import Message, serve
from tests.support.needs import find

NODE_METHODS = (b"GET", b"POST", b"PUT", b"HEAD")  # it knows a list of its own, we let every token pass
READER = Path(__file__).with_name("second_reader.js")


def mutated(rng: Random) -> bytes:
    """One or two valid requests with a few places changed."""
    stream = b"".join(rng.choices(REQUESTS, k=rng.randint(1, 2)))
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(stream))
        stream = stream[:at] + rng.choice([b"", *WORDS]) + stream[at + rng.randint(0, 3) :]
    return stream


def forwarded(message: Message) -> bytes:
    head = message.head
    fields = end_to_end(head.fields, nominated(head.get(b"connection")))
    assert isinstance(head, RequestHead)
    codec = H1Client()
    written = codec.encode_request(
        RequestHead(head.method, head.target, head.authority, fields, content_length=head.content_length)
    )
    return written + codec.encode_chunk(message.body) + codec.encode_end(message.trailers)


@pytest.mark.needs("node")
def test_llhttp_reads_one_request_and_the_same() -> None:
    rng = Random(7)
    sent: list[tuple[RequestHead, bytes, bytes]] = []
    while len(sent) < 2_000:
        for message in serve(mutated(rng), close=False).complete:
            head = message.head
            assert isinstance(head, RequestHead)
            if head.method in NODE_METHODS and not head.opens_tunnel:
                sent.append((head, message.body, forwarded(message)))
    node = find("node")
    assert node is not None
    inputs = json.dumps([base64.b64encode(written).decode() for _, _, written in sent])

    done = subprocess.run([node, READER], input=inputs, capture_output=True, text=True, timeout=60, check=True)

    for (head, body, written), seen in zip(sent, json.loads(done.stdout), strict=True):
        assert isinstance(seen, list), (seen, written)
        assert len(seen) == 1, written
        one = seen[0]
        assert (one["method"].encode(), one["url"].encode()) == (head.method, head.target), written
        assert (one["host"].encode(), base64.b64decode(one["body"])) == (head.authority, body), written
