"""Two groups of people who work with the admin: those who look, and those who act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import router

from .exceptions import TaskqError
from .transitions.staff import grant

_LABEL = "django_taskq"

VIEWER, OPERATOR = "Task viewer", "Task operator"

#: beside those to view rows: who looks sees how things stand, not what is in tasks
_VIEWER = frozenset({"view_dashboard"})
#: and who acts has to see on what. Not ``delete_tasks``: what is deleted is no longer there to show what happened.
_OPERATOR = _VIEWER | {"view_payload", "operate_tasks", "control_queues", "control_workers", "change_schedules"}
#: rows that no page shows, and that may hold what is in tasks: answers to ``stacks``
_HIDDEN = frozenset({"view_orderrecord"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupGrant:
    """What became of a group. ``added``: code names of what it did not have; ``permissions``: of all it is to have."""

    group: str
    is_new: bool
    added: Sequence[str]
    permissions: Sequence[str]


def grant_groups(using: str | None = None) -> list[GroupGrant]:
    """Make both groups, or give them what they lack; what else they have stays.

    ``using``: the database of users; by default the one that the project's routers say. Raises ``TaskqError`` where
    there are no groups or no permissions.
    """
    if not apps.is_installed("django.contrib.auth"):
        raise TaskqError('There are no groups: "django.contrib.auth" is not in INSTALLED_APPS.')
    permission: Any = apps.get_model("auth", "Permission")
    using = using or router.db_for_write(apps.get_model("auth", "Group"))
    found = {
        one.codename: one
        for one in permission.objects.using(using).filter(content_type__app_label=_LABEL).order_by("codename")
    }
    grants = []
    for name, codenames in wanted().items():
        missing = sorted(set(codenames) - found.keys())
        if missing:
            raise TaskqError(
                f"Database {using!r} has no permission {_LABEL}.{missing[0]}: run migrate, which makes permissions, on it."
            )
        is_new, added = grant(using, name, [found[codename] for codename in codenames])
        grants.append(
            GroupGrant(group=name, is_new=is_new, added=[one.codename for one in added], permissions=codenames)
        )
    return grants


def wanted() -> dict[str, list[str]]:
    """The code names of the permissions of each group."""
    options = [model._meta for model in apps.get_app_config(_LABEL).get_models()]  # noqa: SLF001  # Django documents it
    views = {f"view_{one.model_name}" for one in options if "view" in one.default_permissions}
    return {VIEWER: sorted(views - _HIDDEN | _VIEWER), OPERATOR: sorted(views - _HIDDEN | _OPERATOR)}
