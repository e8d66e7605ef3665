"""The queues' figures for Prometheus: right, guarded, and read from small indexes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from django_taskq import State
from django_taskq.models import TaskRecord, WorkerRecord
from django_taskq.monitoring import figures
from django_taskq.monitoring.figures import read_figures
from django_taskq.transitions.claim import Lanes, claim
from tests.taskapp import tasks

pytestmark = pytest.mark.django_db

URL = "/taskq/metrics/"


def put_all() -> None:
    tasks.noop.enqueue_many([()] * 3)
    tasks.noop.using(priority=5).enqueue_many([()] * 2)
    tasks.noop.using(run_after=3_600).enqueue()
    claim("default", Lanes(("default",)), 1, "anne-1")


def put_worker(name: str, *, silent: float = 0.0) -> None:
    moment = timezone.now() - timedelta(seconds=silent)
    WorkerRecord.objects.create(
        id=f"{name}-{silent}", name=name, hostname="", pid=1, backends="default", queues="*", slots=4,
        started_at=moment, heartbeat_at=moment,
    )  # fmt: skip


def test_depths_waits_and_workers_are_those_of_the_rows() -> None:
    put_all()
    put_worker("anne")
    put_worker("anne", silent=1)
    put_worker("bert", silent=1_000)
    oldest = TaskRecord.objects.filter(priority=0, state="READY").order_by("pk")[1]
    TaskRecord.objects.filter(pk=oldest.pk).update(enqueued_at=timezone.now() - timedelta(seconds=500))
    found = read_figures()
    assert found.depths == {
        ("default", "default", State.READY): 4,
        ("default", "default", State.SCHEDULED): 1,
        ("default", "default", State.RUNNING): 1,
    }
    assert found.waits == {("default", "default"): pytest.approx(500, abs=30)}
    assert [(one.names, one.processes, one.slots) for one in found.workers] == [(1, 2, 8)]


def test_a_task_waits_since_it_is_due_not_since_it_was_enqueued() -> None:
    result = tasks.noop.enqueue()
    now = timezone.now()
    TaskRecord.objects.filter(pk=result.id).update(
        enqueued_at=now - timedelta(days=1), run_after=now - timedelta(seconds=100)
    )
    assert read_figures().waits == {("default", "default"): pytest.approx(100, abs=30)}


def test_nobody_counts_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST", 2)
    put_all()
    assert read_figures().depths["default", "default", State.READY] == 2


def test_the_page_is_for_staff_who_may_view_tasks(client: Client) -> None:
    assert client.get(URL).status_code == 403
    user = User.objects.create_user("anne", is_staff=True)
    client.force_login(user)
    assert client.get(URL).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_taskrecord"))
    response = client.get(URL)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "no-store" in response["Cache-Control"]
    assert client.post(URL).status_code == 405
    user.is_staff = False
    user.save()
    assert client.get(URL).status_code == 403


def test_the_page_is_for_whoever_brings_the_token(client: Client, settings: object) -> None:
    def status(given: str) -> int:
        return client.get(URL, headers={"Authorization": given}).status_code

    assert status("Bearer ") == status("Bearer anything") == 403
    settings.TASKQ_METRICS_TOKEN = "a long one, please"  # type: ignore[attr-defined]  # pytest-django's
    assert status("Bearer a long one, please") == 200
    assert status("Bearer another") == status("Basic a long one, please") == status("Bearer ") == status("") == 403


def test_prometheus_can_read_the_page(client: Client, settings: object) -> None:
    settings.TASKQ_METRICS_TOKEN = "token"  # type: ignore[attr-defined]  # as above
    put_all()
    put_worker("anne")
    text = client.get(URL, headers={"Authorization": "Bearer token"}).content.decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["taskq_tasks", "default", "default", "READY"] == 4
    assert samples["taskq_workers", "default"] == 1
    assert samples["taskq_slots", "default"] == 4
    assert samples["taskq_oldest_wait_seconds", "default", "default"] < 60


def test_a_request_without_users_is_nobody(rf: object) -> None:
    from django.core.exceptions import PermissionDenied

    from django_taskq.monitoring.views import metrics

    request = rf.get(URL)  # type: ignore[attr-defined]  # pytest-django's
    with pytest.raises(PermissionDenied):
        metrics(request)
    request.user = AnonymousUser()
    with pytest.raises(PermissionDenied):
        metrics(request)
