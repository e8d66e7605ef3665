"""What one page asks for happens once: whether somebody clicks twice, or sends the page again."""

from __future__ import annotations

from datetime import UTC, datetime

from django import forms
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest

#: the field that says when a page was made, in a form of it
FIELD = "asked_at"


def moment_of_page() -> str:
    """What a page that is made now puts into its forms."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def asked_at(request: HttpRequest) -> datetime | None:
    """When the page was made that this request comes from; None where it does not say."""
    try:
        moment = datetime.fromisoformat(request.POST.get(FIELD, ""))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


class OnceActionForm(ActionForm):
    """The choice of an action above a list, with the moment of the page."""

    asked_at = forms.CharField(required=False, label="", widget=forms.HiddenInput, initial=moment_of_page)
