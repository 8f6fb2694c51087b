"""Through a proxy, nobody loses or gets another's answer, whoever else is there."""

from __future__ import annotations

import pytest

from tests.http.behind_proxies import KINDS, attack, find, proxy
from tests.http.harness import serving

REQUESTS = 5000


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_lost_or_crossed_beside_attackers(kind, tmp_path):
    if find(KINDS[kind][0]) is None:
        pytest.skip(f"there is no {KINDS[kind][0]} here")
    with serving(threads=8, workers=2) as web, proxy(kind, web.port, tmp_path) as port:
        seen = attack(port, REQUESTS, seed=1)

    assert seen == {"right": REQUESTS}
