"""What was rolled back never runs; what was committed runs once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_taskq.models import TaskRecord
from django_taskq.testing import run_tasks
from tests.taskapp.models import Note
from tests.taskapp.tasks import note

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


class Problem(Exception):
    """What makes a block of code roll back."""


def ran() -> list[str]:
    """Run what is due, twice; give what the tasks left behind."""
    run_tasks()
    run_tasks()
    return sorted(Note.objects.values_list("text", flat=True))


@contextmanager
def failing(*, durable: bool = False) -> Iterator[None]:
    """A transaction, or a savepoint in one, that an exception ends."""
    with suppress(Problem), transaction.atomic(durable=durable):
        yield
        raise Problem


ENQUEUE: dict[str, Callable[[str], Any]] = {
    "one": note.enqueue,
    "many": lambda text: note.enqueue_many([(text,)]),
    "later": lambda text: note.using(run_after=0).enqueue(text),
}


@pytest.fixture(params=ENQUEUE)
def enqueue(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    return ENQUEUE[request.param]


def test_without_a_transaction_it_runs_once(enqueue: Callable[[str], Any]) -> None:
    enqueue("a")
    assert ran() == ["a"]


def test_committed_it_runs_once(enqueue: Callable[[str], Any]) -> None:
    with transaction.atomic():
        enqueue("a")
    assert ran() == ["a"]


def test_rolled_back_it_never_runs(enqueue: Callable[[str], Any]) -> None:
    with failing():
        enqueue("a")
    assert ran() == []
    assert not TaskRecord.objects.exists()


def test_rolled_back_without_an_exception_it_never_runs(enqueue: Callable[[str], Any]) -> None:
    with transaction.atomic():
        enqueue("a")
        transaction.set_rollback(True)
    assert ran() == []


def test_a_savepoint_takes_its_own_back_only() -> None:
    with transaction.atomic():
        note.enqueue("outer before")
        with failing():
            note.enqueue("inner")
        note.enqueue("outer after")
    assert ran() == ["outer after", "outer before"]


def test_a_released_savepoint_goes_with_the_whole() -> None:
    with failing(), transaction.atomic():
        note.enqueue("inner")
    assert ran() == []


def test_savepoints_within_savepoints() -> None:
    with transaction.atomic():
        with transaction.atomic():
            note.enqueue("kept")
            with transaction.atomic():
                note.enqueue("kept too")
            with failing():
                note.enqueue("gone")
        with failing(), transaction.atomic():
            note.enqueue("gone too")
    assert ran() == ["kept", "kept too"]


def test_an_error_of_the_database_that_was_caught_costs_nothing() -> None:
    with transaction.atomic():
        existing = Note.objects.create(text="row")
        note.enqueue("before")
        with suppress(IntegrityError), transaction.atomic():
            note.enqueue("gone")
            Note.objects.create(pk=existing.pk, text="twice")
        note.enqueue("after")
    assert ran() == ["after", "before", "row"]


@pytest.mark.parametrize("commits", [True, False])
def test_a_durable_block(commits: bool) -> None:
    with transaction.atomic(durable=True) if commits else failing(durable=True):
        note.enqueue("a")
    assert ran() == (["a"] if commits else [])


def test_enqueueing_is_no_transaction_of_its_own_that_a_durable_block_could_be_inside() -> None:
    with failing():
        note.enqueue("gone")
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic(durable=True):
            note.enqueue("never")
    assert ran() == []


def test_on_commit_enqueues_once_the_rest_is_committed() -> None:
    seen = []
    with transaction.atomic():
        transaction.on_commit(lambda: note.enqueue("on commit"))
        Note.objects.create(text="row")
        seen.append(TaskRecord.objects.count())
    seen.append(TaskRecord.objects.count())
    assert seen == [0, 1]
    assert ran() == ["on commit", "row"]


def test_on_commit_of_what_is_rolled_back_enqueues_nothing() -> None:
    with transaction.atomic():
        with failing():
            transaction.on_commit(lambda: note.enqueue("gone"))
        transaction.on_commit(lambda: note.enqueue("kept"))
    assert ran() == ["kept"]


def test_transactions_by_hand() -> None:
    transaction.set_autocommit(False)
    try:
        note.enqueue("gone")
        transaction.rollback()
        note.enqueue_many([("kept",), ("kept too",)])
        transaction.commit()
        note.enqueue("gone too")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert ran() == ["kept", "kept too"]


def test_nobody_sees_it_before_the_commit() -> None:
    def look() -> int:
        try:
            return TaskRecord.objects.count()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            note.enqueue("a")
            assert other.submit(look).result(10) == 0
        assert other.submit(look).result(10) == 1


def test_run_tasks_in_a_transaction_goes_with_it() -> None:
    with failing():
        note.enqueue("a")
        assert run_tasks() == 1
        assert Note.objects.count() == 1
    assert ran() == []


# --- requests


def view(request: HttpRequest, fate: str) -> HttpResponse:
    note.enqueue(fate)
    if fate == "rolled back":
        transaction.set_rollback(True)
    if fate == "failed":
        raise Problem
    return HttpResponse(fate)


@transaction.non_atomic_requests
def free_view(request: HttpRequest, fate: str) -> HttpResponse:
    return view(request, fate)


urlpatterns = [path("<str:fate>/", view), path("free/<str:fate>/", free_view)]


@pytest.fixture
def _atomic_requests(settings: Settings) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    database = connections.settings["default"]
    database["ATOMIC_REQUESTS"] = True
    yield
    database["ATOMIC_REQUESTS"] = False


@pytest.mark.usefixtures("_atomic_requests")
@pytest.mark.parametrize(
    ("address", "left"),
    [("/fine/", ["fine"]), ("/failed/", []), ("/rolled%20back/", []), ("/free/failed/", ["failed"])],
)
def test_a_request_enqueues_when_it_commits(client: Client, address: str, left: list[str]) -> None:
    client.raise_request_exception = False
    client.get(address)
    assert ran() == left
