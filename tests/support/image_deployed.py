"""The image in every process of the deployment, under the limits that the manifests set."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from tests.support import kustomize, ports, servers
from tests.support.containers import container, expect, output, run_to_end, say, setting
from tests.support.image_client import API_KEY, ask, check_health, wait_until
from tests.support.kustomize import Object, find
from tests.support.manifests import ROOT

OVERLAY = ROOT / "k8s" / "overlays" / "production"
THREADS, EACH = 8, 3
USERS = 1 + THREADS * EACH  # that try_web creates
STOP_SECONDS = 15  # what a stop may take: the drain, and half a CPU for the rest
# That the image may add to its base. 16 are for cryptography, by which keys sign access tokens.
ADDED_MB = 130
MIB = 1024 * 1024


def try_deployed() -> None:
    """Run every process of the deployment once, under its own limits.

    Raises:
        AssertionError: something is not as it should be.
    """
    objects = kustomize.render(OVERLAY)
    check_settings()
    with servers.postgresql() as database_url, catch_emails() as (email_url, emails):
        made_up = {
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "API_KEY": API_KEY,
            "JWT_SECRET": uuid4().hex,
            "EMAIL_SERVICE_URL": email_url,
            # Of this machine, whose network the containers share.
            "PORT": str(ports.free_port()),
            "WORKER_METRICS_PORT": str(ports.free_port()),
        }
        web = find(objects, "Deployment", "cloudnative-app")
        migrate(objects, web, made_up)
        with container(objects, web, made_up) as name:
            try_web(objects, web, made_up, name)
            try_worker(objects, made_up, emails)
            stop(name, "web")
        job = find(objects, "CronJob", "cloudnative-app-cleanup")["spec"]["jobTemplate"]
        say("cleanup: " + run_to_end(objects, job, "containers", made_up))


def migrate(objects: list[Object], web: Object, made_up: dict[str, str]) -> None:
    """Run the init container as two pods would, at once, and then a third time."""
    with ThreadPoolExecutor(2) as pods:
        started = [pods.submit(run_to_end, objects, web, "initContainers", made_up) for _ in "12"]
        results = [each.result() for each in started]
    expect(sorted(len(each.split("applied")) > 1 for each in results) == [False, True], results)
    expect(run_to_end(objects, web, "initContainers", made_up) == "up to date", "not up to date")
    say("migrate: one of two applied the migrations, then there was nothing left to do")


def check_settings() -> None:
    """Expect the image to say whose it is, from what it was made, and who runs it."""
    labels = {name.rpartition(".")[2]: value for name, value in setting("Labels").items()}
    facts = [labels[name] for name in ("title", "licenses", "created", "version", "revision")]
    say(f"image: {facts}")
    expect(all(facts) and "unknown" not in facts, facts)
    variables = dict(each.split("=", 1) for each in setting("Env"))
    expect([variables["APP_VERSION"], variables["BUILD_ID"]] == facts[-2:], variables)
    expect(setting("User") == "10001:10001", setting("User"))
    expect("8080/tcp" in setting("ExposedPorts"), setting("ExposedPorts"))


def try_web(objects: list[Object], web: Object, made_up: dict[str, str], name: str) -> None:
    """Answer probes, create a user, work for a while."""
    port = int(made_up["PORT"])
    seconds = wait_until(lambda: ask(port, "/health")[0] == 200, 150)
    say(f"web: /health after {seconds:.1f} s")
    wait_until(lambda: ask(port, "/ready")[0] == 200, 10)
    look_inside(name)
    before = memory(name)
    status, user = ask(port, "/users", {"email": "ada@example.com", "name": "Ada"})
    expect(status == 201, user)
    expect(ask(port, f"/users/{user['id']}")[1] == user, "the user is another one")
    work(port, user["id"])
    say(f"web: {before:.0f} MiB of memory at first, {memory(name):.0f} after some work")
    check_target(web, objects, memory(name))
    check_health(name)


def work(port: int, user_id: str) -> None:
    """Read, and hash passwords, on several threads at once: that is what takes memory."""
    statuses: list[int] = []

    def do(number: int) -> None:
        for each in range(EACH):
            document = {"email": f"{number}-{each}@example.com", "name": "Ada"}
            secret = {"password": f"a long enough sentence {each}"}
            statuses.append(ask(port, "/users", document | secret)[0])
        statuses.extend(ask(port, f"/users/{user_id}")[0] for _ in range(40))

    with ThreadPoolExecutor(THREADS) as clients:
        list(clients.map(do, range(THREADS)))
    expect(set(statuses) == {200, 201}, sorted(set(statuses)))


def check_target(web: Object, objects: list[Object], used: float) -> None:
    """Compare the memory of a pod that does little with what lets the autoscaler add pods."""
    requested = web["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"]
    metrics = find(objects, "HorizontalPodAutoscaler", "cloudnative-app")["spec"]["metrics"]
    (percent,) = (
        each["resource"]["target"]["averageUtilization"]
        for each in metrics
        if each["resource"]["name"] == "memory"
    )
    limit = int(requested.removesuffix("Mi")) * percent / 100
    say(f"web: the autoscaler adds pods above {limit:.0f} MiB")
    expect(used < limit, "an idle pod uses so much memory that the autoscaler would add pods")


def look_inside(name: str) -> None:
    """Expect no rights and none to gain, nothing to write to but /tmp, byte code, no tools."""
    script = """
import importlib.util, os, pathlib, shutil
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getgid(), int(status["CapEff"], 16), int(status["CapBnd"], 16),
      status["NoNewPrivs"].strip(), status["Seccomp"].strip())
for folder in ("/", "/app", "/opt/venv", "/var/tmp", "/run", "/tmp"):
    try:
        pathlib.Path(folder, "probe").write_text("")
        print(folder)
    except OSError:
        pass
tools = [*filter(shutil.which, ["cc", "gcc", "make", "git", "curl", "pip", "uv"])]
tools += filter(importlib.util.find_spec, ["pip", "ensurepip", "setuptools"])
files = [each for folder in ("/opt/venv/lib", "/app") for each in pathlib.Path(folder).rglob("*")]
sources = [str(each) for each in files if each.suffix == ".py"]
compiled = sum(os.path.exists(importlib.util.cache_from_source(each)) for each in sources)
raised = [str(each) for each in pathlib.Path("/usr").rglob("*")
          if each.lstat().st_mode & 0o6000 and each.is_file()]
print(tools + raised, len(sources), len(sources) - compiled)
print(sum(each.stat().st_size for each in files if each.is_file()))
"""
    seen, content, size = output("exec", name, "python", "-c", script).rsplit("\n", 2)
    say(f"web: uid, gid, capabilities, privileges, seccomp; writable: {' '.join(seen.split())}")
    expect(seen.split() == ["10001", "10001", "0", "0", "1", "2", "/tmp"], seen)
    say(f"web: tools, setuid; sources, those not compiled: {content}; {int(size) / 1e6:.0f} MB")
    expect(content.startswith("[] ") and content.endswith(" 0"), content)
    expect(int(size) < ADDED_MB * 1e6, "the image is too large: see make image-report")


def try_worker(objects: list[Object], made_up: dict[str, str], emails: list[Any]) -> None:
    """Deliver the e-mails of all users that were created, import some more, stop."""
    worker = find(objects, "Deployment", "cloudnative-app-worker")
    port = int(made_up["WORKER_METRICS_PORT"])
    with container(objects, worker, made_up) as name:
        seconds = wait_until(lambda: len(emails) == USERS, 60)
        say(f"worker: delivered {USERS} e-mails after {seconds:.1f} s, such as {emails[0]}")
        expect(ask(port, "/health")[0] == ask(port, "/metrics")[0] == 200, "not healthy")
        check_health(name)
        import_users(int(made_up["PORT"]))
        say(f"worker: imported, {memory(name):.0f} MiB of memory")
        stop(name, "worker")


def import_users(port: int) -> None:
    """Have users imported, which the worker does in processes of its own."""
    lines = b"".join(b'{"email": "%d@example.com", "name": "Ada"}\n' % each for each in range(100))
    _, job = ask(port, "/users/import", lines, "application/x-ndjson")

    def is_done() -> bool:
        return bool(ask(port, f"/jobs/{job['id']}")[1]["state"] == "succeeded")

    wait_until(is_done, 60)


def memory(name: str) -> float:
    """Return the working set of a container in MiB, counted as the kubelet does."""
    script = """
import pathlib
root = pathlib.Path("/sys/fs/cgroup")
new = root / "memory.current"
folder = root if new.exists() else root / "memory"
used = int((new if new.exists() else folder / "memory.usage_in_bytes").read_text())
stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
print(used - int(stat.get("total_inactive_file", stat["inactive_file"])))
"""
    return int(output("exec", name, "python", "-I", "-S", "-c", script)) / MIB


def stop(name: str, what: str) -> None:
    """Send SIGTERM and expect the process to end in good order, soon."""
    started_at = time.monotonic()
    output("stop", "-t", "30", name)
    seconds = time.monotonic() - started_at
    code = output("inspect", "--format={{.State.ExitCode}}", name)
    say(f"{what}: SIGTERM, exit {code} after {seconds:.1f} s")
    expect(code == "0" and seconds < STOP_SECONDS, output("logs", name)[-4000:])


@contextmanager
def catch_emails() -> Iterator[tuple[str, list[Any]]]:
    """Run an e-mail service on this machine; yield its URL and what it was given."""
    emails: list[Any] = []

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # a worker comes with many connections at once

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            emails.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the library looks for this name

        def log_message(self, *_arguments: object) -> None:
            pass

    server = Server((ports.HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{ports.HOST}:{server.server_port}/send", emails
    server.shutdown()
