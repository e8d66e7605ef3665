"""Failures by kind, for the admin: no rows of their own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .task import TaskRecord


class FailureRecord(TaskRecord):
    """Tasks that FAILED, as ``finding.groups`` puts them together."""

    class Meta:
        proxy = True
        verbose_name = _("failure")
        verbose_name_plural = _("failures")
        default_permissions = ()
