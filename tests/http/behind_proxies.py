"""Kept connections behind nginx and HAProxy, while attackers are on the same ones.

    make fuzz-proxies requests=20000 seed=1

Attackers send mutated requests. Nobody may get another's answer, and no connection more answers
than were asked for on it.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.http.fuzz import inputs
from tests.http.harness import request, serving
from tests.support.ports import HOST, free_port

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    upstream app {{ server {host}:{backend}; keepalive 8; }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""
HAPROXY = """
global
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind {host}:{port}
  default_backend b
backend b
  http-reuse {reuse}
  server s {host}:{backend}
"""
KINDS = {
    "nginx": ("nginx", NGINX, {"buffering": "on"}),
    "nginx, unbuffered": ("nginx", NGINX, {"buffering": "off"}),
    "haproxy": ("haproxy", HAPROXY, {"reuse": "safe"}),
    "haproxy, always": ("haproxy", HAPROXY, {"reuse": "always"}),
}
ANSWER = re.compile(rb"HTTP/1\.[01] [2-5][0-9]{2} ")
VICTIMS = 8
ATTACKERS = 2
CHUNKED = "Transfer-Encoding: chunked"
ATTACKS = [
    request("/ignore", CHUNKED, method="POST") + b"5\r\nhello\r\n0\r\nHost: y\r\n\r\n",
    request("/ignore", CHUNKED, method="POST") + b"5\r\nhello\r\n0\r\nnone\r\n\r\n",
    request("/ignore", CHUNKED, method="POST") + b"zz\r\n\r\n",
    request("/ignore", method="POST", body=b" " * 66000),
    request("/echo", method="POST", body=b" " * 66000),
    request("/ignore", CHUNKED, method="POST") + b"10000\r\n" + b"a" * 65536 + b"\r\n1\r\na\r\nz",
    request("/ignore", "Content-Length: 100", method="POST") + b"cut",
    request("/", "Connection: Upgrade", "Upgrade: h2c", method="POST", body=b"GET / HTTP/1.1\r\n"),
    request("/broken_stream"),
    request("/short_stream"),
    request("/ignore", "Content-Length: 5", "Expect: 100-continue", method="POST") + b"hello",
]


def find(program: str) -> str | None:
    """Return where a proxy's program is."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


@contextmanager
def proxy(kind: str, backend: int, folder: Path) -> Iterator[int]:
    """Run a proxy before a port; yield its own."""
    name, template, values = KINDS[kind]
    port = free_port()
    file = folder / f"{name}.conf"
    file.write_text(template.format(folder=folder, host=HOST, port=port, backend=backend, **values))
    program = find(name) or name
    options: list[str | Path] = ["-db", "-f", file]
    if name == "nginx":
        options = ["-c", file, "-p", folder]
    process = subprocess.Popen(
        [program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _await(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def attack(port: int, requests: int, seed: int) -> Counter[str]:
    """Let victims ask while attackers do what they can; count what the victims see."""
    seen: Counter[str] = Counter()
    over = threading.Event()
    victims = [
        threading.Thread(target=_ask, args=(port, number, requests // VICTIMS, seen))
        for number in range(VICTIMS)
    ]
    attackers = [
        threading.Thread(target=_attack, args=(port, seed + number, over, seen))
        for number in range(ATTACKERS)
    ]
    for each in (*attackers, *victims):
        each.start()
    for each in victims:
        each.join()
    over.set()
    for each in attackers:
        each.join()
    return seen


def _ask(port: int, number: int, requests: int, seen: Counter[str]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    for each in range(requests):
        tag = f"victim-{number}-{each}"
        try:
            if each % 2:
                connection.request("POST", "/echo", body=tag)
            else:
                connection.request("GET", f"/?{tag}")
            response = connection.getresponse()
            body = response.read().decode("latin-1")
        except (OSError, http.client.HTTPException) as error:
            seen[f"lost: {type(error).__name__}"] += 1
            connection.close()
            continue
        if response.status != 200:
            seen[f"lost: {response.status}"] += 1
        elif not re.search(rf"{tag}\b", body):
            seen["crossed"] += 1
        else:
            seen["right"] += 1
    connection.close()


def _attack(port: int, seed: int, over: threading.Event, seen: Counter[str]) -> None:
    chance = random.Random(seed)  # noqa: S311 - an attack can be repeated
    mutated = inputs(1_000_000, seed)
    while not over.is_set():
        data = chance.choice([*ATTACKS, next(mutated)[0]])
        received = _exchange(port, data)
        if b"victim-" in received:
            seen["crossed: an attacker got a victim's answer"] += 1
        # A request has a version; at the end, one refusal may answer what is none.
        if len(ANSWER.findall(received)) > data.count(b"HTTP/") + 1:
            seen[f"surplus: {data!r}"] += 1


def _exchange(port: int, data: bytes) -> bytes:
    received = b""
    with suppress(OSError), socket.create_connection((HOST, port), 5) as client:
        client.settimeout(0.05)
        client.sendall(data)
        while piece := client.recv(65536):
            received += piece
    return received


def main() -> int:
    """Attack the service behind each proxy that is installed; return 1 if anybody suffered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311
    chosen = parser.parse_args()
    right = {"right": chosen.requests // VICTIMS * VICTIMS}
    is_failed = False
    for kind in (each for each in KINDS if find(KINDS[each][0])):
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(threads=8, workers=2) as web,
            proxy(kind, web.port, Path(folder)) as port,
        ):
            seen = attack(port, chosen.requests, chosen.seed)
        sys.stdout.write(f"{kind}, seed {chosen.seed}: {dict(seen)}\n")
        is_failed |= seen != right
    return int(is_failed)


if __name__ == "__main__":
    sys.exit(main())
