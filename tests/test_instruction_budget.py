"""The instruction budget of a request: what callgrind counted, and when it is too much."""

from __future__ import annotations

import json

import pytest

from benchmarks import budget, goals, instructions, tables

RECORDED = {"W1": 1_000_000, "W2": 500_000}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "instructions.json"
    path.write_text(json.dumps({"3.13": RECORDED, "3.11": {"W1": 7, "W2": 7}}))
    return path


def test_three_per_cent_more_than_recorded_are_within_the_budget(file):
    now = {"W1": 1_030_000, "W2": 400_000}

    said = budget.judge(now, "3.13", file)

    assert said == "Within the budget of Python 3.13: POST /users +3.0%, GET /users/{id} -20.0%"


def test_more_is_over_the_budget_and_each_request_that_grew_is_named(file):
    with pytest.raises(budget.OverBudget) as caught:
        budget.judge({"W1": 1_030_001, "W2": 600_000}, "3.13", file)

    assert str(caught.value) == (
        "POST /users takes 1,030,001 instructions, 3.0% over 1,000,000; "
        "GET /users/{id} takes 600,000 instructions, 20.0% over 500,000"
    )


def test_a_request_that_stayed_is_not_named(file):
    with pytest.raises(budget.OverBudget) as caught:
        budget.judge({"W1": 1_000_000, "W2": 600_000}, "3.13", file)

    assert "POST" not in str(caught.value)


def test_a_request_that_was_not_counted_is_no_success(file):
    with pytest.raises(budget.OverBudget, match=r"GET /users/\{id\} was not counted"):
        budget.judge({"W1": 1_000_000}, "3.13", file)


def test_a_python_without_a_budget_is_no_success(file):
    with pytest.raises(budget.OverBudget, match=r"No budget for Python 3\.12"):
        budget.judge(RECORDED, "3.12", file)


def test_a_new_budget_replaces_that_of_its_python_and_no_other(file):
    budget.record("3.13", {"W1": 1, "W2": 2}, file)

    assert json.loads(file.read_text()) == {
        "3.13": {"W1": 1, "W2": 2},
        "3.11": {"W1": 7, "W2": 7},
    }


def test_the_image_s_python_has_a_budget():
    assert set(budget.load("3.13")) == {"W1", "W2"}


def parts(folder, *totals, pid=7):
    for number, total in enumerate(totals, start=1):
        (folder / f"out.{pid}.{number}").write_text(f"events: Ir\ntotals: {total}\n")


def test_the_count_of_a_request_is_what_lies_between_two_marks_without_the_mark(tmp_path):
    parts(tmp_path, *[9] * instructions.MARKS, 100, 100 + 200 * 30, 100 + 200 * 20)
    (tmp_path / "out.6").write_text("totals: 5\n")  # the master, which sees no mark

    assert instructions.counts(tmp_path) == (30, 20)


def test_parts_of_two_workers_are_refused(tmp_path):
    parts(tmp_path, *[9] * 20)
    parts(tmp_path, *[9] * 20, pid=8)

    with pytest.raises(RuntimeError, match="one worker"):
        instructions.counts(tmp_path)


def test_the_goals_show_the_count_in_millions():
    rows = [{"suite": "instructions", "workload": "W1", "instructions": 1_660_000}]

    goal = next(each for each in goals.GOALS if each.text.startswith("instructions of a W1"))

    assert tables.text(goal.measure(rows), goal.digits, goal.unit) == "1.66 M"
    assert goal.verdict(rows) == "not reached"


def test_the_cost_of_telemetry_has_a_line_for_each_condition():
    rows = [
        {"suite": "telemetry", "subject": condition, "workload": workload, "instructions": count}
        for condition in instructions.CONDITIONS
        for workload, count in (("W1", 1_500_000), ("W2", 900_000))
    ]

    lines = tables.telemetry(rows).splitlines()[2:]

    assert len(lines) == len(instructions.CONDITIONS)
    assert lines[3].split("|")[1:4] == [
        " the service without any telemetry                  ",
        "   1,500,000 ",
        "         900,000 ",
    ]
