"""The figures for people: in a terminal with rich if it is installed, else in plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.benchmarks.catalogue import FIGURES
from tests.benchmarks.figures import Better, Spread, median, meets, ratios, shown, verdict
from tests.benchmarks.session import Outcome

Row = tuple[str, ...]

#: Titles and units read from the left, numbers from the right.
_LEFT = 2


def figures_table(place: str, outcome: Outcome, peer: Outcome | None = None) -> list[Row]:
    """Return the headings and a row per figure; ``place``: see ``scope.place_of``.

    With a peer also its median, the median of the ratios of ours to it, run by run, and what that is to be.
    """
    beside = () if peer is None else (peer.variant, "ratio", "goal", "")
    table: list[Row] = [("figure", "unit", "min", "median", "max", "goal", "", *beside)]
    for key, samples in outcome.ordered().items():
        figure, spread = FIGURES[key], Spread.of(samples)
        table.append(
            (
                *(figure.title, figure.unit, shown(spread.minimum), shown(spread.median), shown(spread.maximum)),
                *_judged(spread.median, figure.goals.get(place), figure.better),
                *(() if peer is None else _beside(place, key, samples, peer)),
            )
        )
    return table


def _judged(value: float, goal: float | None, better: Better) -> Row:
    if goal is None:
        return ("", "")
    return (f"{'≥' if better == 'more' else '≤'} {shown(goal)}", "met" if meets(value, goal, better) else "missed")


def _beside(place: str, key: str, samples: Sequence[float], peer: Outcome) -> Row:
    if key not in peer.samples:
        return ("", "", "", "")
    figure, theirs = FIGURES[key], peer.samples[key]
    ratio = median(ratios(samples, theirs))
    return (shown(median(theirs)), shown(ratio), *_judged(ratio, figure.ratio_goal(place), figure.better))


def comparison_table(ours: Outcome, theirs: Outcome) -> list[Row]:
    """Return the headings and a row per figure that both have."""
    table: list[Row] = [("figure", "unit", ours.variant, theirs.variant, "ratio", "min", "max", "")]
    for key, samples in ours.ordered().items():
        if key not in theirs.samples:
            continue
        figure = FIGURES[key]
        pairs = ratios(samples, theirs.samples[key])
        spread = Spread.of(pairs)
        medians = (shown(Spread.of(one).median) for one in (samples, theirs.samples[key]))
        table.append(
            (
                *(figure.title, figure.unit, *medians),
                *(shown(spread.median), shown(spread.minimum), shown(spread.maximum)),
                verdict(pairs, figure.better),
            )
        )
    return table


def show(title: str, table: Sequence[Row]) -> None:
    """Print a table."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(plain(title, table))
        return
    if not sys.stdout.isatty():
        # In a file nothing knows the width of a line.
        print(plain(title, table))
        return
    headings, *rows = table
    drawn = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index < _LEFT else "right", no_wrap=index >= _LEFT)
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)


def plain(title: str, table: Sequence[Row]) -> str:
    """Return a table as text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < _LEFT else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([title, lines[0], "-" * sum((*widths, 2 * len(widths) - 2)), *lines[1:]])
