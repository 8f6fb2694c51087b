"""Asks containers of the image: over HTTP, and by its HEALTHCHECK."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.support import ports
from tests.support.containers import exit_code, expect, setting

API_KEY = uuid4().hex


def check_health(name: str) -> None:
    """Run HEALTHCHECK, which fails where nobody answers."""
    kind, *command = setting("Healthcheck.Test")
    expect(kind == "CMD", f"HEALTHCHECK needs no shell: {kind}")
    expect(exit_code("exec", name, *command) == 0, "HEALTHCHECK failed")
    wrong = [f"--env={each}=1" for each in ("PORT", "WORKER_METRICS_PORT")]
    expect(exit_code("exec", *wrong, name, *command) == 1, "HEALTHCHECK saw nothing")


def check_alive(name: str) -> None:
    """Run HEALTHCHECK of a process without a port."""
    expect(exit_code("exec", name, *setting("Healthcheck.Test")[1:]) == 0, "HEALTHCHECK failed")


def ask(
    port: int,
    path: str,
    document: Any = None,
    media_type: str = "application/json",
    key: str = API_KEY,
) -> tuple[int, Any]:
    """Ask the service, with a key unless it is empty; 0 when it does not answer."""
    is_raw = isinstance(document, bytes) or document is None
    request = urllib.request.Request(
        f"http://{ports.HOST}:{port}{path}",
        data=document if is_raw else json.dumps(document).encode(),
        headers={"Content-Type": media_type} | ({"X-API-Key": key} if key else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http, as above
            is_json = "json" in answer.headers["Content-Type"]
            return answer.status, json.loads(answer.read()) if is_json else answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, None


def wait_until(is_so: Callable[[], bool], seconds: float) -> float:
    """Wait until something is so; return how long that took."""
    started_at = time.monotonic()
    while not is_so():
        expect(time.monotonic() - started_at < seconds, f"not so after {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - started_at
