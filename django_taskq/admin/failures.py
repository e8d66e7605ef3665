"""Failures, grouped: what went wrong, how often, since when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..control import discard, retry
from ..core.states import State
from ..finding.groups import MOST_GROUPS, MOST_TASKS, FailureGroup, failure_groups
from ..finding.search import BadSearch, Search, parse
from ..models import FailureRecord
from ..selection import Selection
from ..sight import sight_of
from . import operations
from .asking import ask, is_sent
from .display import show_moment
from .logbook import log_asked
from .permissions import may
from .readonly import OnePageAdmin
from .verbs import DISCARD, RETRY, Verb
from .wording import in_full

#: groups on the page
_SHOWN = 50
#: tasks that one request changes; more are an operation
_AT_ONCE = 1_000
#: characters of a message
_MAX_MESSAGE = 500


@admin.register(FailureRecord)
class FailureAdmin(OnePageAdmin):
    """One page, for who may see tasks."""

    needs = "view_taskrecord"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The groups; by POST, one of them runs again, or is discarded."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request)
        found = failure_groups(self.get_queryset(request).db, limit=_SHOWN)
        sees = may(request, "view_payload")
        context = {
            "groups": [self._shown(group, sees=sees) for group in found.groups],
            "may_retry": may(request, "operate_tasks"),
            "hidden": max(found.total - len(found.groups), 0),
            "is_cut": found.total >= MOST_GROUPS,
        }
        return self.show(request, "failures.html", _("Failures"), **{**context, **(extra_context or {})})

    def _shown(self, group: FailureGroup, *, sees: bool) -> dict[str, Any]:
        site, error = self.admin_site.name, group.error
        return {
            "fingerprint": group.fingerprint,
            # Two groups are two operations.
            "token": operations.new_token(),
            "error": error.exception_class_path if error is not None else "",
            "message": message_of(group, _MAX_MESSAGE) if sees else "",
            "place": place_of(group),
            "task": group.newest.name,
            "count": in_full(min(group.count, MOST_TASKS)) + ("+" if group.is_more else ""),
            "first": show_moment(group.first_at, "seconds"),
            "last": show_moment(group.last_at, "seconds"),
            "tasks_url": f"{reverse(f'{site}:django_taskq_taskrecord_changelist')}?q=group:{group.fingerprint}",
            "newest_url": reverse(f"{site}:django_taskq_taskrecord_change", args=[group.newest.pk]),
        }

    def _act(self, request: HttpRequest) -> HttpResponse:
        """Let a group run again, or discard it: at once, or as an operation where it is large."""
        verb = DISCARD if request.POST.get("verb") == DISCARD.name else RETRY
        if not may(request, verb.permission):
            raise PermissionDenied
        here = HttpResponseRedirect(request.path)
        try:
            kind = parse(f"group:{request.POST.get('group', '')}").group
        except BadSearch:
            kind = ""
        if not kind:
            messages.error(request, _("There is no such group of failures."))
            return here
        using = self.get_queryset(request).db
        selection = Selection(group=kind, states=frozenset({State.FAILED}), limit=_AT_ONCE)
        count = replace(selection, limit=_AT_ONCE + 1).rows(using).count()
        if verb.is_asked and not is_sent(request):
            return self._ask(request, verb, kind, count)
        if count > _AT_ONCE:
            search = Search(group=kind, state=State.FAILED.value)
            return operations.begin(self, request, verb, search) or here
        rows = list(selection.rows(using).only("pk", "name"))
        if rows:
            # By their ids: of those that fail meanwhile the log knows nothing.
            log_asked(request, rows, str(verb.label))
            selection = Selection(ids=tuple(str(row.pk) for row in rows))
        changed = (retry if verb is RETRY else discard)(using, selection).changed if rows else 0
        if verb is RETRY:
            text = ngettext("%(count)s task runs again.", "%(count)s tasks run again.", changed)
        else:
            text = ngettext("%(count)s task was discarded.", "%(count)s tasks were discarded.", changed)
        messages.success(request, text % {"count": changed})
        return here

    def _ask(self, request: HttpRequest, verb: Verb, kind: str, count: int) -> HttpResponse:
        more = (
            _("More than %(count)s tasks") if count > _AT_ONCE else ngettext("%(count)s task", "%(count)s tasks", count)
        )
        return ask(
            self,
            request,
            label=_("Discard all"),
            question=verb.question,
            lines=[more % {"count": in_full(min(count, _AT_ONCE))}, operations.search_in_words(Search(group=kind))],
            hidden=[("group", kind), ("verb", verb.name), ("token", operations.new_token())],
            is_destructive=True,
        )


def message_of(group: FailureGroup, most: int) -> str:
    """What the newest failure of a group says, for who may see it, up to so many characters."""
    if group.error is None or not group.error.message:
        return ""
    # Hidden first: of a secret at the cut a half would be left.
    return sight_of(group.newest).text(group.error.message)[:most]


def place_of(group: FailureGroup) -> str:
    """Where it failed: in a function of the project's own, or else the task."""
    return (group.error.place if group.error is not None else "") or group.newest.name
