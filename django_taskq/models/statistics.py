"""What was counted of tasks, by stretches of time."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class StatisticsRecord(models.Model):
    """One stretch of time, as one process has counted it or, without a source, all together.

    Its begin is a number, not a moment: an hour of autumn comes twice without ``USE_TZ``.
    """

    id = models.BigAutoField(_("id"), primary_key=True)
    period = models.IntegerField(_("period"), help_text=_("seconds: a minute, an hour or a day"))
    starts = models.BigIntegerField(_("start"), help_text=_("seconds since 1970, UTC"))
    source = models.CharField(_("source"), max_length=32, default="", help_text=_("the process; empty: all"))
    totals = models.TextField(_("totals"), default="", help_text=_("JSON, see core.counts"))
    series = models.TextField(_("series"), default="", help_text=_("JSON: by task and queue"))

    objects: ClassVar[models.Manager[StatisticsRecord]] = models.Manager()

    class Meta:
        db_table = "django_taskq_statistics"
        verbose_name = _("statistics")
        verbose_name_plural = _("statistics")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["period", "starts", "source"], name="taskq_statistics_once")]

    def __str__(self) -> str:
        return f"{self.period} s from {self.starts}"
