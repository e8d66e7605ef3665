"""``taskq groups``: who looks and who acts, as groups of ``django.contrib.auth``."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.urls import reverse

from django_taskq.staff_groups import OPERATOR, VIEWER
from tests.factories import make_tasks, make_worker

pytestmark = pytest.mark.django_db


def groups(*arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("taskq", "groups", "--format=json", *arguments, stdout=out)
    return {one["group"]: one for one in json.loads(out.getvalue())}


def held(name: str) -> set[str]:
    return set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))


def member(name: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=name))
    client = Client()
    client.force_login(user)
    return client


def test_the_groups_are_made_once_and_stay() -> None:
    assert {one["outcome"] for one in groups().values()} == {"made"}
    before = {name: held(name) for name in (VIEWER, OPERATOR)}
    assert {one["outcome"] for one in groups().values()} == {"unchanged"}
    assert {name: held(name) for name in (VIEWER, OPERATOR)} == before
    assert Group.objects.count() == 2


def test_a_group_gets_what_it_lacks_and_keeps_what_it_has() -> None:
    groups()
    group = Group.objects.get(name=OPERATOR)
    group.permissions.remove(Permission.objects.get(codename="operate_tasks"))
    group.permissions.add(Permission.objects.get(codename="add_user"))
    done = groups()
    assert (done[OPERATOR]["outcome"], done[OPERATOR]["added"]) == ("changed", ["operate_tasks"])
    assert {"operate_tasks", "add_user"} <= held(OPERATOR)
    assert done[VIEWER]["outcome"] == "unchanged"


def test_viewers_see_no_payload_and_nobody_deletes() -> None:
    groups()
    acting = {"view_payload", "operate_tasks", "control_queues", "control_workers", "change_schedules"}
    assert held(OPERATOR) - held(VIEWER) == acting
    assert not any(one.startswith(("add_", "delete_")) or one == "view_orderrecord" for one in held(OPERATOR))


def test_viewers_see_every_page_of_the_admin() -> None:
    groups()
    make_tasks()
    make_worker()
    browser = member(VIEWER)
    page = browser.get(reverse("admin:app_list", args=["django_taskq"]))
    assert page.status_code == 200
    models = page.context["app_list"][0]["models"]
    root = User.objects.create_superuser("root")
    everybody = Client()
    everybody.force_login(root)
    all_models = everybody.get(reverse("admin:app_list", args=["django_taskq"])).context["app_list"][0]["models"]
    assert {one["object_name"] for one in models} == {one["object_name"] for one in all_models}
    for one in models:
        assert browser.get(one["admin_url"]).status_code == 200


def test_without_users_the_reason_is_said(settings: Any) -> None:
    left = [name for name in settings.INSTALLED_APPS if name not in {"django.contrib.auth", "django.contrib.admin"}]
    with override_settings(INSTALLED_APPS=left), pytest.raises(CommandError, match=r"django\.contrib\.auth"):
        call_command("taskq", "groups")


def test_without_permissions_the_reason_is_said_and_nothing_is_made() -> None:
    Permission.objects.filter(codename="view_taskrecord").delete()
    with pytest.raises(CommandError, match="run migrate"):
        call_command("taskq", "groups")
    assert not Group.objects.exists()


def test_an_unknown_database_is_named() -> None:
    with pytest.raises(CommandError, match="--database 'defalt' is no alias"):
        call_command("taskq", "groups", "--database=defalt")
