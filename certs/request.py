"""Make a private key and a signing request, write both to a pipe, and end: `python -m certs.request`.

A child of the sidecar, because cryptography would cost it 20 MB for ever, and here costs them for a moment. The sidecar
reads the pipe with `certs.bundle.key_request`. The request names nothing: whoever signs decides who asked.

The key goes to the pipe and nowhere else: not to a terminal, a file, an argument, a log or a core dump. Says what went
wrong on stderr and by its exit status: 1 the reader is gone, 2 called in another way than meant, 3 cannot make a key.
"""

import os
import resource
import stat
import sys

OK, READER_GONE, USAGE, NO_KEY = 0, 1, 2, 3


def main() -> int:
    """Write private key and request as two PEM blocks to stdout; return the exit status."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if len(sys.argv) > 1:
        return _complain("takes no arguments", USAGE)
    if not _is_pipe(1):
        return _complain("writes a private key, and only to a pipe or socket; it is started by the sidecar", USAGE)
    try:
        made = key_and_request()
    except Exception as problem:  # whatever it is, the parent needs a sentence and a status, and no traceback
        return _complain(f"cannot make a key: {type(problem).__name__}: {problem}", NO_KEY)
    try:
        _write_all(1, made)
    except OSError as problem:
        return _complain(f"cannot write to the pipe: {problem.strerror}", READER_GONE)
    return OK


def key_and_request() -> bytes:
    """A new EC P-256 key (PKCS #8) and a request signed with it, both as PEM, in this order."""
    # Not at the top: a missing or broken library is then one sentence like every other failure.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + request.public_bytes(Encoding.PEM)


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _complain(sentence: str, status: int) -> int:
    print(f"certs.request: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
