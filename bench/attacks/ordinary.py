"""What a client asks that means no harm: one request on each way into the sidecar."""

from bench.attacks.site import Site
from bench.attacks.wire import answer, http2, status
from tests.support.http2 import GET as GET2

GET = b"GET /ordinary HTTP/1.1\r\nHost: hostile.shop\r\n\r\n"


async def ordinary(site: Site) -> None:
    """Raises AssertionError when one is not answered."""
    plain = await site.plain(site.http1)
    async with plain:
        assert status(await answer(plain, GET)), "no answer over HTTP/1.1"
    for secure in (False, True):
        async with http2(site, secure=secure) as peer:
            await peer.send(peer.wire.headers(1, GET2, end=True))
            assert await peer.until(lambda: peer.statuses.get(1)), f"no answer over HTTP/2, TLS: {secure}"
