"""What somebody might write into a row in the hope that a page runs it; a page shows it as text.

Each sets ``window.__xss`` where it runs, and leaves an element with the attribute ``data-xss`` where it is read as HTML.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.models import OperationRecord, OrderRecord, PauseRecord, ScheduleRecord, TaskRecord
from django_taskq.models.schedule import CODE, DATABASE
from tests.factories import make_tasks, make_worker
from tests.taskapp import tasks

PAYLOADS: dict[str, str] = {
    "a script": "<script data-xss>window.__xss=1</script>",
    "an image": "<img data-xss src=data: onerror=window.__xss=1>",
    "out of an attribute": '"><svg data-xss onload=window.__xss=1>',
    "out of quotes": "' data-xss autofocus onfocus='window.__xss=1' x='",
    "out of double quotes": '" data-xss autofocus onfocus="window.__xss=1" x="',
    "out of a pre": "</pre></code><script data-xss>window.__xss=1</script>",
    "out of a textarea": "</textarea></select><iframe data-xss srcdoc='<script>parent.__xss=1</script>'></iframe>",
    "out of a title": "</title></style></script><script data-xss>window.__xss=1</script>",
    "a link": '<a data-xss href="javascript:window.__xss=1">x</a>javascript:window.__xss=1',
    "a template": "{{ settings.SECRET_KEY }}{{ 7|add:7 }}{% debug %}${window.__xss=1}",
    "a comment": "<!--<img data-xss src=--><img data-xss src=data: onerror=window.__xss=1//-->",
    "odd letters": "\u202e\u2028\u2029<b data-xss onmouseover=window.__xss=1>\ufeff<math><mtext></table><style data-xss>",
    "escaped already": "&lt;script data-xss&gt;window.__xss=1&lt;/script&gt;&#x3c;b data-xss>",
}


def write_everywhere(payload: str, user: User) -> list[TaskRecord]:
    """Write rows that have this in every field that takes text: two tasks, one of them of code that is there, and so on.

    `user` has done something to all of them.
    """
    now = datetime.now(UTC)
    errors = AttemptError(
        exception_class_path=payload,
        message=payload,
        traceback=f'  File "{payload}", line 1, in {payload}\n    {payload}\n{payload}',
        place=payload,
    ).line(attempt=1, worker=payload, at=now)
    records = [
        make_tasks(
            state=State.FAILED,
            name=name,
            queue_name=payload,
            backend=payload[:64],
            worker_id=payload,
            worker_ids=f"{payload}\n",
            arguments=json.dumps([[payload], {payload: payload}]),
            options=json.dumps({payload: payload}),
            result=json.dumps({payload: payload}),
            metadata=json.dumps({payload: payload}),
            headers=json.dumps({"traceparent": f"00-{payload}-{payload}-01", payload: payload}),
            progress=json.dumps({"message": payload}),
            errors=errors,
            fingerprint=f"{abs(hash((payload, name))) % 16**16:016x}",
            log=f"2026-11-28T20:00:00.000Z ERROR {payload}: {payload}\n{payload}\n",
        )[0]
        for name in (tasks.log_lines.module_path, payload)
    ]
    worker = make_worker(
        id=payload, name=payload[:64], hostname=payload, backends=payload, queues=payload, silent_for=0.0
    )
    for kind in ("queue", "task"):
        PauseRecord.objects.create(kind=kind, name=payload, paused_at=now, paused_by=payload)
    OrderRecord.objects.create(worker_id=payload, verb=payload[:16], made_at=now, answered_at=now, answer=payload)
    operation = OperationRecord.objects.create(
        token=records[0].pk.hex,
        verb="requeue",
        search=json.dumps({"prefix": payload, "queue": payload, "worker": payload, "error": payload}),
        parameters=json.dumps({"to_queue": payload}),
        asked_by=payload,
        asked_at=now,
        state="FAILED",
        first=records[0].pk,
        until=records[1].pk,
        counts=json.dumps({payload: 1, f"moved to {payload}": 2}),
        error=payload,
        finished_at=now,
    )
    schedules = [
        ScheduleRecord.objects.create(
            name=f"{payload}{number}",
            source=source,
            description=payload,
            task=name,
            arguments=json.dumps([[payload], {payload: payload}]),
            backend=payload[:64],
            queue_name=payload,
            kind=kind,
            expression=payload,
            timezone=payload[:64],
            problem=payload,
            changed_at=now,
            next_at=now,
            last_tick_at=now,
            last_task_id=records[0].pk,
        )
        for number, (name, kind, source) in enumerate(
            [(tasks.log_lines.module_path, "cron", DATABASE), (payload, "interval", DATABASE), (payload, "solar", CODE)]
        )
    ]
    for record in (*records, worker, operation, *schedules):
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(record),
            object_id=str(record.pk),
            object_repr=str(record)[:200],
            action_flag=2,
            change_message=payload,
        )
    return records


class Page(HTMLParser):
    """A page as a browser reads it: its text, its links, and all that it should not have."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.intruders: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        unsafe = [name for name in given if name.startswith("on") or name in {"style", "data-xss", "srcdoc"}]
        addresses = [given.get(name) or "" for name in ("href", "src", "action", "formaction")]
        unsafe += [one for one in addresses if ":" in one.partition("/")[0]]
        if tag == "script" and not given.get("src") and given.get("type") != "application/json":
            unsafe.append("a script without a file")
        if unsafe or tag == "style":
            self.intruders.append(f"{self.get_starttag_text()}: {unsafe}")

    def handle_data(self, data: str) -> None:
        self.text += data
