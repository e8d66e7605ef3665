"""Charts as inline SVG: drawn from numbers alone, without a library, in the colours of the page.

The drawing is stretched to its place; what is to be read stands beside it as text, so that it keeps its size on phones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: units of a drawing: a bucket's width, and all of its height
_WIDTH, _HEIGHT = 10, 100
#: the least height of what is not nothing: one failure among ten thousand is to be seen
_LEAST = 1.5

#: where an axis of durations may end, in seconds; beyond, whole days
_DURATIONS = (
    *(step * unit for unit in (0.001, 0.01, 0.1, 1.0) for step in (1, 2, 5)),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0),
    *(3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of each bucket, oldest first; None where there is nothing to know.

    ``look``: the end of its CSS class, which gives the colour and the stroke.
    """

    label: str
    look: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be drawn. ``summary``: what it comes to, for who does not see it.

    ``hints``: what each bucket says to who points at it. ``label``: how a value of the axis reads.
    """

    title: str
    summary: str
    series: Sequence[Series]
    hints: Sequence[str]
    label: Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing, and what its axis says at the ``top`` and half way up."""

    plan: Plan
    drawing: SafeString
    top: str
    middle: str


def draw_bars(plan: Plan) -> Chart:
    """The series of each bucket upon one another."""
    sums = [
        sum(values) for values in zip(*([value or 0.0 for value in one.values] for one in plan.series), strict=True)
    ]
    top = nice_number(max(sums, default=0.0))
    floors = [0.0] * len(sums)
    paths = []
    for one in plan.series:
        parts = []
        for index, value in enumerate(one.values):
            if not value:
                continue
            height = max(value / top * _HEIGHT, _LEAST)
            parts.append(
                f"M{index * _WIDTH + 1} {_y(floors[index])}v{_number(-height)}h{_WIDTH - 2}v{_number(height)}z"
            )
            floors[index] += height
        paths.append(("bar", one.look, "".join(parts)))
    return _chart(plan, paths, top)


def draw_lines(plan: Plan) -> Chart:
    """A line for each series of durations, with gaps where nothing is known."""
    top = nice_duration(max((value for one in plan.series for value in one.values if value is not None), default=0.0))
    return _chart(plan, [("line", one.look, "".join(_line(one.values, top))) for one in plan.series], top)


def nice_number(value: float) -> float:
    """The least of 0.1, 0.2, 0.5, 1, 2, 5, 10 and so on that is no less; 1 for nothing."""
    if not value:
        return 1.0
    step = 0.1
    while True:
        for factor in (1.0, 2.0, 5.0):
            if step * factor >= value:
                return step * factor
        step *= 10.0


def nice_duration(seconds: float) -> float:
    """The least duration that an axis may end with and that is no less."""
    for step in _DURATIONS:
        if step >= seconds:
            return step
    return 86400.0 * nice_number(seconds / 86400.0)


def _line(values: Sequence[float | None], top: float) -> Iterator[str]:
    before: float | None = None
    for index, value in enumerate(values):
        if value is not None:
            x, y = index * _WIDTH + _WIDTH // 2, _y(value / top * _HEIGHT)
            if before is not None:
                yield f"L{x} {y}"
            else:
                # One that stands alone is a dash.
                yield f"M{x - 2} {y}h2h2"
        before = value


def _chart(plan: Plan, paths: Sequence[tuple[str, str, str]], top: float) -> Chart:
    width = max(len(plan.hints), 1) * _WIDTH
    drawing = format_html(
        '<svg class="taskq-drawing" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}" '
        'focusable="false"><path class="taskq-grid" d="M0 .5h{w}M0 50h{w}M0 99.5h{w}"/>{}{}</svg>',
        width,
        _HEIGHT,
        f"{plan.title}: {plan.summary}",
        format_html_join("", '<path class="taskq-{} taskq-look-{}" d="{}"/>', (path for path in paths if path[2])),
        format_html_join(
            "",
            '<rect class="taskq-hint" x="{}" width="{}" height="{}"><title>{}</title></rect>',
            ((index * _WIDTH, _WIDTH, _HEIGHT, hint) for index, hint in enumerate(plan.hints)),
        ),
        w=width,
    )
    return Chart(plan=plan, drawing=drawing, top=plan.label(top), middle=plan.label(top / 2))


def _y(height: float) -> str:
    return _number(_HEIGHT - height)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
