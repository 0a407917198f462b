"""What we accept, and what we forward of it, is the same message to readers of other families.

The long run, with fifty times as many requests, is `make prove ARGS="--only differential"`.
"""

from random import Random

import pytest

from tests.conformance.differential import LEAST_ACCEPTED_RATIO, QUESTIONS, all_readers, ask, generate

GENERATED = 2_000


@pytest.mark.slow
@pytest.mark.needs("node", "nginx")
def test_h11_llhttp_nginx_and_envoy_read_what_we_read() -> None:
    requests = generate(Random(7), GENERATED)
    assert len(requests) / GENERATED >= LEAST_ACCEPTED_RATIO

    with all_readers() as readers:
        findings = ask(readers, requests, QUESTIONS)

    assert [reader.name for reader in readers] == ["h11", "llhttp", "nginx", "Envoy"]
    assert not findings, "\n".join(map(str, findings[:5]))
