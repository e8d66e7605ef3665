"""The dashboard: one page that says whether all is well, and where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..aliases import taskq_databases
from ..core.states import State
from ..database import as_project_time, as_utc
from ..finding.groups import MOST_TASKS, FailureGroup
from ..models import DashboardRecord, FailureRecord, ScheduleRecord, TaskRecord, WorkerRecord
from ..overview import MOST, QueueState, WorkerState
from ..standing import Due
from ..statistics import TaskFigures
from .display import ICONS, show_moment
from .failures import message_of, place_of
from .health import Ends, look_at, waiting_in
from .permissions import may
from .readonly import OnePageAdmin
from .snapshot import RECENT, SPANS, Snapshot, take
from .trends import Spread, draw
from .wording import in_full, in_short, per_minute

#: seconds between two looks of a page that keeps itself fresh
_EVERY = 5
#: rows of a table; more than that is for the pages behind it
_QUEUES, _WORKERS, _TASKS = 50, 50, 10
#: names of tasks that stand beside a worker
_NAMES = 3
#: characters of an error's message
_MESSAGE = 160

#: what the address says when only what changes is wanted, without the frame around it
_FRAGMENT = "fragment"

#: pages that this one leads to, and whose permission it takes where that is not their own
_PAGES: dict[str, type[Model]] = {
    "taskrecord": TaskRecord,
    "failurerecord": FailureRecord,
    "workerrecord": WorkerRecord,
    "schedulerecord": ScheduleRecord,
}
_VIEW = {"failurerecord": "view_taskrecord"}

_SPAN_LABELS = {
    "1h": gettext_lazy("1 hour"),
    "6h": gettext_lazy("6 hours"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
}


@admin.register(DashboardRecord)
class DashboardAdmin(OnePageAdmin):
    """One page, for who may see it; each part that names more takes the permission to see that."""

    needs = "view_dashboard"

    class Media:
        """The page's own, besides."""

        css: ClassVar = {"all": ["django_taskq/dashboard.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The page, or what of it changes."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        databases = taskq_databases()
        asked = request.GET.get("database", "")
        using = asked if asked in databases else self.get_queryset(request).db
        span = SPANS.get(request.GET.get("range", ""), SPANS["1h"])
        snapshot = take(
            using,
            span,
            sees_tasks=may(request, "view_taskrecord"),
            sees_schedules=may(request, "view_schedulerecord") or may(request, "change_schedules"),
            sees_workers=may(request, "view_workerrecord"),
        )
        # Lists show the first database alone.
        page = _Page(self.admin_site, request, snapshot, has_lists=using == (databases or [using])[0])
        context = {**page.context(), "span": span.name, "span_label": _SPAN_LABELS[span.name]}
        if _FRAGMENT in request.GET:
            request.current_app = self.admin_site.name  # what ``url`` in templates goes by
            return TemplateResponse(request, "admin/django_taskq/dashboard_body.html", context)
        chosen = {"database": using} if using == asked else {}
        context |= {
            "every": _EVERY,
            "here": f"?{urlencode({'range': span.name} | chosen)}",
            "fragment_url": f"?{urlencode({'range': span.name} | chosen | {_FRAGMENT: '1'})}",
            "ranges": [
                {"label": label, "url": f"?{urlencode({'range': name} | chosen)}", "is_chosen": name == span.name}
                for name, label in _SPAN_LABELS.items()
            ],
            "databases": [
                {
                    "label": name,
                    "url": f"?{urlencode({'range': span.name, 'database': name})}",
                    "is_chosen": name == using,
                }
                for name in (databases if len(databases) > 1 else ())
            ],
            **(extra_context or {}),
        }
        return self.show(request, "dashboard.html", _("Dashboard"), **context)


class _Page:
    """What templates show of a snapshot, to who asks."""

    def __init__(self, site: admin.AdminSite, request: HttpRequest, snapshot: Snapshot, *, has_lists: bool) -> None:
        self._site, self._snapshot = site, snapshot
        self._sees_payload = may(request, "view_payload")
        self._linked = {
            name
            for name, model in _PAGES.items()
            if has_lists and site.is_registered(model) and may(request, _VIEW.get(name, f"view_{name}"))
        }

    def context(self) -> dict[str, Any]:
        snapshot = self._snapshot
        found = snapshot.overview
        first, *others = look_at(found, self._ends(), most=MOST)
        queues = sorted(found.queues, key=lambda queue: (-queue.ready, -queue.running, queue.queue))
        groups = snapshot.groups
        return {
            "health": first,
            "others": others,
            "as_of": show_moment(as_project_time(snapshot.now), "seconds"),
            "is_empty": not snapshot.has_tasks,
            "cards": list(self._cards()),
            "trends": draw(snapshot.history) if snapshot.has_history else None,
            "queues": [self._queue(queue) for queue in queues[:_QUEUES]],
            "queues_left": max(len(queues) - _QUEUES, 0),
            "has_backends": len({queue.backend for queue in queues}) > 1,
            "sees_workers": snapshot.workers is not None,
            "workers": [self._worker(worker) for worker in (snapshot.workers or ())[:_WORKERS]],
            "workers_left": max(len(snapshot.workers or ()) - _WORKERS, 0),
            "workers_url": self._list("workerrecord"),
            "tasks": self._tasks(snapshot.tasks),
            "groups": None if groups is None else [self._group(group) for group in groups],
            "failures_url": self._list("failurerecord"),
            "schedules": None if snapshot.schedules is None else [self._schedule(one) for one in snapshot.schedules],
            "schedules_url": self._list("schedulerecord"),
        }

    def _ends(self) -> Ends:
        rates = self._snapshot.rates.values()
        return Ends(ended=sum(one.ended for one in rates), failed=sum(one.failed for one in rates), seconds=RECENT)

    def _cards(self) -> Iterator[dict[str, Any]]:
        snapshot = self._snapshot
        found = snapshot.overview
        waits = [queue.oldest_wait for queue in found.queues if queue.oldest_wait is not None]
        running = in_full(sum(queue.running for queue in found.queues))
        yield self._card(_("Waiting"), waiting_in(found.queues, MOST), State.READY)
        yield self._card(_("Running"), running, State.RUNNING)
        yield self._card(_("Scheduled"), in_full(found.scheduled, MOST), State.SCHEDULED)
        yield self._card(_("Failed in 24 h"), in_full(snapshot.failed), State.FAILED)
        yield self._card(_("Succeeded in 24 h"), in_full(snapshot.succeeded), State.SUCCESSFUL)
        oldest = in_short(max(waits)) if waits else "–"
        yield self._card(_("Oldest wait"), oldest, State.READY) | {"icon": "◔"}

    def _card(self, label: str, value: str, state: State) -> dict[str, Any]:
        return {
            "label": label,
            "value": value,
            "icon": ICONS[state],
            "look": state.value.lower(),
            "is_nothing": value in ("0", "–"),
            "url": self._list("taskrecord", state=state.value),
        }

    def _queue(self, queue: QueueState) -> dict[str, Any]:
        figures = self._snapshot.rates.get(queue.queue)
        rate = None if figures is None else figures.ended / RECENT
        return {
            "name": queue.queue,
            "url": self._list("taskrecord", queue=queue.queue),
            "backend": queue.backend,
            "ready": in_full(queue.ready, MOST),
            "running": in_full(queue.running),
            "wait": "–" if queue.oldest_wait is None else in_short(queue.oldest_wait),
            "rate": "–" if rate is None else per_minute(rate * 60),
            "drain": "–" if not rate or not queue.ready or queue.is_paused else _drain(queue.ready, rate),
            "is_paused": queue.is_paused,
        }

    def _worker(self, worker: WorkerState) -> dict[str, Any]:
        names = self._snapshot.current.get(worker.id, {})
        shown = [name if count == 1 else f"{name} × {count}" for name, count in sorted(names.items())]
        return {
            "name": worker.id,
            "url": self._change("workerrecord", worker.id),
            "host": worker.host,
            "queues": worker.queues,
            "is_alive": worker.is_alive,
            "age": in_short(worker.silent_for, is_rough=True),
            "running": in_full(worker.running),
            "slots": in_full(worker.slots),
            "is_full": worker.running >= worker.slots > 0,
            "tasks": shown[:_NAMES],
            "more": max(len(shown) - _NAMES, 0),
            "tasks_url": self._list("taskrecord", state=State.RUNNING.value, q=f"worker:{worker.id}"),
        }

    def _tasks(self, figures: Sequence[TaskFigures]) -> list[dict[str, Any]]:
        whole = sum(one.seconds for one in figures)
        return [self._task(one, whole) for one in figures[:_TASKS]]

    def _task(self, figures: TaskFigures, whole: float) -> dict[str, Any]:
        return {
            "name": figures.name,
            "url": self._list("taskrecord", task=figures.name),
            "ended": in_full(figures.succeeded + figures.failed),
            "failed": in_full(figures.failed),
            "has_failed": figures.failed > 0,
            "seconds": in_short(figures.seconds),
            "share": round(figures.seconds / whole * 100) if whole else 0,
            "runs": Spread.of(figures.runs),
            "waits": Spread.of(figures.waits),
        }

    def _group(self, group: FailureGroup) -> dict[str, Any]:
        error = group.error
        return {
            "error": error.exception_class_path if error is not None else group.newest.name,
            "message": message_of(group, _MESSAGE) if self._sees_payload else "",
            "place": place_of(group),
            "count": in_full(min(group.count, MOST_TASKS), MOST_TASKS),
            "ago": self._ago(group.last_at),
            "url": self._list("taskrecord", q=f"group:{group.fingerprint}"),
        }

    def _schedule(self, due: Due) -> dict[str, Any]:
        left = (due.at - self._snapshot.now).total_seconds()
        return {
            "name": due.name,
            "url": self._change("schedulerecord", due.id),
            "task": due.task,
            "at": show_moment(as_project_time(due.at), "seconds"),
            "left": _("now") if left <= 0 else _("in %s") % in_short(left, is_rough=left > 600),
            "problem": due.problem,
        }

    def _ago(self, moment: datetime | None) -> str:
        if moment is None:
            return "–"
        passed = (self._snapshot.now - as_utc(moment)).total_seconds()
        return _("%s ago") % in_short(max(passed, 0.0), is_rough=True)

    # ---- addresses ----------------------------------------------------------------------------------------------

    def _list(self, name: str, **query: str) -> str:
        """Of a list; "" for who may not see it."""
        if name not in self._linked:
            return ""
        url = reverse(f"{self._site.name}:django_taskq_{name}_changelist")
        return f"{url}?{urlencode(query)}" if query else url

    def _change(self, name: str, key: int | str) -> str:
        """Of a row's page; "" for who may not see it."""
        if name not in self._linked:
            return ""
        return reverse(f"{self._site.name}:django_taskq_{name}_change", args=[quote(key)])


def _drain(ready: int, rate: float) -> str:
    """How long it takes until nothing waits, if no more comes; ``rate``: tasks a second."""
    return in_short(ready / rate) + ("+" if ready >= MOST else "")
