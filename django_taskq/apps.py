"""The app: what happens at start-up, and as little of it as can be."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _

from . import checks  # noqa: F401  # registers them
from .conf import tuned_databases
from .database import tune_sqlite


class TaskqConfig(AppConfig):
    """``INSTALLED_APPS = [..., "django_taskq"]``."""

    name = "django_taskq"
    label = "django_taskq"
    verbose_name = _("Task queue")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what has to be there before the first query."""
        connection_created.connect(_tune, dispatch_uid="django_taskq.tune_sqlite")


def _tune(sender: type[BaseDatabaseWrapper], connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if connection.vendor == "sqlite" and connection.alias in tuned_databases():
        tune_sqlite(connection)
