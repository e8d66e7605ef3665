"""Groups of people, in the tables of ``django.contrib.auth``: the only rows that are not our own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.db import transaction

from ..database import retry_conflicts


def grant(using: str, group_name: str, permissions: Collection[Any]) -> tuple[bool, list[Any]]:
    """Have a group with these permissions, beside those it has; gives whether it is new, and what it did not have.

    All or nothing. Of two at once both may be told of the same permissions; each is there once.
    """
    model: Any = apps.get_model("auth", "Group")
    groups = model.objects.using(using)

    def write() -> tuple[bool, list[Any]]:
        with transaction.atomic(using=using):
            group, is_new = groups.get_or_create(name=group_name)
            held = set(group.permissions.values_list("pk", flat=True))
            missing = [one for one in permissions if one.pk not in held]
            if missing:
                group.permissions.add(*missing)
        return is_new, missing

    return retry_conflicts(using, write)
