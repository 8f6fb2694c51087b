"""Builds the image and runs it as the cluster would; see `make image` and `make image-test`.

    python -m tests.image build | test | report

Works with docker, podman, or buildah and podman, whichever is there. IMAGE names the image;
BUILD_FLAGS and RUN_FLAGS are passed on to the program, for what a machine needs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from config import AppConfig
from tests import kustomize, servers
from tests.kustomize import Object, find
from tests.manifests import ROOT

IMAGE = os.environ.get("IMAGE", "localhost/cloudnative-user-api:development")
OVERLAY = ROOT / "k8s" / "overlays" / "production"
API_KEY = uuid4().hex
THREADS, EACH = 8, 3
USERS = 1 + THREADS * EACH  # that try_web creates
STOP_SECONDS = 15  # what a stop may take: the drain, and half a CPU for the rest
MIB = 1024 * 1024


def build(target: str = "runtime") -> None:
    """Build a stage of the Dockerfile."""
    facts = {
        "BUILD_VERSION": os.environ.get("VERSION") or git("describe", "--tags", "--always"),
        "BUILD_COMMIT": git("rev-parse", "HEAD"),
        "BUILD_DATE": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    arguments = [f"--build-arg={name}={value}" for name, value in facts.items()]
    if base := os.environ.get("PYTHON_IMAGE"):
        arguments.append(f"--build-arg=PYTHON_IMAGE={base}")
    if engine() != "docker":
        arguments.append("--format=docker")  # the other format knows no HEALTHCHECK
    flags = shlex.split(os.environ.get("BUILD_FLAGS", ""))
    run(builder(), "build", *flags, *arguments, "--target", target, "--tag", IMAGE, ".")
    report_size()


def report() -> None:
    """Print the size and the largest parts."""
    report_size()
    folders = "/opt/venv/lib/python3*/site-packages/* /opt/venv /app"
    script = f"du -sk {folders} | sort -rn | head -25"
    sys.stdout.write(output("run", "--rm", *run_flags(), IMAGE, "sh", "-c", script))


def report_size() -> None:
    """Print how large the image is."""
    say(f"{IMAGE}: {int(output('image', 'inspect', '--format={{.Size}}', IMAGE)) / 1e6:.0f} MB")


def test() -> None:
    """Run every process of the deployment once, under its own limits.

    Raises:
        AssertionError: something is not as it should be.
    """
    objects = kustomize.render(OVERLAY)
    with servers.postgresql() as database_url, catch_emails() as (email_url, emails):
        made_up = {
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "API_KEY": API_KEY,
            "JWT_SECRET": uuid4().hex,
            "EMAIL_SERVICE_URL": email_url,
            # Of this machine, whose network the containers share.
            "PORT": str(servers.free_port()),
            "WORKER_METRICS_PORT": str(servers.free_port()),
        }
        web = find(objects, "Deployment", "cloudnative-app")
        migrate(objects, web, made_up)
        try_web(objects, web, made_up)
        try_worker(objects, made_up, emails)
        job = find(objects, "CronJob", "cloudnative-app-cleanup")["spec"]["jobTemplate"]
        say("cleanup: " + run_to_end(objects, job, "containers", made_up))
    say("All processes ran as the manifests say")


def migrate(objects: list[Object], web: Object, made_up: dict[str, str]) -> None:
    """Run the init container as two pods would, at once, and then a third time."""
    with ThreadPoolExecutor(2) as pods:
        started = [pods.submit(run_to_end, objects, web, "initContainers", made_up) for _ in "12"]
        results = [each.result() for each in started]
    expect(sorted(len(each.split("applied")) > 1 for each in results) == [False, True], results)
    expect(run_to_end(objects, web, "initContainers", made_up) == "up to date", "not up to date")
    say("migrate: one of two applied the migrations, then there was nothing left to do")


def try_web(objects: list[Object], web: Object, made_up: dict[str, str]) -> None:
    """Serve, answer probes, create a user, stop."""
    port = int(made_up["PORT"])
    with container(objects, web, made_up) as name:
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
        expect(output("exec", name, *healthcheck()) == "", "HEALTHCHECK failed")
        stop(name, "web")


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


def try_worker(objects: list[Object], made_up: dict[str, str], emails: list[Any]) -> None:
    """Deliver the e-mails of all users that were created, stop."""
    worker = find(objects, "Deployment", "cloudnative-app-worker")
    with container(objects, worker, made_up) as name:
        seconds = wait_until(lambda: len(emails) == USERS, 60)
        say(f"worker: delivered {USERS} e-mails after {seconds:.1f} s, such as {emails[0]}")
        if hasattr(AppConfig, "worker_metrics_port"):
            expect(ask(int(made_up["WORKER_METRICS_PORT"]), "/health")[0] == 200, "not healthy")
        say(f"worker: {memory(name):.0f} MiB of memory")
        stop(name, "worker")


def look_inside(name: str) -> None:
    """Expect no rights, nothing to write to but /tmp, and no pip."""
    script = """
import os, pathlib
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getgid(), int(status["CapEff"], 16), int(status["CapBnd"], 16),
      status["NoNewPrivs"].strip(), status["Seccomp"].strip())
for folder in ("/", "/app", "/opt/venv", "/var/tmp", "/run", "/tmp"):
    try:
        pathlib.Path(folder, "probe").write_text("")
        print(folder)
    except OSError:
        pass
try:
    import pip
    print("pip")
except ImportError:
    pass
"""
    seen = output("exec", name, "python", "-c", script).split()
    say(f"web: uid, gid, capabilities, privileges, seccomp; writable: {' '.join(seen)}")
    expect(seen == ["10001", "10001", "0", "0", "1", "2", "/tmp"], seen)


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
    output("stop", "--time=30", name)
    seconds = time.monotonic() - started_at
    code = output("inspect", "--format={{.State.ExitCode}}", name)
    say(f"{what}: SIGTERM, exit {code} after {seconds:.1f} s")
    expect(code == "0" and seconds < STOP_SECONDS, output("logs", name)[-4000:])


def healthcheck() -> list[str]:
    """Return the command of the image's HEALTHCHECK."""
    text = output("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", IMAGE)
    kind, *command = json.loads(text if text != "null" else "[]") or ["none"]
    expect(kind == "CMD", f"the image has no HEALTHCHECK: {text}")
    return command


@contextmanager
def container(objects: list[Object], owner: Object, made_up: dict[str, str]) -> Iterator[str]:
    """Run the container of a workload in the background; yield its name."""
    name = f"image-test-{uuid4().hex[:8]}"
    output("run", "--detach", "--name", name, *arguments(objects, owner, "containers", made_up))
    try:
        yield name
    except BaseException:
        say(output("logs", name)[-4000:])
        raise
    finally:
        output("rm", "--force", name)


def run_to_end(objects: list[Object], owner: Object, kind: str, made_up: dict[str, str]) -> str:
    """Run a container of a workload until it exits with 0; return what it printed."""
    return output("run", "--rm", *arguments(objects, owner, kind, made_up), only_stdout=True)


def arguments(
    objects: list[Object], owner: Object, kind: str, made_up: dict[str, str]
) -> list[str]:
    """Say what the manifest says, in the words of `docker run`."""
    spec = owner["spec"]["template"]["spec"]
    (given,) = spec[kind]
    user = spec["securityContext"]
    limits = given["resources"]["limits"]
    result = [*run_flags(), "--pull=never", "--network=host", "--security-opt=no-new-privileges"]
    result += [f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    result += [f"--cap-drop={each}" for each in given["securityContext"]["capabilities"]["drop"]]
    result += [f"--memory={limits['memory'].lower().removesuffix('i')}"]
    result += [f"--cpus={int(limits['cpu'].removesuffix('m')) / 1000}"]
    if given["securityContext"]["readOnlyRootFilesystem"]:
        result += ["--read-only"]
        result += ["--read-only-tmpfs=false"] if engine() == "podman" else []
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in spec["volumes"]}
    for mount in given["volumeMounts"]:
        size = sizes[mount["name"]].lower().removesuffix("i")
        result += [f"--tmpfs={mount['mountPath']}:rw,size={size},mode=1777"]
    for name, value in environment(objects, given, made_up).items():
        result += [f"--env={name}={value}"]
    return [*result, IMAGE, *given["command"]]


def environment(objects: list[Object], given: Object, made_up: dict[str, str]) -> dict[str, str]:
    """Return the variables of a container."""
    result: dict[str, str] = {}
    for source in given["envFrom"]:
        if "configMapRef" in source:
            result |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    result |= {each["name"]: each.get("value", "made-up") for each in given.get("env", [])}
    return result | {
        name: value
        for name, value in made_up.items()
        if name in result or name != "WORKER_METRICS_PORT"
    }


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

    server = Server((servers.HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{servers.HOST}:{server.server_port}/send", emails
    server.shutdown()


def ask(port: int, path: str, document: Any = None) -> tuple[int, Any]:
    """Ask the service; 0 when it does not answer."""
    request = urllib.request.Request(
        f"http://{servers.HOST}:{port}{path}",
        data=None if document is None else json.dumps(document).encode(),
        headers={"Content-Type": "application/json", "X-API-Key": API_KEY},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http, as above
            return answer.status, json.loads(answer.read())
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


@cache
def engine() -> str:
    """Return the program that runs containers: docker if its engine answers, else podman."""
    docker = shutil.which("docker")
    if (
        docker
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    ):
        return "docker"
    if shutil.which("podman"):
        return "podman"
    sys.exit("Needs docker with a running engine, or podman")


def builder() -> str:
    """Return the program that builds images."""
    return "buildah" if engine() == "podman" and shutil.which("buildah") else engine()


def run_flags() -> list[str]:
    """Return what this machine needs for running a container."""
    return shlex.split(os.environ.get("RUN_FLAGS", ""))


def output(*command: str, only_stdout: bool = False) -> str:
    """Run the engine; return what it prints, without its last line end."""
    result = subprocess.run(
        [engine(), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),  # podman leaves a file there when memory runs out
    )
    expect(result.returncode == 0, f"{command}: {result.stdout}{result.stderr}")
    is_log = command[0] == "logs" and not only_stdout
    return (result.stdout + (result.stderr if is_log else "")).strip()


def run(*command: str) -> None:
    """Run a program that prints for itself."""
    result = subprocess.run(command, cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(result.returncode)


def git(*arguments: str) -> str:
    """Ask git; what is built outside of a clone is unknown."""
    result = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return result.stdout.strip() or "unknown"


def expect(is_so: bool, otherwise: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise AssertionError unless something is so."""
    if not is_so:
        raise AssertionError(otherwise)


def say(sentence: str) -> None:
    """Print a line at once."""
    print(sentence, flush=True)  # noqa: T201 - this is a program


if __name__ == "__main__":
    {"build": build, "test": test, "report": report}[sys.argv[1]](*sys.argv[2:])
