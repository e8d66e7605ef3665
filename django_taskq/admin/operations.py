"""Operations on all tasks that a search means: asked for, watched, aborted."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from .. import bulk
from ..core import codec
from ..database import Now
from ..finding.content import content_has
from ..finding.pages import find
from ..finding.search import Search
from ..models import KeeperRecord, OperationRecord
from ..sight import SPOILT
from . import display
from .asking import ask, form_of, is_sent
from .logbook import log_asked
from .permissions import may
from .readonly import ReadOnlyAdmin
from .reasons import state_in_words, told
from .verbs import DISCARD, REMOVE, VERBS, Verb
from .wording import in_full

#: tasks that are counted before somebody says yes
_COUNTED = 1_000
_TOKEN = re.compile(r"[0-9a-f]{32}")


@admin.register(OperationRecord)
class OperationRecordAdmin(ReadOnlyAdmin):
    """Operations, the newest first; for those who may ask for one, or see them."""

    list_display = ("what", "search_text", "state_text", "seen", "changed", "asked_by", "asked", "finished")
    ordering = ("-pk",)
    sortable_by = ()
    list_per_page = 50
    actions = None

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Who may act on tasks may see what became of it."""
        may_act = any(may(request, codename) for codename in {verb.permission for verb in VERBS.values()})
        return may_act or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """For the admin's front page."""
        return self.has_view_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """None is needed."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """With the button."""
        view = self.admin_site.admin_view(require_POST(self.abort_view))
        return [
            path("<path:object_id>/abort/", view, name="django_taskq_operationrecord_abort"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """How far it has come."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        operation = self._operation(request, object_id)
        verb = VERBS.get(operation.verb)
        context = {
            "operation": operation,
            "search": self.search_text(operation),
            "state": self.state_text(operation),
            "asked": self.asked(operation),
            "finished": self.finished(operation),
            "percent": int(operation.fraction * 100),
            "told": told(operation.reasons),
            "may_abort": operation.is_active and verb is not None and may(request, verb.permission),
            "nobody_keeps": operation.is_active and not _somebody_keeps(self.get_queryset(request).db),
        }
        template = "operationrecord/operation.html"
        return self.show(request, template, self.what(operation), **{**context, **(extra_context or {})})

    def abort_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """By POST, for who may do what it does."""
        operation = self._operation(request, object_id)
        verb = VERBS.get(operation.verb)
        if verb is None or not may(request, verb.permission):
            raise PermissionDenied
        log_asked(request, [operation], _("Abort"))
        if bulk.abort(self.get_queryset(request).db, operation.pk):
            messages.success(request, _("The operation was aborted. What was done stays done."))
        else:
            messages.warning(request, _("The operation was over before."))
        return HttpResponseRedirect(page_of(self, operation))

    def _operation(self, request: HttpRequest, object_id: str) -> OperationRecord:
        operation: OperationRecord | None = self.get_object(request, unquote(object_id))
        if operation is None:
            raise Http404
        return operation

    @admin.display(description=gettext_lazy("operation"))
    def what(self, operation: OperationRecord) -> str:
        """What is done."""
        verb = VERBS.get(operation.verb)
        parameters = codec.decode_as(operation.parameters, dict) or {}
        more = [
            text % {"value": parameters[name]}
            for name, text in (("to_queue", _("to queue %(value)s")), ("priority", _("priority %(value)s")))
            if parameters.get(name) is not None
        ]
        return ", ".join([str(verb.label) if verb else operation.verb, *more])

    @admin.display(description=gettext_lazy("tasks"))
    def search_text(self, operation: OperationRecord) -> str:
        """To which."""
        try:
            return search_in_words(bulk.search_of(operation))
        except SPOILT:
            return operation.search

    @admin.display(description=gettext_lazy("state"))
    def state_text(self, operation: OperationRecord) -> str:
        """In words."""
        return operation.get_state_display()

    @admin.display(description=gettext_lazy("asked"))
    def asked(self, operation: OperationRecord) -> str:
        """When."""
        return display.show_moment(operation.asked_at, "seconds")

    @admin.display(description=gettext_lazy("finished"))
    def finished(self, operation: OperationRecord) -> str:
        """When."""
        return display.show_moment(operation.finished_at, "seconds")


def ask_for_all(model_admin: Any, request: HttpRequest, verb: Verb, search: Search) -> HttpResponse | None:
    """The page that asks before something is done to all that a search means; the operation, once somebody said yes."""
    using = model_admin.get_queryset(request).db
    form = form_of(verb, using, request)
    if is_sent(request) and (form is None or form.is_valid()):
        return begin(model_admin, request, verb, search, parameters={} if form is None else form.given)
    try:
        bulk.check(search, bulk.change_of(using, verb.name))
    except bulk.CannotAsk as error:
        messages.error(request, str(error))
        return None
    return ask(
        model_admin,
        request,
        label=_("%(verb)s: all tasks that match") % {"verb": verb.label},
        question=verb.question or _("This is done to all tasks that match, in the background."),
        lines=[search_in_words(search), _count_in_words(using, search, sees=may(request, "view_payload"))],
        hidden=[("action", verb.action), ("taskq_all", "1"), ("token", new_token())],
        form=form,
        is_destructive=verb in {DISCARD, REMOVE},
    )


def begin(
    model_admin: Any, request: HttpRequest, verb: Verb, search: Search, *, parameters: Mapping[str, Any] | None = None
) -> HttpResponse | None:
    """Ask for the operation, and go to its page; the same page that is sent twice asks once."""
    using = model_admin.get_queryset(request).db
    token = request.POST.get("token", "")
    if not _TOKEN.fullmatch(token):
        messages.error(request, _("This page is too old: open it anew."))
        return None
    try:
        with transaction.atomic(using=using):
            operation, is_new = bulk.ask(
                using, verb.name, search, token=token, by=request.user.get_username(), parameters=parameters
            )
            if is_new:
                # Before the commit: nothing is done that the log does not know of.
                log_asked(request, [operation], f"{verb.label}: {search_in_words(search)}", ADDITION)
    except bulk.CannotAsk as error:
        messages.error(request, str(error))
        return None
    if not is_new:
        messages.warning(request, _("This was asked for before: it is done once."))
    return HttpResponseRedirect(page_of(model_admin, operation))


def new_token() -> str:
    """What a page sends along, so that it asks once."""
    return secrets.token_hex(16)


def page_of(model_admin: Any, operation: OperationRecord) -> str:
    """The address of an operation's page."""
    return reverse(f"{model_admin.admin_site.name}:django_taskq_operationrecord_change", args=[operation.pk])


def search_in_words(search: Search) -> str:
    """As somebody would type it."""
    words = [
        *([search.id] if search.id else []),
        *([search.prefix] if search.prefix else []),
        *(
            f"{name}:{_quoted(value)}"
            for name, value in (
                ("task", search.task),
                ("state", state_in_words(search.state) if search.state else ""),
                ("queue", search.queue),
                ("worker", search.worker),
                ("error", search.error),
                ("group", search.group),
            )
            if value
        ),
    ]
    return " ".join(words) or _("all tasks")


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _count_in_words(using: str, search: Search, *, sees: bool) -> str:
    """How many there are, as far as that is quick to say."""
    page = find(using, search, size=_COUNTED, verify=content_has if sees else None)
    count = len(page.ids)
    if page.is_cut:
        text = _("%(count)s tasks match among the newest that were looked through; older ones are meant, too.")
    elif page.older is not None:
        text = _("More than %(count)s tasks match.")
    else:
        text = ngettext("%(count)s task matches.", "%(count)s tasks match.", count)
    return text % {"count": in_full(count)}


def _somebody_keeps(using: str) -> bool:
    """Whether a keeper is there, which carries operations on."""
    return KeeperRecord.objects.using(using).filter(expires_at__gt=Now()).exclude(holder="").exists()
