"""Schedules: those of the database to edit, those of the code to look at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from ..core import codec
from ..database import database_now
from ..exceptions import ScheduleError, TaskqError, UnknownSchedule
from ..models import ScheduleRecord, TaskRecord
from ..models.schedule import CODE
from ..schedule_control import (
    change_schedule,
    create_schedule,
    database_of,
    delete_schedule,
)
from ..schedules.definition import Schedule, next_runs
from ..schedules.wording import in_words
from ..sight import Sight
from . import display, once
from .permissions import may
from .schedule_actions import PERMISSION, ScheduleActions
from .schedule_form import ScheduleForm, shown_call

#: next runs on a page
_RUNS = 5


class EnabledFilter(admin.SimpleListFilter):
    """By whether its ticks count."""

    title = _("enabled")
    parameter_name = "enabled"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Both."""
        return [("yes", _("Enabled")), ("no", _("Disabled")), ("problem", _("With a problem"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """As ``is_enabled`` says."""
        enabled = Q(switched=True) | Q(switched__isnull=True, enabled=True)
        match self.value():
            case "yes":
                return queryset.filter(enabled)
            case "no":
                return queryset.exclude(enabled)
            case "problem":
                return queryset.exclude(problem="")
        return queryset


class ScheduleList(ChangeList):
    """The list, with the states of the last tasks, asked for once."""

    def get_results(self, request: HttpRequest) -> None:
        """Those of a page, and what became of them."""
        super().get_results(request)
        ids = [record.last_task_id for record in self.result_list if record.last_task_id]
        using = self.queryset.db
        found = TaskRecord.objects.using(using).only("pk", "state").in_bulk(ids) if ids else {}
        now = database_now(using)
        for record in self.result_list:
            record.last_task, record.read_at = found.get(record.last_task_id), now


@admin.register(ScheduleRecord)
class ScheduleRecordAdmin(ScheduleActions):
    """Schedules; only ``schedule_control`` writes them."""

    form = ScheduleForm
    change_form_template = "admin/django_taskq/schedulerecord/change_form.html"
    list_display = ("name", "when", "task", "is_on", "next_text", "last_text", "source", "problem_text")
    list_filter = (EnabledFilter, "source", "kind")
    list_per_page = 100
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "task")
    ordering = ("name",)
    readonly_fields = ("when", "runs_text", "next_text", "last_text", "ticks", "problem_text", "arguments_text")
    fieldsets = (
        (None, {"fields": ("name", "description", "enabled")}),
        (
            _("Time"),
            {
                "fields": ("kind", "expression", "timezone", ("latitude", "longitude"), "runs_text"),
                "description": _(
                    "Cron: 0 3 * * mon-fri, or @daily. Interval: seconds. Once: 2027-01-31T08:00+01:00. "
                    "Solar: sunrise, sunset, dawn_civil and so on, at a latitude and longitude."
                ),
            },
        ),
        (_("Call"), {"fields": ("task", "args", "kwargs", "queue_name", "priority", "expires", "backend")}),
        (
            _("Rules"),
            {"fields": ("start_at", "end_at", "jitter", "missed", "window", "overlap", "repeat_ambiguous")},
        ),
        (_("So far"), {"fields": ("next_text", "last_text", "ticks", "problem_text", "read_version")}),
    )

    # ---- who may ------------------------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may change may look."""
        return may(request, PERMISSION) or super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """By a permission of its own."""
        return may(request, PERMISSION)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Those of the code are changed there."""
        return may(request, PERMISSION) and not (obj is not None and obj.source == CODE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As to change."""
        return self.has_change_permission(request, obj)

    # ---- pages --------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Ours."""
        return ScheduleList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The filters' own, no others: ``?arguments__startswith=…`` would let readers guess what is hidden from them."""
        return lookup in {"enabled", "source__exact", "kind__exact"}

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Without Django's own deletion, which would stop at one of the code."""
        # Django 6.1 says where the actions are to be, too; before, that is no parameter.
        place = {} if action_location is None else {"action_location": action_location}
        actions: dict[str, Any] = super().get_actions(request, **place)
        return {name: action for name, action in actions.items() if name != "delete_selected"}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """What is only said of one that is there; arguments as text where they are not to be edited."""
        if obj is None:
            return self._without({"runs_text", "next_text", "last_text", "ticks", "problem_text"})
        if not self.has_change_permission(request, obj):
            sees = may(request, PERMISSION) or may(request, "view_payload")
            return self._without(
                {"args", "kwargs", "read_version"}, task=("task", "arguments_text") if sees else ("task",)
            )
        return self.fieldsets

    def _without(self, names: set[str], **instead: Sequence[str]) -> Any:
        sets = []
        for title, parts in self.fieldsets:
            fields = [one for name in parts["fields"] if name not in names for one in instead.get(str(name), (name,))]
            if fields:
                sets.append((title, {**parts, "fields": fields}))
        return sets

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With the buttons of a schedule that is there."""
        record = context.get("original")
        context["is_operable"] = record is not None and self.has_operate_permission(request)
        context["asked_at"] = once.moment_of_page()
        context["is_enabled"] = record is not None and record.is_enabled
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        """With the preview."""
        view = self.admin_site.admin_view(require_POST(self.preview))
        return [path("preview/", view, name="django_taskq_schedulerecord_preview"), *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """The next runs of what a form says, or what is wrong with it; nothing is saved."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        read = request.GET.get("of", "")
        record = self.get_object(request, read) if read else None
        form: Any = self.get_form(request, record)(request.POST, instance=record)
        schedule = form.schedule if form.is_valid() else None
        return self.show(
            request,
            "schedulerecord/preview.html",
            _("Next runs"),
            form=form,
            schedule=schedule,
            words=in_words(schedule) if schedule else "",
            runs=_runs(schedule, database_now(self.get_queryset(request).db)) if schedule else "",
        )

    # ---- writing ------------------------------------------------------------------------------------------------

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        """The row as it will be; nothing is written yet."""
        return form.instance

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """There is nothing of that kind."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """By the service that everybody uses."""
        was = form.initial.get("name")
        record = change_schedule(was, form.schedule) if change else create_schedule(form.schedule)
        obj.pk, obj.name = record.pk, record.name

    def changeform_view(self, request: HttpRequest, object_id: Any = None, *args: Any, **kwargs: Any) -> HttpResponse:
        """Somebody else may have been faster: nothing is saved then, and it is said."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except (ScheduleError, TaskqError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """As above; one that somebody else has deleted meanwhile is as gone as it is to be."""
        with suppress(UnknownSchedule):
            delete_schedule(obj.name)

    # ---- columns ------------------------------------------------------------------------------------------------

    @admin.display(description=_("when"))
    def when(self, record: ScheduleRecord) -> str:
        """Its time in words."""
        return _worded(record)

    @admin.display(description=_("enabled"), boolean=True)
    def is_on(self, record: ScheduleRecord) -> bool:
        """Whether its ticks count."""
        return record.is_enabled

    @admin.display(description=_("next"), ordering="next_at")
    def next_text(self, record: ScheduleRecord) -> str:
        """When, and how long until then."""
        return display.show_moment(record.next_at, "seconds")

    @admin.display(description=_("last"), ordering="last_tick_at")
    def last_text(self, record: ScheduleRecord) -> str:
        """When, and what became of its task, with a link."""
        if record.last_task_id is None:
            return "-"
        task = getattr(record, "last_task", None)
        if not hasattr(record, "last_task"):
            task = (
                TaskRecord.objects.using(database_of(record)).only("pk", "state").filter(pk=record.last_task_id).first()
            )
        at = display.show_moment(record.last_tick_at, "seconds")
        if task is None:
            return format_html("{} {}", at, _("(its task is deleted)"))
        url = reverse("admin:django_taskq_taskrecord_change", args=[task.pk], current_app=self.admin_site.name)
        return format_html('{} <a href="{}">{}</a>', at, url, display.show_state(task))

    @admin.display(description=_("problem"))
    def problem_text(self, record: ScheduleRecord) -> str:
        """Why it does not run."""
        return record.problem or "-"

    @admin.display(description=_("next runs"))
    def runs_text(self, record: ScheduleRecord) -> str:
        """The next five, in its own zone and in the project's."""
        return _runs(record.schedule, database_now(database_of(record)), record.is_enabled)

    @admin.display(description=_("arguments"))
    def arguments_text(self, record: ScheduleRecord) -> str:
        """As a JSON object, without what the task calls sensitive."""
        args, kwargs = shown_call(record)
        # What is sensitive is hidden already, and what has a telling name is here.
        sight = Sight(arguments=None, is_known=True, is_open=False)
        return display.show_json(codec.encode({"args": args, "kwargs": kwargs}), sight)


def _worded(record: ScheduleRecord) -> str:
    try:
        return in_words(record.schedule)
    except (TypeError, ValueError, RecursionError):
        # Somebody has spoilt the row; its time can still be read.
        return f"{record.kind} {record.expression}"


def _runs(schedule: Schedule, now: datetime, is_enabled: bool = True) -> str:
    """A list of moments; each in the schedule's zone, and in the reader's where that is another."""
    try:
        zone = ZoneInfo(schedule.timezone)
        runs = next_runs(schedule, now, _RUNS)
    except (ValueError, ZoneInfoNotFoundError) as error:
        return str(error)
    if not runs:
        return gettext("It does not run any more.")
    here = timezone.get_current_timezone()
    lines = []
    for at in runs:
        own, reader = at.astimezone(zone), at.astimezone(here)
        text = own.isoformat(" ", "seconds")
        lines.append(
            f"{text} · {reader.isoformat(' ', 'seconds')} {here}" if own.utcoffset() != reader.utcoffset() else text
        )
    listed = format_html_join("", "<li>{}</li>", ((line,) for line in lines))
    note = "" if is_enabled else format_html("<p>{}</p>", _("Disabled: none of them will run."))
    return format_html('<p>{}</p><ol class="taskq-next-runs">{}</ol>{}', schedule.timezone, listed, note)
