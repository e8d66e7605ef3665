"""Stored scripts: whatever stands in a row, pages show it as text."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_taskq import task
from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_taskq/taskrecord/"
FAILURES = "/admin/django_taskq/failurerecord/"

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</pre><script>alert(1)</script>",
    "</textarea><iframe srcdoc='<script>alert(1)</script>'>",
    '<a href="javascript:alert(1)">x</a>',
    "{{ settings.SECRET_KEY }}{% debug %}",
    "<style>*{background:url(//evil)}</style>",
    "<!--<script>alert(1)//-->",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e<b onclick=alert(1)>\u2028<math><mtext></table><script>alert(1)</script>",
]


@task(name="tests.scripts.anything")
def anything(*values: object, **named: object) -> None:
    """A task whose arguments nobody hides."""


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_script_in_any_field_is_text(browser: Client, payload: str) -> None:
    errors = AttemptError(
        exception_class_path=payload,
        message=payload,
        traceback=f'  File "{payload}", line 1, in {payload}\n    {payload}\n{payload}',
        place=payload,
    ).line(attempt=1, worker=payload, at=datetime.now(UTC))
    # The code of one is here, so that its arguments are shown.
    records = [
        make_tasks(
            state=State.FAILED,
            name=name,
            queue_name=payload,
            backend=payload[:64],
            worker_id=payload,
            worker_ids=f"{payload}\n",
            arguments=json.dumps([[payload], {payload: payload}]),
            result=json.dumps({payload: payload}),
            metadata=json.dumps({payload: payload}),
            headers=json.dumps({"traceparent": f"00-{payload}-{payload}-01"}),
            progress=json.dumps({"message": payload}),
            errors=errors,
            log=f"2026-11-28T20:00:00.000Z ERROR {payload}: {payload}\n{payload}\n",
        )[0]
        for name in ("tests.scripts.anything", payload)
    ]
    escaped = html.escape(payload)
    for page in (
        *(browser.get(TASKS, query) for query in ({}, {"q": payload}, {"queue": payload})),
        *(browser.get(f"{TASKS}{record.pk}/change/") for record in records),
        browser.get(FAILURES),
    ):
        assert page.status_code == 200
        text = page.content.decode()
        assert payload not in text or payload == escaped
        assert escaped in text
