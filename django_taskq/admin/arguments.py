"""Arguments as somebody writes them into a form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _

from ..core import codec


def decoded(form: forms.BaseForm, name: str, kind: type) -> Any:
    """The list or the object in this field; an empty one where there is none, which is said at the field."""
    value = codec.decode_as(form.cleaned_data.get(name) or ("[]" if kind is list else "{}"), kind)
    if value is not None:
        return value
    form.add_error(name, _("This is not a JSON list.") if kind is list else _("This is not a JSON object."))
    return kind()
