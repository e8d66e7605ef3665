"""``OPTIONS["schedules"]``: schedules by name, as code says them; what is in them is read when somebody needs it."""

from __future__ import annotations

from typing import Any

from .option_values import mapping, refuse

_EXAMPLE = "{'nightly': {'task': 'shop.tasks.close', 'cron': '0 3 * * *'}}"


def parse_schedules(key: str, value: Any) -> dict[str, dict[str, Any]]:
    """What each schedule says, not looked into. Raises ``OptionsError``."""
    given = mapping((key,), value, _EXAMPLE)
    schedules = {}
    for name, options in given.items():
        schedules[name] = mapping((key, name), options, "{'task': 'shop.tasks.close', 'cron': '0 3 * * *'}")
        if "task" not in options:
            raise refuse((key, name), " has no 'task'.", "Write the name of a task, 'shop.tasks.close'.")
    return schedules
