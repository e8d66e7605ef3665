"""A Celery caller: sends the calls in the file of JSON that it is given, then waits for what is to be had.

Prints a JSON list with one answer per call: ``{"id", "state", "value"}``, or ``{"id", "state", "error"}`` with the
class, the words and the remote traceback of what ``AsyncResult.get()`` raised. A call: ``{"task", "args",
"kwargs", "options", "verb", "get"}``; the verb is one of ``_VERBS``, ``get`` the seconds to wait, 0 for not at all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from celery import chain, group
from celery.result import AsyncResult, GroupResult

from tests.celeryapp.theirs import app


def _apply_async(call: dict[str, Any]) -> AsyncResult:
    return app.tasks[call["task"]].apply_async(call["args"], call["kwargs"], **call["options"])


def _delay(call: dict[str, Any]) -> AsyncResult:
    return app.tasks[call["task"]].delay(*call["args"], **call["kwargs"])


def _send_task(call: dict[str, Any]) -> AsyncResult:
    return app.send_task(call["task"], call["args"], call["kwargs"], **call["options"])


def _group(call: dict[str, Any]) -> GroupResult:
    return group(app.tasks[call["task"]].s(one) for one in call["args"])()


def _chain(call: dict[str, Any]) -> AsyncResult:
    return chain(*(app.tasks[call["task"]].s(one) for one in call["args"]))()


_VERBS = {"apply_async": _apply_async, "delay": _delay, "send_task": _send_task, "group": _group, "chain": _chain}


def _answer(result: Any, patience: float) -> dict[str, Any]:
    if not patience:
        return {"id": result.id}
    try:
        value = result.get(timeout=patience)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
        kind = type(error)
        words = {"module": kind.__module__, "class": kind.__qualname__, "message": str(error)}
        return {"id": result.id, "state": result.state, "error": {**words, "traceback": result.traceback}}
    # A group has no state of its own.
    return {"id": result.id, "state": getattr(result, "state", ""), "value": value}


def main() -> None:
    """Send all, then wait for each."""
    calls = json.loads(Path(sys.argv[1]).read_text())
    usual = {"args": [], "kwargs": {}, "options": {}, "verb": "send_task", "get": 30.0}
    sent = [({**usual, **call}, _VERBS[call.get("verb", "send_task")]({**usual, **call})) for call in calls]
    json.dump([_answer(result, call["get"]) for call, result in sent], sys.stdout)


if __name__ == "__main__":
    main()
