"""Programs with mounts of their own, which end with the last process in them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def with_mount(script: str) -> tuple[str, ...]:
    """Return the program that mounts as a script of the shell says, then starts another.

    Skips the test where this machine lets nobody mount.
    """
    if not _can_mount():
        pytest.skip("needs a mount namespace")
    return (*_NAMESPACE, "sh", "-c", f'{script} && exec "$@"', "sh")


def _can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    command = (*_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
