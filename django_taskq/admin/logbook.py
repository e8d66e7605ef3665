"""The log of the admin: what somebody asked for, written down before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest
from django.utils.translation import gettext as _


def log_asked(request: HttpRequest, rows: Iterable[Any], label: str, flag: int = CHANGE) -> None:
    """Write down what is asked for, of each row. ``flag``: one of Django's kinds of entries."""
    LogEntry.objects.log_actions(request.user.pk, rows, flag, change_message=_("Asked for: %s") % label)  # type: ignore[arg-type]  # any iterable of rows
