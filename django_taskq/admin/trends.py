"""What the buckets of a stretch of time come to: three charts, and the same as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
class Spread:
    """Durations in seconds that ``half`` of many do not exceed, and 95 of 100; None where there are none."""

    half: float | None
    most: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Spread:
        """What a histogram says."""
        return cls(half=histogram.quantile(0.5), most=histogram.quantile(0.95))

    @property
    def half_text(self) -> str:
        """For people."""
        return "–" if self.half is None else in_short(self.half)

    @property
    def most_text(self) -> str:
        """For people."""
        return "–" if self.most is None else in_short(self.most)

    @property
    def words(self) -> str:
        """Both."""
        if self.half is None:
            return "–"
        return _("half within %(half)s, 95 of 100 within %(most)s") % {"half": self.half_text, "most": self.most_text}


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
    waits = [Spread.of(bucket.waits) for bucket in buckets]
    runs = [Spread.of(bucket.runs) for bucket in buckets]
    charts = [
        _throughput(buckets, moments),
        _durations(_("Wait"), "wait", moments, waits, _together(one.waits for one in buckets)),
        _durations(_("Run time"), "run", moments, runs, _together(one.runs for one in buckets)),
    ]
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
        (
            (
                moment,
                *(in_full(count) for count in (one.succeeded, one.retried, one.failed)),
                *(wait.half_text, wait.most_text, run.half_text, run.most_text),
            )
            for moment, one, wait, run in zip(moments, buckets, waits, runs, strict=True)
            if one.succeeded or one.retried or one.failed
        ),
    )
    return Trends(charts=charts, rows=rows, first=_tick(buckets[0]), middle=_tick(buckets[len(buckets) // 2]))


def _throughput(buckets: Sequence[Bucket], moments: Sequence[str]) -> Chart:
    def rates(name: str) -> list[float | None]:
        return [getattr(bucket, name) / bucket.seconds * 60 for bucket in buckets]

    def words(of: Sequence[Bucket]) -> str:
        return _("%(succeeded)s succeeded, %(retried)s retried, %(failed)s failed") % {
            name: in_full(sum(getattr(one, name) for one in of)) for name in ("succeeded", "retried", "failed")
        }

    return draw_bars(
        Plan(
            title=_("Throughput"),
            summary=words(buckets),
            series=[
                Series(label=_("succeeded"), look="successful", values=rates("succeeded")),
                Series(label=_("retried"), look="retry", values=rates("retried")),
                Series(label=_("failed"), look="failed", values=rates("failed")),
            ],
            hints=[f"{moment}: {words([one])}" for moment, one in zip(moments, buckets, strict=True)],
            label=lambda rate: _("%s / min") % per_minute(rate),
        )
    )


def _durations(title: str, look: str, moments: Sequence[str], spreads: Sequence[Spread], whole: Histogram) -> Chart:
    return draw_lines(
        Plan(
            title=title,
            summary=Spread.of(whole).words,
            series=[
                Series(label="p95", look=f"{look}-most", values=[one.most for one in spreads]),
                Series(label="p50", look=f"{look}-half", values=[one.half for one in spreads]),
            ],
            hints=[f"{moment}: {one.words}" for moment, one in zip(moments, spreads, strict=True)],
            label=in_short,
        )
    )


def _together(histograms: Iterable[Histogram]) -> Histogram:
    whole = Histogram()
    for one in histograms:
        whole.add(one)
    return whole


def _local(bucket: Bucket) -> datetime:
    return timezone.localtime(bucket.at) if timezone.is_aware(bucket.at) else bucket.at


def _moment(bucket: Bucket) -> str:
    local = _local(bucket)
    time = f"{local:%H:%M}"
    return time if bucket.seconds < _LONG else f"{date_format(local, 'MONTH_DAY_FORMAT')} {time}"


def _tick(bucket: Bucket) -> str:
    """For the axis, where there is room for little."""
    return _moment(bucket) if bucket.seconds < _LONG else date_format(_local(bucket), "MONTH_DAY_FORMAT")
