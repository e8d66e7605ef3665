"""Charts are drawn from numbers: nothing of theirs is lost, nothing else gets in."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest

from django_taskq.admin.charts import Chart, Plan, Series, draw_bars, draw_lines, nice_duration, nice_number


def plan(*values: list[float | None], title: str = "Throughput", hint: str = "12:00: 3 succeeded") -> Plan:
    return Plan(
        title=title,
        summary="3 succeeded",
        series=[Series(label=f"s{index}", look=f"look{index}", values=one) for index, one in enumerate(values)],
        hints=[hint] * (len(values[0]) if values else 0),
        label=lambda value: f"{value:g}",
    )


def parsed(chart: Chart) -> ET.Element:
    """The drawing as XML: it has to be well formed for that."""
    return ET.fromstring(chart.drawing)


def path_of(chart: Chart, look: str) -> str:
    (path,) = [one for one in parsed(chart).iter("path") if f"taskq-look-{look}" in one.attrib["class"]]
    return path.attrib["d"]


def bars(text: str) -> list[tuple[float, float, float]]:
    """Of each bar: where it begins from the left, where it ends at the bottom, and its height."""
    found = re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)h8v([\d.]+)z", text)
    assert "".join(f"M{x} {y}v-{up}h8v{down}z" for x, y, up, down in found) == text
    assert all(up == down for _, _, up, down in found)
    return [(float(x), float(y), float(up)) for x, y, up, _ in found]


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (0.01, 0.1), (0.3, 0.5), (1, 1), (1.01, 2), (3, 5), (5, 5), (7, 10), (11, 20), (499, 500), (501, 1000)],
)
def test_an_axis_of_numbers_ends_with_a_round_one(value: float, top: float) -> None:
    assert math.isclose(nice_number(value), top)


@pytest.mark.parametrize(
    ("value", "top"),
    [
        (0, 0.001),
        (0.0021, 0.005),
        (0.3, 0.5),
        (7, 10),
        (31, 60),
        (61, 120),
        (4000, 7200),
        (86401, 172800),
        (9e5, 1728000),
    ],
)
def test_an_axis_of_durations_ends_with_a_round_one(value: float, top: float) -> None:
    assert math.isclose(nice_duration(value), top)


def test_bars_stand_upon_one_another() -> None:
    chart = draw_bars(plan([10, 0, 5], [10, 4, None]))
    assert chart.top == "20"
    assert chart.middle == "10"
    assert bars(path_of(chart, "look0")) == [(1, 100, 50), (21, 100, 25)]
    assert bars(path_of(chart, "look1")) == [(1, 50, 50), (11, 100, 20)]


def test_one_among_many_is_seen() -> None:
    assert bars(path_of(draw_bars(plan([9_999], [1])), "look1")) == [(1, 0, 1.5)]


def test_lines_have_gaps_where_nothing_is_known() -> None:
    chart = draw_lines(plan([1.0, 2.0, None, 5.0]))
    assert chart.top == "5"
    path = path_of(chart, "look0")
    assert re.findall(r"[ML]([\d.]+) ([\d.]+)", path) == [("3", "80"), ("15", "60"), ("33", "0")]
    assert path.count("M") == 2


def test_nothing_is_drawn_of_nothing() -> None:
    for chart in (draw_bars(plan([0, 0])), draw_lines(plan([None, None])), draw_bars(plan()), draw_lines(plan())):
        (grid,) = parsed(chart).iter("path")
        assert grid.attrib["class"] == "taskq-grid"


def test_who_does_not_see_it_is_told_what_it_comes_to() -> None:
    root = parsed(draw_bars(plan([1])))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Throughput: 3 succeeded"
    assert [one.text for one in root.iter("title")] == ["12:00: 3 succeeded"]


def test_nothing_gets_out_of_its_place() -> None:
    bad = "\"><script>alert('1')</script>"
    chart = draw_lines(plan([1.0], title=bad, hint=bad))
    root = parsed(chart)
    assert root.attrib["aria-label"] == f"{bad}: 3 succeeded"
    assert [one.text for one in root.iter("title")] == [bad]
    assert "style" not in chart.drawing
    assert "<script" not in chart.drawing


def test_a_drawing_is_small() -> None:
    values: list[float | None] = [float(number % 17) for number in range(60)]
    assert len(re.sub("<rect.*?</rect>", "", draw_bars(plan(values, values, values)).drawing)) < 6_000
    assert len(re.sub("<rect.*?</rect>", "", draw_lines(plan(values, values)).drawing)) < 2_500
