"""What nobody is shown: arguments that a task calls sensitive, and what Django's error reports hide by its name.

Without the rows: also for what is set up before Django is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from inspect import Parameter
from typing import Any

from django.views.debug import get_default_exception_reporter_filter

from .core.sensitive import hide_keys, hide_sensitive


def seen_arguments(
    args: Sequence[object], kwargs: Mapping[str, object], sensitive: Collection[str], parameters: Sequence[Parameter]
) -> tuple[Any, Any]:
    """Arguments of a call without what is ``sensitive``, and without what is hidden by its name.

    ``parameters``: those of the function, without the context.
    """
    by_name = {one.name for one in parameters if is_hidden_name(one.name)}
    seen = hide_sensitive(args, kwargs, {*sensitive, *by_name}, parameters)
    return hide_keys(seen[0], is_hidden_name), hide_keys(seen[1], is_hidden_name)


def is_hidden_name(name: str) -> bool:
    """Whether Django's error reports hide values of this name (``SafeExceptionReporterFilter.hidden_settings``)."""
    hidden = getattr(get_default_exception_reporter_filter(), "hidden_settings", None)
    return hidden is not None and hidden.search(name) is not None
