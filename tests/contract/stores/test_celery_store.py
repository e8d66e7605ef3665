"""Celery's code keeps to itself: nothing stored runs code, and a Celery app of the same process is left alone."""

from __future__ import annotations

import pickle
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import celery
import pytest
from celery._state import _get_current_app, get_current_app
from celery.backends.database.models import Task

from django_taskq.results.keyvalue import StoreConfigError
from django_taskq.results.stores.celery_store import CeleryStore

pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[CeleryStore]:
    with closing(CeleryStore(f"db+sqlite:///{path}", {})) as store:
        store.put("key", b"value", 60)
        yield store


def rewrite(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import sys; sys.taskq_trap = 'sprung'",)


def test_a_pickle_in_the_table_is_not_opened(store: CeleryStore, path: Path) -> None:
    rewrite(path, "UPDATE celery_taskmeta SET result = ?", pickle.dumps(Trap()))
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever Celery makes of it
        store.get("key")
    assert not hasattr(sys, "taskq_trap")


def test_a_stored_failure_makes_no_exception(store: CeleryStore, path: Path) -> None:
    failure = '{"exc_type": "system", "exc_module": "os", "exc_message": ["false"]}'
    rewrite(path, "UPDATE celery_taskmeta SET status = 'FAILURE', result = ?", failure.encode())
    assert store.get("key") is None


def test_results_of_a_celery_app_in_the_same_table_stay(store: CeleryStore, path: Path) -> None:
    rewrite(
        path,
        "INSERT INTO celery_taskmeta (id, task_id, status, date_done) VALUES (99, 'theirs', 'SUCCESS', '2001-01-01')",
    )
    rewrite(path, "UPDATE celery_taskmeta SET date_done = '2001-01-01'")
    assert store.sweep(1e9, 60) == 1
    assert store.get("key") is None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT task_id FROM celery_taskmeta").fetchall() == [("theirs",)]


def test_the_process_keeps_its_own_app_and_its_tables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_current_app()
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "a_module.that_is_not_there")
    monkeypatch.setattr(Task.__table__, "name", "shop_results")
    with closing(CeleryStore(f"celery+db+sqlite:///{path}", {})) as store:
        store.put("key", b"value", 60)
        assert store.get("key") == b"value"
        assert Task.__table__.name == "shop_results"
    assert get_current_app() is before
    assert _get_current_app() is before
    assert isinstance(before, celery.Celery)


@pytest.mark.parametrize(
    "url", ["celery+rpc://", "celery+disabled://", "celery+cache+memory://", "celery+nowhere://x:s3cret@h"]
)
def test_what_keeps_nothing_for_others_is_refused(url: str) -> None:
    with pytest.raises(StoreConfigError) as refused:
        CeleryStore(url, {})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["db+nothing://x:s3cret@h/d", "db+sqlite", "db+://s3cret"])
def test_what_sqlalchemy_cannot_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(StoreConfigError) as refused:
        CeleryStore(url, {})
    assert "s3cret" not in str(refused.value)


def test_options_are_celerys_settings(path: Path) -> None:
    with pytest.raises(StoreConfigError, match="did you mean 'redis_socket_timeout'"):
        CeleryStore("celery+redis://", {"redis_socket_timeot": 1})
    with pytest.raises(StoreConfigError, match="'result_serializer'"):
        CeleryStore(f"db+sqlite:///{path}", {"result_serializer": "pickle"})
    with pytest.raises(ImportError, match=r"psycopg2|pymysql"):
        CeleryStore("db+mysql+pymysql://h/d", {})
