"""The dashboard, for the admin: no rows of its own."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .task import TaskRecord


class DashboardRecord(TaskRecord):
    """What stands in the admin's index for the page that shows how things stand."""

    class Meta:
        proxy = True
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
        default_permissions = ()
