"""What people do to schedules from their list and pages: run, enable, disable, those of the code too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from ..compat import InvalidTask
from ..exceptions import TaskqError
from ..models import ScheduleRecord
from ..schedule_control import run_schedule_now, set_schedule_enabled
from . import once
from .permissions import may
from .readonly import ReadOnlyAdmin

#: who may do anything to schedules
PERMISSION = "change_schedules"
#: what running a schedule raises
_FAILURES = (TaskqError, InvalidTask, TypeError, ValueError)


class ScheduleActions(ReadOnlyAdmin):
    """For many in the list, for one by the buttons of its page."""

    action_form = once.OnceActionForm
    actions = ("run_now", "enable", "disable")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """To run, enable and disable."""
        return may(request, PERMISSION)

    def get_urls(self) -> list[URLPattern]:
        """With one for each button."""

        def view(name: str, of: Callable[..., HttpResponse]) -> URLPattern:
            return path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(of)),
                name=f"django_taskq_schedulerecord_{name}",
            )

        buttons = [view(name, partial(self._button, name)) for name in ("run", "enable", "disable")]
        return [*buttons, *super().get_urls()]

    @admin.action(description=_("Run now"), permissions=["operate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Enqueue the tasks of those that are chosen."""
        self._act(request, queryset, "run")

    @admin.action(description=_("Enable"), permissions=["operate"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let ticks count."""
        self._act(request, queryset, "enable")

    @admin.action(description=_("Disable"), permissions=["operate"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let ticks pass."""
        self._act(request, queryset, "disable")

    def _button(self, verb: str, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        record = self.get_object(request, unquote(object_id))
        if record is None:
            raise Http404
        self._act(request, [record], verb)
        return HttpResponseRedirect(
            reverse("admin:django_taskq_schedulerecord_change", args=[record.pk], current_app=self.admin_site.name)
        )

    def _act(self, request: HttpRequest, records: Any, verb: str) -> None:
        """Do it to each; log what was done, say what was not, and why."""
        done = 0
        for record in records:
            try:
                said = _do(verb, record, once.asked_at(request))
            except _FAILURES as error:
                self.message_user(request, f"{record.name}: {error}", messages.ERROR)
                continue
            if said:
                done += 1
                self.log_change(request, record, said)
        left = len(records) - done
        texts = {
            "run": ngettext("%d task was enqueued.", "%d tasks were enqueued.", done),
            "enable": ngettext("%d schedule was enabled.", "%d schedules were enabled.", done),
            "disable": ngettext("%d schedule was disabled.", "%d schedules were disabled.", done),
        }
        if done:
            self.message_user(request, texts[verb] % done, messages.SUCCESS)
        if left and verb != "run":
            self.message_user(request, gettext("%d left as they are.") % left, messages.INFO)


def _do(verb: str, record: ScheduleRecord, asked_at: datetime | None) -> str:
    """What was done, for the log; "" for nothing."""
    if verb == "run":
        return gettext("Run now: task %(id)s") % {"id": run_schedule_now(record.name, asked_at=asked_at).id}
    if not set_schedule_enabled(record.name, verb == "enable"):
        return ""
    return gettext("Enabled") if verb == "enable" else gettext("Disabled")
