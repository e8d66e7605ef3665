"""The page that comes before something is done: what it is, to how many tasks, and what has to be said besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from ..aliases import backends_on
from ..changes import to_requeue
from ..compat import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY
from ..core.queues import MAX_QUEUE_NAME
from ..core.states import State
from ..exceptions import OptionError
from ..publication import known_queues
from .reasons import state_in_words
from .schedule_form import Suggested
from .verbs import REQUEUE, Verb
from .wording import in_full

_TEMPLATE = "taskrecord/confirm.html"


class RequeueForm(forms.Form):
    """Where to, and before which others."""

    queue = forms.CharField(
        label=_("Queue"), required=False, max_length=MAX_QUEUE_NAME, help_text=_("empty: they stay in theirs")
    )
    priority = forms.IntegerField(
        label=_("Priority"),
        required=False,
        min_value=TASK_MIN_PRIORITY,
        max_value=TASK_MAX_PRIORITY,
        help_text=_("higher ones are first; empty: they keep theirs"),
    )

    def __init__(self, using: str, data: Any = None) -> None:
        super().__init__(data)
        self._using = using
        self.fields["queue"].widget = Suggested(sorted(known_queues(backends_on(using))), {"class": "vTextField"})

    def clean(self) -> dict[str, Any]:
        """Raises nothing: what is wrong is written at its field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and not cleaned["queue"] and cleaned["priority"] is None:
            self.add_error(None, _("Give a queue, a priority, or both."))
        if not self.errors:
            try:
                to_requeue(self._using, **self.given)
            except OptionError as error:
                self.add_error("queue", str(error))
        return cleaned

    @property
    def given(self) -> dict[str, Any]:
        """What was said, as ``control.requeue`` takes it."""
        return {"to_queue": self.cleaned_data["queue"] or None, "priority": self.cleaned_data["priority"]}


def form_of(verb: Verb, using: str, request: HttpRequest) -> RequeueForm | None:
    """The form of what has to be said besides; filled in when it was sent."""
    if verb is not REQUEUE:
        return None
    return RequeueForm(using, request.POST if is_sent(request) else None)


def is_sent(request: HttpRequest) -> bool:
    """Whether somebody has seen the page, and said yes."""
    return request.POST.get("post") == "yes"


def counts_in_words(verb: Verb, states: Iterable[str]) -> list[str]:
    """How many tasks are in each state, and whether something is done to them."""
    counts = Counter(states)
    return [
        (_("%(count)s: %(state)s") if State(state) in verb.states else _("%(count)s: %(state)s – left alone"))
        % {"count": in_full(count), "state": state_in_words(state)}
        for state, count in counts.items()
    ]


def ask(
    model_admin: Any,
    request: HttpRequest,
    *,
    label: Any,
    question: Any,
    lines: Sequence[Any],
    hidden: Sequence[tuple[str, str]],
    form: forms.Form | None = None,
    is_destructive: bool = False,
    button: Any = "",
) -> HttpResponse:
    """The page. ``hidden``: what it sends along, besides that somebody has said yes."""
    shown: HttpResponse = model_admin.show(
        request,
        _TEMPLATE,
        label,
        question=question,
        lines=lines,
        hidden=hidden,
        form=form,
        button=button or label,
        is_destructive=is_destructive,
        back=request.get_full_path(),
    )
    return shown
