"""The admin's pages, and each way to look for something there."""

from __future__ import annotations

from django_taskq.core.states import State
from django_taskq.models import TaskRecord
from tests.factories import make_worker

ADMIN = "/admin/django_taskq/"
TASKS = f"{ADMIN}taskrecord/"
FAILURES = f"{ADMIN}failurerecord/"
DASHBOARD = f"{ADMIN}dashboardrecord/"
WORKERS = f"{ADMIN}workerrecord/"
QUEUES = f"{ADMIN}queuerecord/"
PURGE = f"{QUEUES}purge/"


def addresses(rows: int) -> list[tuple[str, dict[str, str]]]:
    """Pages and their queries, for so many rows of ``tests.many.make_history``."""
    failed = TaskRecord.objects.filter(state=State.FAILED).latest("pk")
    middle = str(TaskRecord.objects.order_by("pk").values_list("pk", flat=True)[rows // 2]).replace("-", "")
    searches = [
        {"q": "shop.tasks.night"},
        {"q": "shop"},
        {"q": "nothing"},
        {"q": "queue:none"},
        {"q": "worker:none"},
        {"q": 'error:"order 7"'},
        {"q": "error:none"},
        {"q": "args.order_id:7"},
        {"q": f"group:{failed.fingerprint}"},
        {"q": str(failed.pk)},
        {"task": "shop.tasks.nightly"},
        {"task": "shop.tasks.nightly", "state": "FAILED"},
        {"queue": "queue1"},
        *({"state": state.value} for state in State),
    ]
    cursors = [{"p": f"b{middle}"}, {"p": f"a{middle}"}]
    return [
        *((TASKS, search) for search in [{}, *searches]),
        *(
            (TASKS, search | cursor)
            for search in ({}, {"q": "shop.tasks.night"}, {"q": "error:none"})
            for cursor in cursors
        ),
        (f"{TASKS}{failed.pk}/change/", {}),
        (FAILURES, {}),
        *((DASHBOARD, {"range": span}) for span in ("1h", "30d")),
        (WORKERS, {}),
        (f"{WORKERS}{make_worker().pk}/change/", {}),
        (QUEUES, {}),
        (PURGE, {"queue": "queue1", "backend": "default"}),
    ]
