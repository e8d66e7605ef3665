"""The form of a schedule: a row's columns as a person writes them, and what is wrong at its field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from .. import registry
from ..aliases import taskq_backends
from ..core import codec
from ..core.schedule import Missed, Overlap
from ..core.sensitive import HIDDEN, has_hidden, hide_all, uncover
from ..database import as_utc
from ..exceptions import UnknownTask
from ..hiding import seen_arguments
from ..models import ScheduleRecord
from ..schedules.definition import Schedule
from ..schedules.problems import check_schedule
from ..sight import SPOILT
from ..worker.startup import CannotStart, import_tasks
from .arguments import decoded

#: fields of a schedule that this form calls otherwise
_CALLED = {"arguments": "args"}


class Suggested(forms.TextInput):
    """A line of text with values to choose from; any other can be written, and is checked."""

    def __init__(self, values: Iterable[str], attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.values = values

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        """Input and list."""
        listed = f"{(attrs or {}).get('id', name)}_values"
        shown = super().render(name, value, {**(attrs or {}), "list": listed}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((one,) for one in self.values))
        return format_html('{}<datalist id="{}">{}</datalist>', shown, listed, options)


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """What becomes a ``Schedule``; ``clean`` says where it cannot. Nothing is saved here."""

    args = forms.CharField(
        label=_("Positional arguments"),
        required=False,
        initial="[]",
        help_text=_("a JSON list"),
        widget=forms.Textarea(attrs={"rows": 2, "class": "vLargeTextField"}),
    )
    kwargs = forms.CharField(
        label=_("Keyword arguments"),
        required=False,
        initial="{}",
        help_text=_("a JSON object"),
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"}),
    )
    read_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = ScheduleRecord
        fields = (
            "name",
            "description",
            "enabled",
            "kind",
            "expression",
            "timezone",
            "latitude",
            "longitude",
            "repeat_ambiguous",
            "start_at",
            "end_at",
            "jitter",
            "task",
            "backend",
            "queue_name",
            "priority",
            "expires",
            "missed",
            "window",
            "overlap",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schedule: Schedule | None = None
        record = self.instance
        if record.pk:
            positional, keyword = shown_call(record)
            self.initial = {
                **self.initial,
                "args": _json(positional),
                "kwargs": _json(keyword),
                "read_version": record.version,
            }
        else:
            known = {"timezone": settings.TIME_ZONE, "backend": _aliases()[0], "kind": "cron"}
            self.initial = {**known, **self.initial}
        if not self.fields.keys() >= {"task", "backend", "timezone"}:
            # Somebody only looks at it.
            return
        self.fields["task"] = forms.ChoiceField(
            label=_("Task"),
            choices=[("", "---------"), *((name, name) for name in task_choices(record.task))],
            help_text=_("one that is registered"),
        )
        self.fields["backend"] = forms.ChoiceField(label=_("Backend"), choices=[(one, one) for one in _aliases()])
        self.fields["timezone"].widget = Suggested(_zones())
        for name in ("name", "expression"):
            self.fields[name].widget.attrs["class"] = "vTextField"
        self.fields["enabled"].help_text = ""
        for name in ("start_at", "end_at"):
            # Two inputs behind one label, which can name neither.
            parts = getattr(self.fields[name].widget, "widgets", ())
            for part, word in zip(parts, (_("Date"), _("Time")), strict=False):
                part.attrs["aria-label"] = format_lazy("{}: {}", self.fields[name].label, word)
        for name in ("window", "jitter"):
            # Without them: the default.
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        """Raises nothing: each problem is written at its field."""
        cleaned = super().clean() or self.cleaned_data
        positional, keyword = self._call()
        if self.instance.pk and cleaned.get("read_version") not in {None, self.instance.version}:
            self.add_error(None, _("Somebody has changed this schedule meanwhile: look at it again."))
        if self.errors:
            return cleaned
        self.schedule = Schedule(
            name=cleaned["name"],
            task=cleaned["task"],
            kind=cleaned["kind"],
            expression=cleaned["expression"],
            timezone=cleaned["timezone"],
            latitude=cleaned["latitude"],
            longitude=cleaned["longitude"],
            repeat_ambiguous=cleaned["repeat_ambiguous"],
            args=tuple(positional),
            kwargs=keyword,
            backend=cleaned["backend"],
            queue_name=cleaned["queue_name"] or None,
            priority=cleaned["priority"],
            start_at=_utc(cleaned["start_at"]),
            end_at=_utc(cleaned["end_at"]),
            jitter=cleaned["jitter"] or 0.0,
            expires=cleaned["expires"],
            missed=Missed(cleaned["missed"]),
            window=Schedule.window if cleaned["window"] is None else cleaned["window"],
            overlap=Overlap(cleaned["overlap"]),
            enabled=cleaned["enabled"],
            description=cleaned["description"],
        )
        self.add_problems(check_schedule(self.schedule))
        return cleaned

    def add_problems(self, problems: Iterable[Any]) -> None:
        """Write each at its field; what is about none of them above the form."""
        for problem in problems:
            name = _CALLED.get(problem.field, problem.field)
            text = f"{problem.message} {problem.hint}".strip()
            self.add_error(name if name in self.fields else None, text)

    def _call(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, with what was shown as hidden as it was."""
        positional, keyword = decoded(self, "args", list), decoded(self, "kwargs", dict)
        if not self.instance.pk or not has_hidden([positional, keyword]):
            return positional, keyword
        if self.cleaned_data.get("task") != self.instance.task:
            # The other one might show it.
            self.add_error("task", _("For another task, write the arguments that are hidden anew."))
            return positional, keyword
        was, named = call_of(self.instance)
        # A position stays that of its parameter, however many come after it.
        padded = [*was, *([HIDDEN] * len(positional))][: len(positional)]
        positional, keyword = uncover(positional, padded), uncover(keyword, named)
        for name, value in (("args", positional), ("kwargs", keyword)):
            if has_hidden(value):
                self.add_error(name, _("Write what is hidden anew where you have moved it."))
        return positional, keyword


def call_of(record: ScheduleRecord) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments; none where somebody has spoilt the row."""
    try:
        args, kwargs = codec.decode(record.arguments)  # type: ignore[misc, str-unpack]  # a pair, or ValueError
    except SPOILT:
        return [], {}
    return (args, kwargs) if isinstance(args, list) and isinstance(kwargs, dict) else ([], {})


def shown_call(record: ScheduleRecord) -> tuple[list[Any], dict[str, Any]]:
    """The same without what the task calls sensitive."""
    args, kwargs = call_of(record)
    try:
        task = registry.resolve(record.task, _imports())
    except UnknownTask:
        return hide_all(args, kwargs)
    parameters = list(registry.signature(task.func).parameters.values())
    names = getattr(getattr(task, "options", None), "sensitive", frozenset[str]())
    return seen_arguments(args, kwargs, names, parameters[1:] if task.takes_context else parameters)


def task_choices(own: str) -> list[str]:
    """The names of the registered tasks, and the one that a schedule has already."""
    # Where a module does not import, those of the others.
    with suppress(CannotStart):
        import_tasks(_imports())
    return sorted({*registry.task_names(), *filter(None, [own])})


def _imports() -> list[str]:
    return [name for backend in taskq_backends(skip_broken=True) for name in backend.config.imports]


def _aliases() -> list[str]:
    return [backend.alias for backend in taskq_backends(skip_broken=True)] or [""]


@cache
def _zones() -> list[str]:
    return sorted(available_timezones())


def _utc(moment: Any) -> Any:
    return None if moment is None else as_utc(moment)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2 if value else None)
