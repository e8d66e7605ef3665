"""What the buckets of a stretch of time come to: three charts, and the same as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.histogram import Histogram
from ..statistics import Bucket
from .charts import Chart, Plan, Series, draw_bars, draw_lines
from .wording import in_full, in_short, per_minute

#: seconds of a bucket from which on the day it is in says more than the time of day
_LONG = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    """``rows``: of the table, oldest first. ``first``, ``middle``: what the axis of time says besides "now"."""

    charts: Sequence[Chart]
    rows: SafeString
    first: str
    middle: str


def draw(buckets: Sequence[Bucket]) -> Trends:
    """Of one bucket or more."""
    moments = [_moment(bucket) for bucket in buckets]
    charts = [_throughput(buckets, moments), _durations(_("Wait"), "wait", buckets, moments)]
    charts.append(_durations(_("Run time"), "run", buckets, moments))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
        (
            (
                moment,
                in_full(bucket.succeeded),
                in_full(bucket.retried),
                in_full(bucket.failed),
                *(show_quantile(one, part) for one in (bucket.waits, bucket.runs) for part in (0.5, 0.95)),
            )
            for moment, bucket in zip(moments, buckets, strict=True)
            if bucket.succeeded or bucket.retried or bucket.failed or bucket.runs.count
        ),
    )
    return Trends(charts=charts, rows=rows, first=_tick(buckets[0]), middle=_tick(buckets[len(buckets) // 2]))


def show_quantile(histogram: Histogram, part: float) -> str:
    """A duration that this part of them does not exceed."""
    seconds = histogram.quantile(part)
    return "–" if seconds is None else in_short(seconds)


def _throughput(buckets: Sequence[Bucket], moments: Sequence[str]) -> Chart:
    def rates(name: str) -> list[float | None]:
        return [getattr(bucket, name) / bucket.seconds * 60 for bucket in buckets]

    sums = {name: sum(getattr(bucket, name) for bucket in buckets) for name in ("succeeded", "failed", "retried")}
    words = _("%(succeeded)s succeeded, %(retried)s retried, %(failed)s failed")
    hints = [
        f"{moment}: {words}"
        % {"succeeded": in_full(one.succeeded), "retried": in_full(one.retried), "failed": in_full(one.failed)}
        for moment, one in zip(moments, buckets, strict=True)
    ]
    series = [
        Series(label=_("succeeded"), look="successful", values=rates("succeeded")),
        Series(label=_("retried"), look="retry", values=rates("retried")),
        Series(label=_("failed"), look="failed", values=rates("failed")),
    ]
    title, summary = _("Throughput"), words % {name: in_full(count) for name, count in sums.items()}
    return draw_bars(
        Plan(
            title=title,
            summary=summary,
            series=series,
            hints=hints,
            label=lambda rate: _("%s / min") % per_minute(rate),
        )
    )


def _durations(title: str, kind: str, buckets: Sequence[Bucket], moments: Sequence[str]) -> Chart:
    histograms = [bucket.waits if kind == "wait" else bucket.runs for bucket in buckets]
    together = sum(histograms[1:], histograms[0])
    words = _("half within %(half)s, 95 of 100 within %(most)s")
    hints = [
        f"{moment}: {words % _pair(one)}" if one.count else f"{moment}: –"
        for moment, one in zip(moments, histograms, strict=True)
    ]
    series = [
        Series(label="p95", look=f"{kind}-most", values=[one.quantile(0.95) for one in histograms]),
        Series(label="p50", look=f"{kind}-half", values=[one.quantile(0.5) for one in histograms]),
    ]
    summary = words % _pair(together) if together.count else _("nothing is known yet")
    return draw_lines(Plan(title=title, summary=summary, series=series, hints=hints, label=in_short))


def _pair(histogram: Histogram) -> dict[str, str]:
    return {"half": show_quantile(histogram, 0.5), "most": show_quantile(histogram, 0.95)}


def _local(bucket: Bucket) -> datetime:
    return timezone.localtime(bucket.at) if timezone.is_aware(bucket.at) else bucket.at


def _moment(bucket: Bucket) -> str:
    local = _local(bucket)
    time = f"{local:%H:%M}"
    return time if bucket.seconds < _LONG else f"{date_format(local, 'MONTH_DAY_FORMAT')} {time}"


def _tick(bucket: Bucket) -> str:
    """For the axis, where there is room for little."""
    return _moment(bucket) if bucket.seconds < _LONG else date_format(_local(bucket), "MONTH_DAY_FORMAT")
