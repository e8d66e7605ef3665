"""A site whose views wait for tasks: ``application`` for WSGI, ``preloaded()`` with a call before any fork, ``asgi``."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

application = get_wsgi_application()
asgi = get_asgi_application()

from django_taskq.compat import TaskResultDoesNotExist  # noqa: E402  # needs the project's apps
from tests.taskapp import tasks  # noqa: E402  # as above
from tests.waiting import wait_until  # noqa: E402  # as above

#: Seconds that a call may take.
_PATIENCE = 30.0

#: What the last request enqueued, by its id alone.
_ids: list[str] = []

add = tasks.add.using(record=False)


def wait(request: HttpRequest) -> JsonResponse:
    """Add one."""
    number = int(request.GET["number"])
    return JsonResponse({"pid": os.getpid(), "value": add.enqueue(number, 1).get(_PATIENCE)})


async def await_(request: HttpRequest) -> JsonResponse:
    """Add one, in the event loop."""
    number = int(request.GET["number"])
    result = await add.aenqueue(number, 1)
    return JsonResponse({"pid": os.getpid(), "value": await result.aget(_PATIENCE)})


def find(request: HttpRequest) -> JsonResponse:
    """Enqueue without holding the result; tell whether this request finds the reply, and what the last one left."""
    before = [_is_known(task_id) for task_id in _ids]
    _ids[:] = [add.enqueue(1, 1).id]
    wait_until(lambda: _is_known(_ids[0]), what="the reply")
    return JsonResponse({"pid": os.getpid(), "before": before, "now": _is_known(_ids[0])})


def _is_known(task_id: str) -> bool:
    try:
        return bool(add.get_result(task_id).is_finished)
    except TaskResultDoesNotExist:
        return False


def preloaded() -> WSGIHandler:
    """Call once in the process that imports this, which forks afterwards."""
    assert add.enqueue(1, 1).get(_PATIENCE) == 2
    return application


urlpatterns = [path("wait", wait), path("await", await_), path("find", find)]
