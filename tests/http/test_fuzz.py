"""A few of the inputs of `make fuzz`, the same each time."""

from __future__ import annotations

from tests.http.fuzz import run


def test_what_is_taken_for_a_request_is_one_to_another_parser_too():
    counts = run(3000, seed=20261126)

    assert counts["requests"] > 1000
    assert counts["refused"] > 1000
