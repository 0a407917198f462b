"""An identity in files that somebody else renews: taken when whole, never for a worse one."""

import os
from pathlib import Path

import trio
from trio.testing import MockClock

from sidecar.model.bootstrap import IdentityFiles
from sidecar.transport.identity import Identity
from sidecar.transport.identity_files import watch_files
from tests.support.pki import identity


def write_files(folder: Path, who: Identity) -> IdentityFiles:
    files = IdentityFiles(cert=folder / "svid.pem", key=folder / "svid.key", bundle=folder / "roots.pem")
    for path, content in ((files.cert, who.chain_pem), (files.key, who.key_pem), (files.bundle, who.bundle_pem)):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o600)
        fresh.replace(path)
    return files


async def test_changed_files_are_read_again_and_a_half_written_pair_keeps_the_old(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    first, second = identity("orders"), identity("stock")
    files = write_files(tmp_path, first)
    changes: list[Identity] = []
    complaints: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_files, files, first, changes.append, complaints.append)
        await trio.sleep(12.0)
        assert changes == []
        files.cert.write_bytes(second.chain_pem)  # the key still belongs to the first
        await trio.sleep(12.0)
        assert changes == []
        assert len(complaints) == 1
        assert "the key does not belong to the certificate" in complaints[0]
        assert complaints[0].endswith("; the identity in use stays")
        write_files(tmp_path, second)
        await trio.sleep(5.5)
        assert [each.spiffe_id for each in changes] == [second.spiffe_id]
        os.unlink(files.key)  # noqa: PTH108
        await trio.sleep(12.0)
        assert len(complaints) == 2
        nursery.cancel_scope.cancel()
    assert len(changes) == 1
