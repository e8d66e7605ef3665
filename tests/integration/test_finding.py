"""Tasks among others: searches, pages from cursor to cursor, and what is looked through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_taskq import task
from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.database import database_now
from django_taskq.finding import lanes, pages
from django_taskq.finding.content import content_has
from django_taskq.finding.pages import Cursor, Page, find
from django_taskq.finding.search import BadSearch, Search, parse
from django_taskq.models import TaskRecord
from tests.factories import make_tasks

pytestmark = pytest.mark.django_db

USING = "default"


@task(sensitive=["pin"])
def pay(order_id: int, pin: str, password: str = "", **more: object) -> None:
    """A task that has secrets."""


PAY = f"{__name__}.pay"


def names(page: Page) -> list[str]:
    found = TaskRecord.objects.in_bulk(page.ids)
    return [found[pk].name for pk in sorted(found, reverse=True)] if found else []


def found(text: str, **more: Any) -> list[str]:
    return names(find(USING, parse(text), size=50, verify=content_has, **more))


def walk(search: Search, size: int) -> list[list[str]]:
    """Go from the newest page to the oldest."""
    seen = [find(USING, search, size=size)]
    while (cursor := seen[-1].older) is not None:
        assert len(seen) < 50
        seen.append(find(USING, search, size=size, cursor=cursor))
    return [list(page.ids) for page in seen]


@pytest.fixture
def a_small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a table that is large."""
    monkeypatch.setattr(pages, "WINDOW", 10)
    monkeypatch.setattr(pages, "HEAVY_WINDOW", 10)
    monkeypatch.setattr(lanes, "FEW", 3)


# ---- what is typed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Search()),
        ("shop.send", Search(prefix="shop.send")),
        (
            "  0198B0D2-6F0C-7C1E-9B1E-5D0A1F6C2B7E ",
            Search(id="0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e"),
        ),
        ("queue:mail worker:host-1", Search(queue="mail", worker="host-1")),
        ('task:a.b error:"no such thing"', Search(task="a.b", error="no such thing", state="FAILED")),
        ("state:failed", Search(state="FAILED")),
        ("args.order_id:12 args.0.key:x", Search(arguments=(("order_id", "12"), ("0.key", "x")))),
        ("group:00ff", Search(group="00ff")),
        ("queue:", Search(prefix="queue:")),
        ("queue:a queue:b", Search(queue="b", is_nothing=True)),
        ("error:x state:ready", Search(error="x", state="READY", is_nothing=True)),
    ],
)
def test_what_is_typed_is_read(text: str, expected: Search) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["id:7", "state:lost", "group:xyz", "colour:red", "args:7"])
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(BadSearch):
        parse(text)


# ---- what is found ---------------------------------------------------------------------------------------------


def test_each_qualifier_finds_its_own() -> None:
    (one,) = make_tasks(name="shop.send", queue_name="mail", worker_id="host-1")
    make_tasks(name="shop.send_all", state=State.READY)
    make_tasks(name="crm.call", state=State.SCHEDULED)

    assert found("shop.send") == ["shop.send_all", "shop.send"]
    assert found("task:shop.send") == ["shop.send"]
    assert found("send") == []
    assert found("SHOP") == []
    assert found("shop.%") == []
    assert found(str(one.pk)) == found(f"id:{one.pk.hex}") == ["shop.send"]
    assert found("queue:mail") == found("worker:host-1") == ["shop.send"]
    assert found(f"{one.pk} queue:other") == []
    assert len(found("")) == 3


@pytest.mark.parametrize("state", sorted(State))
def test_each_state_is_found_whether_few_or_many_are_in_it(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in sorted(State):
        make_tasks(3, state=one, name=one.value)
    for few in (10, 2):
        monkeypatch.setattr(lanes, "FEW", few)
        assert found(f"state:{state}") == [state.value] * 3
        assert found(f"state:{state} {state}") == [state.value] * 3
        assert found(f"state:{state} queue:other") == []


def test_a_name_is_found_in_every_state_whether_few_or_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in sorted(State):
        make_tasks(2, state=one, name="shop.send")
        make_tasks(2, state=one, name="shop.other")
    for few in (10, 2):
        monkeypatch.setattr(lanes, "FEW", few)
        assert found("task:shop.send") == ["shop.send"] * 16
        assert found("shop.s") == ["shop.send"] * 16


def test_many_names_with_one_beginning_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_MANY_NAMES", 3)
    for number in range(5):
        make_tasks(name=f"shop.{number}")
    assert found("shop.") == [f"shop.{number}" for number in (4, 3, 2, 1, 0)]


def test_a_group_of_failures_is_found() -> None:
    make_tasks(2, state=State.FAILED, name="one", fingerprint="00000000000000aa")
    make_tasks(state=State.FAILED, name="other", fingerprint="00000000000000bb")
    assert found("group:00000000000000aa") == ["one", "one"]


def pay_task(*args: object, **kwargs: object) -> TaskRecord:
    error = AttemptError(exception_class_path="shop.Broken", message=f"pin {args[1]} is WRONG", traceback="").line(
        attempt=1, worker="w", at=database_now(USING)
    )
    return make_tasks(name=PAY, state=State.FAILED, arguments=json.dumps([args, kwargs]), errors=error)[0]


def test_arguments_are_found_by_name_and_by_position() -> None:
    pay_task(12, "1234", basket={"items": [{"sku": "x1"}]})
    pay_task(13, "9999")
    for text in ("args.order_id:12", "args.0:12", "args.basket.items.0.sku:x1", f"args.order_id:12 task:{PAY}"):
        assert found(text) == [PAY], text
    for text in ("args.order_id:1", "args.order_id:14", "args.gone:12", "args.basket.items.1.sku:x1"):
        assert found(text) == [], text


def test_what_is_hidden_is_not_found_so_that_nobody_guesses_it() -> None:
    pay_task(12, "s3cret", password="pass-word", api_token="t0k-en")
    for text in (
        "args.pin:s3cret",
        "args.1:s3cret",
        "args.password:pass-word",
        "args.api_token:t0k-en",
        "error:s3cret",
    ):
        assert found(text) == [], text
    assert found("args.pin:••••••") == []
    assert found("error:wrong") == found("error:shop.broken") == [PAY]


def test_without_the_permission_content_is_not_looked_into() -> None:
    pay_task(12, "1234")
    for text in ("args.order_id:12", "error:wrong"):
        assert find(USING, parse(text), size=50) == Page()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "task:shop.send",
        "shop task:shop.send",
        "state:failed",
        "queue:mail",
        "worker:w",
        "group:00ff",
        "error:no",
    ],
)
def test_what_is_found_can_be_said_to_what_changes_many(text: str) -> None:
    errors = AttemptError(exception_class_path="shop.No", message="no", traceback="").line(
        attempt=1, worker="w", at=database_now(USING)
    )
    make_tasks(name="shop.send", queue_name="mail", worker_id="w")
    make_tasks(name="shop.send", state=State.FAILED, fingerprint="00ff", errors=errors, worker_id="w")
    make_tasks(name="crm.call")
    search = parse(text)
    selection = search.selection()
    assert selection is not None
    page = find(USING, search, size=50, verify=content_has)
    assert sorted(str(pk) for pk in selection.rows(USING).values_list("pk", flat=True)) == sorted(page.ids)
    assert set(TaskRecord.objects.filter(search.condition())) == set(TaskRecord.objects.in_bulk(page.ids).values())


@pytest.mark.parametrize("text", ["args.a:1", "queue:a queue:b", "shop task:crm.call", "shop.*", "queue:a?"])
def test_what_cannot_be_said_to_it_is_not(text: str) -> None:
    assert parse(text).selection() is None


# ---- pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_every_task_is_on_one_page(size: int) -> None:
    ids = [str(record.pk) for record in make_tasks(7)][::-1]
    seen = walk(Search(), size)
    assert [one for page in seen for one in page] == ids
    assert all(len(page) == size for page in seen[:-1])
    assert seen[-1]


def test_the_way_back_shows_the_same_pages() -> None:
    ids = [str(record.pk) for record in make_tasks(9)][::-1]
    last = find(USING, Search(), size=3, cursor=Cursor(id=ids[5]))
    assert (list(last.ids), last.older) == (ids[6:], None)
    middle = find(USING, Search(), size=3, cursor=last.newer)
    assert list(middle.ids) == ids[3:6]
    first = find(USING, Search(), size=3, cursor=middle.newer)
    assert (list(first.ids), first.newer) == (ids[:3], None)
    assert first.older is not None
    assert list(find(USING, Search(), size=3, cursor=first.older).ids) == ids[3:6]


def test_new_tasks_do_not_move_a_page() -> None:
    ids = [str(record.pk) for record in make_tasks(4)][::-1]
    cursor = find(USING, Search(), size=2).older
    make_tasks(3)
    assert list(find(USING, Search(), size=2, cursor=cursor).ids) == ids[2:]


def test_the_newest_page_is_full_also_on_the_way_back() -> None:
    ids = [str(record.pk) for record in make_tasks(5)][::-1]
    page = find(USING, Search(), size=3, cursor=Cursor(id=ids[1], is_before=False))
    assert (list(page.ids), page.newer) == (ids[:3], None)


@pytest.mark.usefixtures("a_small_window")
@pytest.mark.parametrize(
    "search",
    [
        Search(queue="rare"),
        Search(prefix="rare"),
        Search(task="rare.one"),
        Search(state="FAILED", queue="rare"),
        Search(state="FAILED"),
    ],
    ids=str,
)
def test_what_is_further_back_is_found_from_where_the_page_ended(search: Search) -> None:
    expected: list[str] = []
    for state in (State.FAILED, State.FAILED, State.FAILED, State.FAILED, State.FAILED):
        (one,) = make_tasks(name="rare.one", queue_name="rare", state=state)
        expected.insert(0, str(one.pk))
        make_tasks(25)
    seen = walk(search, 3)
    assert [one for page in seen for one in page] == expected


@pytest.mark.usefixtures("a_small_window")
def test_a_page_says_how_much_was_looked_through() -> None:
    make_tasks(queue_name="rare")
    make_tasks(25)
    page = find(USING, Search(queue="rare"), size=3)
    assert (page.ids, page.is_cut, page.window) == ([], True, 10)
    assert page.older is not None
    assert not find(USING, Search(), size=3).is_cut


@pytest.mark.usefixtures("a_small_window")
def test_a_rare_name_is_found_at_once_however_old_it_is() -> None:
    make_tasks(name="rare.one")
    make_tasks(25)
    page = find(USING, Search(task="rare.one"), size=3)
    assert (len(page.ids), page.is_cut) == (1, False)


@pytest.mark.parametrize("text", ["x", "b", "b7", "c0198b0d26f0c7c1e9b1e5d0a1f6c2b7e", "'; --"])
def test_a_bad_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Cursor.parse(text)


def test_a_cursor_is_read_as_it_is_written() -> None:
    for is_before in (True, False):
        cursor = Cursor(id="0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e", is_before=is_before)
        assert Cursor.parse(str(cursor)) == cursor
