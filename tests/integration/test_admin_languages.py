"""The admin in each language that has a catalogue: nothing of ours is left in English."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from django_taskq.core.outcome import AttemptError
from django_taskq.core.states import State
from django_taskq.database import database_now
from tests.catalogues import LANGUAGES, entries, places
from tests.deeds import DEEDS, PAGES, Deed, address, make_schedule, undone
from tests.factories import make_tasks, make_worker

pytestmark = pytest.mark.django_db


#: What stands in the rows.
DATA = {"host"}


class Words(HTMLParser):
    """What people read or hear of a page, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style")
        self.found |= {
            self.clean(text) for name, text in attrs if text and name in ("aria-label", "placeholder", "title")
        }

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.add(self.clean(data))

    @staticmethod
    def clean(text: str) -> str:
        return " ".join(text.split()).rstrip(":.?").lower()


def english(language: str) -> set[str]:
    """Return our texts that are none in this language."""
    ours = [one for one in entries(language) if not places(one.message.id)]
    said = {Words.clean(text) for one in ours for text in one.texts}
    return {Words.clean(one.message.id) for one in ours} - said - DATA


def words_of(text: str) -> set[str]:
    words = Words()
    words.feed(text)
    return words.found


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def make_rows() -> None:
    """Write something of each kind, so that pages have something to say."""
    error = AttemptError(exception_class_path="shop.Broken", message="no", traceback="Traceback", place="shop")
    line = error.line(attempt=1, worker="w", at=database_now("default"))
    for state in State:
        make_tasks(state=state, errors=line if state is State.FAILED else "", run_after=database_now("default"))
    make_worker(id="another", silent_for=1000.0)
    make_schedule(name="seldom", kind="interval", expression="7200")


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_speak_the_language(browser: Client, language: str) -> None:
    make_rows()
    left = english(language)
    assert len(left) > 150
    for page, what in PAGES.items():
        with undone(), translation.override(language):
            row = what.make() if what.make is not None else None
            answer = browser.get(address(page, row))
            if answer.status_code == 200:
                assert words_of(answer.content.decode()) & left == set(), page


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_answers_speak_the_language(browser: Client, deed: Deed) -> None:
    # One stands for all: each text is in every catalogue.
    language = LANGUAGES[0]
    with translation.override(language):
        row = deed.make()
        answer = browser.post(address(deed.page, row), deed.data(row), follow=True)
        assert words_of(answer.content.decode()) & english(language) == set()
