"""Tasks enqueued once more: one with other arguments, or some as they are.

What is asked twice happens once: the page that asks brings a seed, and the ids of the copies come of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..aliases import backends_on
from ..compat import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY
from ..copying import CANNOT_COPY, Copy, copy_of, enqueue_copies
from ..core.ids import derived, uuid7
from ..core.queues import MAX_QUEUE_NAME
from ..core.sensitive import has_hidden
from ..models import TaskRecord
from ..publication import known_queues
from ..sight import SPOILT, sight_of
from .arguments import decoded
from .asking import ask, is_sent
from .display import indented
from .logbook import log_asked
from .permissions import may
from .schedule_form import Suggested
from .wording import in_full

#: seconds after which a page that asks has to be opened anew
_SEED_AGE = 86_400
_SALT = "django_taskq.duplicate"
#: characters of arguments that a form shows
_MAX_EDITED = 100_000


class DuplicateForm(forms.Form):
    """The call of a new task, as it is to be.

    ``copy``: what is to be enqueued, once the form is valid. Who may not see arguments cannot change them.
    """

    args = forms.CharField(
        label=gettext_lazy("Positional arguments"),
        required=False,
        help_text=gettext_lazy("a JSON list"),
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"}),
    )
    kwargs = forms.CharField(
        label=gettext_lazy("Keyword arguments"),
        required=False,
        help_text=gettext_lazy("a JSON object"),
        widget=forms.Textarea(attrs={"rows": 8, "class": "vLargeTextField"}),
    )
    queue = forms.CharField(label=gettext_lazy("Queue"), max_length=MAX_QUEUE_NAME)
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"), min_value=TASK_MIN_PRIORITY, max_value=TASK_MAX_PRIORITY
    )
    seed = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, using: str, record: TaskRecord, *, sees: bool, data: Any = None) -> None:
        shown = _shown_call(record) if sees else None
        initial = {"queue": record.queue_name, "priority": record.priority, "seed": new_seed()}
        if shown is not None:
            initial |= {"args": indented(shown[0]), "kwargs": indented(shown[1])}
        super().__init__(data, initial=initial)
        self._using, self._record = using, record
        self.copy: Copy | None = None
        self.new_id = ""
        #: whether the arguments stay as they are where nothing is written
        self.keeps = shown is None
        self.fields["queue"].widget = Suggested(sorted(known_queues(backends_on(using))), {"class": "vTextField"})
        if not sees:
            del self.fields["args"], self.fields["kwargs"]

    def clean(self) -> dict[str, Any]:
        """Raises nothing: what is wrong is written at its field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        call = self._call(cleaned) if "args" in self.fields else None
        try:
            self.new_id = str(derived(read_seed(cleaned.get("seed", "")), self._record.pk))
        except (signing.BadSignature, ValueError):
            self.add_error(None, _("This page is too old: open it anew."))
        if self.errors:
            return cleaned
        try:
            self.copy = copy_of(
                self._using, self._record, call=call, queue_name=cleaned["queue"], priority=cleaned["priority"]
            )
        except TypeError as error:
            self.add_error("args" if "args" in self.fields else None, str(error))
        except CANNOT_COPY as error:
            self.add_error(None, str(error))
        return cleaned

    def _call(self, cleaned: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]] | None:
        """The arguments as written; None for those of the task that is copied."""
        if self.keeps and not (cleaned.get("args") or cleaned.get("kwargs")):
            return None
        args, kwargs = decoded(self, "args", list), decoded(self, "kwargs", dict)
        for name, value in (("args", args), ("kwargs", kwargs)):
            if has_hidden(value):
                self.add_error(name, _("Write what is hidden anew: it is not taken over into other arguments."))
        return args, kwargs


def duplicate_one(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """The form of a duplicate; by POST, the task that it says is enqueued."""
    if not (may(request, "operate_tasks") and may(request, "view_taskrecord")):
        raise PermissionDenied
    record = model_admin.get_object(request, unquote(object_id))
    if record is None:
        raise Http404
    using = model_admin.get_queryset(request).db
    form = DuplicateForm(using, record, sees=may(request, "view_payload"), data=request.POST or None)
    if request.method == "POST" and form.is_valid() and form.copy is not None:
        return _enqueue_one(model_admin, request, record, form)
    lines = []
    if "args" not in form.fields:
        lines.append(_("Its arguments are those of the task: you may not see them, and so not change them."))
    elif form.keeps:
        lines.append(
            _(
                "Some of the arguments are hidden, too long, or not readable, and are not shown here: leave both fields "
                "empty to take them over as they are, or write all arguments anew."
            )
        )
    return ask(
        model_admin,
        request,
        label=_("Duplicate"),
        question=_("A new task %(name)s is enqueued. The one that it is made of stays as it is.")
        % {"name": record.name},
        lines=lines,
        hidden=[],
        form=form,
        button=_("Enqueue"),
    )


def duplicate_many(model_admin: Any, request: HttpRequest, rows: Sequence[Any]) -> HttpResponse | None:
    """Some tasks, as they are; one alone has the form."""
    site = model_admin.admin_site.name
    if len(rows) == 1:
        return HttpResponseRedirect(reverse(f"{site}:django_taskq_taskrecord_duplicate", args=[rows[0].pk]))
    if not is_sent(request):
        text = ngettext("%(count)s task", "%(count)s tasks", len(rows)) % {"count": in_full(len(rows))}
        return ask(
            model_admin,
            request,
            label=_("Duplicate"),
            question=_("These tasks are enqueued once more, as new ones, with the same arguments."),
            lines=[text],
            hidden=[
                ("action", "duplicate_tasks"),
                ("seed", new_seed()),
                *((ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows),
            ],
        )
    try:
        seed = read_seed(request.POST.get("seed", ""))
    except (signing.BadSignature, ValueError):
        messages.error(request, _("This page is too old: open it anew."))
        return None
    log_asked(request, rows, _("Duplicate"))
    using = model_admin.get_queryset(request).db
    copies: dict[str, Copy] = {}
    problems: dict[str, str] = {}
    for record in (
        TaskRecord.objects.using(using).filter(pk__in=[row.pk for row in rows]).defer("result", "errors", "log")
    ):
        try:
            copies[str(derived(seed, record.pk))] = copy_of(using, record)
        except CANNOT_COPY as error:
            problems[record.name] = str(error)
    count = enqueue_copies(using, copies)
    for name, problem in problems.items():
        messages.warning(request, f"{name}: {problem}")
    text = ngettext("%(count)s task was enqueued.", "%(count)s tasks were enqueued.", count) % {"count": in_full(count)}
    if count < len(copies):
        text += " " + _("The others were enqueued before.")
    messages.add_message(request, messages.SUCCESS if count else messages.WARNING, text)
    return None


def new_seed() -> str:
    """What makes the ids of copies; nobody else can make one."""
    return signing.dumps(str(uuid7(time.time())), salt=_SALT)


def read_seed(text: str) -> UUID:
    """Raises ``BadSignature`` and ``ValueError``."""
    return UUID(signing.loads(text, salt=_SALT, max_age=_SEED_AGE))


def _enqueue_one(model_admin: Any, request: HttpRequest, record: TaskRecord, form: DuplicateForm) -> HttpResponse:
    assert form.copy is not None  # for the type checker
    log_asked(request, [record], _("Duplicate"))
    using = model_admin.get_queryset(request).db
    if enqueue_copies(using, {form.new_id: form.copy}):
        messages.success(request, _("This task was enqueued."))
    else:
        messages.warning(request, _("This task was enqueued before: it is there once."))
    return HttpResponseRedirect(
        reverse(f"{model_admin.admin_site.name}:django_taskq_taskrecord_change", args=[form.new_id])
    )


def _shown_call(record: TaskRecord) -> tuple[list[Any], dict[str, Any]] | None:
    """Positional and keyword arguments, where all of them may be seen, and edited."""
    if len(record.arguments) > _MAX_EDITED:
        return None
    try:
        args, kwargs = record.call_arguments
    except SPOILT:
        return None
    sight = sight_of(record)
    if sight.arguments != {"args": args, "kwargs": kwargs}:
        return None
    return args, kwargs
