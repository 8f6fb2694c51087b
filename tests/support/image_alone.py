"""The image without a manifest: it serves, or says in a few lines why it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from tests.support import ports
from tests.support.containers import IMAGE, engine, expect, output, run_flags, say
from tests.support.image_client import ask, check_alive, check_health, wait_until


def try_alone() -> None:
    """Run the image as somebody does who has read nothing: it serves, or says why it does not."""
    port = ports.free_port()
    with alone(f"--env=PORT={port}") as name:
        wait_until(lambda: ask(port, "/ready")[0] == 200, 150)
        check_health(name)
        expect("The database is a temporary file" in output("logs", name), "it does not say so")
        status, user = ask(port, "/users", {"email": "a@example.com", "name": "Ada"}, key="")
        expect(status == 201, user)
    with alone(command=("python", "app.py", "worker")) as name:
        check_alive(name)
    refused = subprocess.run(
        [engine(), "run", "--rm", *run_flags(), "--env=ENVIRONMENT=production", IMAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    say(f"alone: {refused.stderr.splitlines()[-3:]}")
    expect(refused.returncode == 2 and "Traceback" not in refused.stderr, refused.stderr)


@contextmanager
def alone(*flags: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """Run the image without a manifest; yield the container's name."""
    name = f"image-alone-{uuid4().hex[:8]}"
    own = ("--detach", "--pull=never", "--network=host", "--name", name)
    output("run", *own, *run_flags(), *flags, IMAGE, *command)
    try:
        yield name
    finally:
        output("rm", "--force", name)
