"""The benchmark's arithmetic and its checks; nothing here depends on the time it takes."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from benchmarks import (
    answers,
    database,
    goals,
    picture,
    processes,
    profile,
    results,
    rounds,
    tables,
)
from benchmarks.load import Generator, Plan, percentiles_ms
from benchmarks.rounds import Summary
from benchmarks.servers import Answer

NEW = {"email": "ada@example.com", "name": "Ada Lovelace"}
USER_ID = "01890000-0000-7000-8000-000000000001"
CREATED = Answer(
    201,
    {"location": f"/users/{USER_ID}"},
    {**NEW, "id": USER_ID, "created_at": "2026-01-01T00:00:00Z", "status": "active"},
)


def row(subject, number, per_second, workload="W1"):
    return {
        "suite": "throughput",
        "subject": subject,
        "workload": workload,
        "round": number,
        "per_second": per_second,
    }


ROWS = [
    row("ours", 1, 300.0),
    row("ours", 2, 200.0),
    row("ours", 3, 900.0),
    row("twin", 1, 330.0),
    row("twin", 2, 180.0),
    row("twin", 3, 900.0),
    row("fastapi_sqlalchemy", 1, 100.0),
    row("fastapi_sqlalchemy", 2, 100.0),
    row("fastapi_sqlalchemy", 4, 1.0),
]


def test_a_summary_is_the_median_and_the_extremes():
    assert rounds.summarize([3.0, 1.0, 2.0, 10.0]) == Summary(2.5, 1.0, 10.0, 4)
    assert rounds.summarize([]) is None


def test_a_ratio_is_taken_within_each_round_that_has_both():
    ratio = rounds.ratios(ROWS, "per_second", "ours", "fastapi_sqlalchemy", workload="W1")

    assert ratio == Summary(2.5, 2.0, 3.0, 2)


def test_the_noise_is_the_service_over_itself():
    assert rounds.noise(ROWS, "per_second", workload="W1") == pytest.approx((1.0, 0.9, 1.1, 3))


def test_a_goal_says_whether_its_median_is_where_it_should_be():
    floor = goals.GOALS[0]

    assert floor.verdict(ROWS) == "reached"
    assert replace(floor, target=2.6).verdict(ROWS) == "not reached"
    assert replace(floor, is_ceiling=True).verdict(ROWS) == "not reached"
    assert floor.verdict([]) == "not measured"


def test_every_goal_has_a_line_in_the_table():
    lines = tables.goals(ROWS).splitlines()

    assert len(lines) == 2 + len(goals.GOALS)
    assert "2.50 (2.00\u20133.00)" in lines[2]


def test_the_cost_of_telemetry_is_a_share_of_what_a_bare_get_costs_in_the_same_round():
    costs = {
        ("ours", "W1", 1): 500.0,
        ("silent", "W1", 1): 400.0,
        ("wsgi_psycopg2", "W2", 1): 200.0,
        ("ours", "W1", 2): 700.0,
        ("silent", "W1", 2): 400.0,
        ("wsgi_psycopg2", "W2", 2): 300.0,
        ("wsgi_psycopg2", "W1", 2): 1.0,
        ("ours", "W1", 3): 1.0,
    }
    rows = [
        row(subject, number, 1.0, workload) | {"server_us": cost}
        for (subject, workload, number), cost in costs.items()
    ]

    assert goals.telemetry_share("W1")(rows) == Summary(0.75, 0.5, 1.0, 2)


def test_callers_beside_an_import_are_judged_by_the_workload_that_waits_longer():
    rows = [
        {"suite": "latency", "subject": goals.BESIDE_IMPORT, "round": number, **figures}
        for number, figures in enumerate(
            ({"workload": "W1", "p99_ms": 100.0}, {"workload": "W2", "p99_ms": 260.0}), start=1
        )
    ]
    goal = next(each for each in goals.GOALS if "beside an import" in each.text)

    assert goal.measure(rows) == Summary(260.0, 260.0, 260.0, 1)
    assert goal.verdict(rows) == "not reached"


def test_a_figure_of_one_round_has_no_spread():
    assert tables.text(rounds.summarize([1.234])) == "1.23"
    assert tables.text(rounds.summarize([1.0, 2.0])) == "1.50 (1.00\u20132.00)"


def test_the_picture_has_a_bar_for_each_peer_that_was_measured():
    drawn = picture.draw([*ROWS, row("fastapi_equal", 1, 50.0), row("django_equal", 1, 75.0)])

    assert drawn.count('class="b"') == 1
    assert drawn.count('class="e"') == 2
    assert "W1 over FastAPI, equal work" in drawn


def test_percentiles_count_from_the_smallest():
    latencies = [number / 1000 for number in range(1, 1001)]

    found = percentiles_ms(latencies[::-1])

    assert found == pytest.approx({"p50": 501, "p99": 990, "p99.9": 999, "max": 1000}, abs=1)


def test_a_good_answer_to_a_registration_has_no_problems():
    assert list(answers.created_problems(CREATED, NEW)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": 200}, "registering: 200 instead of 201"),
        ({"headers": {}}, "Location does not name the user"),
        ({"document": None}, "the user has the members"),
        ({"document": {**CREATED.document, "password": ""}}, "the user has the members"),
        ({"document": {**CREATED.document, "name": "Bob"}}, "the user is"),
        (
            {"document": {**CREATED.document, "id": USER_ID.replace("-7", "-4")}},
            "is not of version 7",
        ),
    ],
)
def test_what_is_wrong_with_an_answer_is_named(changes, problem):
    found = answers.created_problems(replace(CREATED, **changes), NEW)

    assert any(problem in each for each in found)


def test_a_row_that_is_not_there_is_a_problem():
    def database(rows):
        return SimpleNamespace(rows=lambda _statement, _values: rows)

    stored = database([(NEW["email"], NEW["name"], "active")])

    assert list(answers.row_problems(stored, USER_ID, NEW)) == []
    assert list(answers.row_problems(database([]), USER_ID, NEW))


@pytest.fixture
def port():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200 if self.path == "/here" else 404)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def plan(port, **options):
    return Plan(port=port, connections=2, seconds=0.2, expected_status=200, **options)


@pytest.mark.parametrize("rate", [None, 50.0])
def test_the_generator_counts_expected_answers_apart_from_others(port, rate):
    outcome = Generator(plan(port, paths=["/here", "/gone"], rate=rate)).run()

    assert abs(outcome.requests - outcome.other_statuses["404"]) <= 1


def test_an_open_loop_sends_what_falls_due(port):
    outcome = Generator(plan(port, paths=["/here"], rate=50.0)).run()

    assert outcome.requests == 10


def test_a_plan_survives_the_way_to_the_generator():
    sent = plan(1, paths=["/here"], watched={"server": 1})

    assert Plan(**json.loads(json.dumps(asdict(sent)))) == sent


def test_the_cost_of_this_process_can_be_read():
    assert os.getpid() in processes.tree(os.getppid())
    assert processes.cpu_seconds(os.getpid())[os.getpid()] > 0
    assert processes.pss_bytes(os.getpid()) > 1_000_000


ROOT = f"{database.ROOT}/userservice"
THREAD = 'process 7:"python app.py";run (/usr/lib/python3.11/threading.py:9)'
LOOKS = [
    f"{THREAD};get (/v/site-packages/web/__init__.py:1);find ({ROOT}/users.py:2) 3",
    f"{THREAD};get (/v/site-packages/web/__init__.py:1);send (/v/site-packages/web/send.py:1) 1",
    'process 7:"python app.py" 5',
]


def test_a_profile_says_which_packages_take_the_time_and_where_they_are_entered():
    stacks = profile.read(LOOKS)

    shares = {
        (row["kind"], row["name"]): row["share"] for row in profile.rows("GET /users", stacks)
    }

    assert shares == {
        ("package", "this service"): 0.75,
        ("package", "web"): 0.25,
        ("function", "python.threading.run"): 1.0,
        ("function", "web.get"): 1.0,
        ("function", "userservice.users.find"): 0.75,
    }


def test_a_profile_takes_the_root_and_both_packages_for_the_service():
    files = ("app.py", "gunicorn.conf.py", "chassis/http/worker.py", "userservice/resources.py")
    looks = [f"{THREAD};run ({database.ROOT}/{file}:1) 1" for file in files]
    looks.append(f"{THREAD};run (/v/site-packages/gunicorn/arbiter.py:1) 1")

    shares = {
        row["name"]: row["share"]
        for row in profile.rows("GET /users", profile.read(looks))
        if row["kind"] == "package"
    }

    assert all((database.ROOT / file).exists() for file in files)
    assert shares == {"this service": 0.8, "gunicorn": 0.2}


def test_a_profile_leaves_out_what_is_in_every_stack():
    rows = list(profile.rows("GET /users", profile.read(LOOKS)))

    (row,) = tables.functions(rows).splitlines()[2:]
    assert row.split() == ["|", "`userservice.users.find`", "|", "75%", "|"]


def test_the_performance_page_shows_the_recorded_run():
    page = results.DOCUMENT.read_text(encoding="utf-8")
    about, rows = results.load(results.RECORDED)

    assert results.filled(page, about, rows) == page
    assert results.PICTURE.read_text(encoding="utf-8") == picture.draw(rows)
