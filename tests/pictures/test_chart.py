"""Charts show the values that they are given, and the picture in the documents the real panels."""

from __future__ import annotations

import re
from html import unescape
from math import nan
from xml.etree import ElementTree as ET

import pytest

from tests.pictures.chart import Chart, Series, draw, rounded_up
from tests.pictures.dashboard import PICTURE, panels
from tests.pictures.prometheus import configuration, filled

SVG = "{http://www.w3.org/2000/svg}"
LINE = Series("<a>", [(0, 0.0), (30, 4.0), (60, nan), (90, 2.0), (120, 2.0)])


def lines(picture):
    """Return the points of the lines of a picture, without those of its grid."""
    paths = ET.fromstring(picture).iter(f"{SVG}path")  # noqa: S314 - we have drawn it
    drawn = [each.attrib["d"] for each in paths if "class" not in each.attrib]
    return [[tuple(map(float, point.split(","))) for point in d[1:].split()] for d in drawn]


def test_a_line_rises_with_its_values_and_breaks_where_there_is_none():
    first, second = lines(draw([Chart("Load", "reqps", [LINE])], 120, "caption"))

    assert [x for x, _ in first + second] == sorted(x for x, _ in first + second)
    assert first[1][1] < first[0][1]  # SVG counts from the top
    assert second[0][1] == second[1][1] == pytest.approx((first[0][1] + first[1][1]) / 2, abs=0.1)


def test_names_cannot_break_the_picture():
    assert "&lt;a&gt;" in draw([Chart("Load", "reqps", [LINE])], 120, "caption")


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.03, 0.04), (0.5, 0.8), (1, 1), (3, 4), (25, 40), (90, 100)]
)
def test_an_axis_ends_at_a_round_number(value, top):
    assert rounded_up(value) == pytest.approx(top)


def test_the_variables_of_the_dashboard_are_filled_in():
    wanted = 'sum(rate(a{instance=~"$instance"}[$__rate_interval]))'

    assert filled(wanted) == 'sum(rate(a{instance=~".*"}[20s]))'


def test_prometheus_scrapes_with_the_jobs_that_are_shipped():
    jobs = configuration((1, 2))["scrape_configs"]

    assert [each["static_configs"][0]["targets"] for each in jobs] == [
        ["127.0.0.1:1"],
        ["127.0.0.1:2"],
    ]


def test_the_picture_in_the_documents_shows_panels_of_the_dashboard():
    shown = re.findall(r'<text class="title"[^>]*>([^<]*)<', PICTURE.read_text())

    assert [unescape(title) for title in shown] == [each["title"] for each in panels()]


def test_no_line_of_the_picture_is_nameless():
    words = re.findall(r"<text[^>]*>([^<]*)</text>", PICTURE.read_text())

    assert len(words) > 20
    assert [each for each in words if not each.strip()] == []
