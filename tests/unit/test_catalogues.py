"""The catalogues: every text of the sources is in each, said in its language, with the same values in it."""

from __future__ import annotations

import string

import pytest

from tests.catalogues import LANGUAGES, LOCALES, compiled, entries, messages, places

#: the same in a language as in English
SAME: dict[str, set[str]] = {language: set() for language in LANGUAGES}


def test_the_languages_are_those_that_are_there() -> None:
    assert sorted(one.name for one in LOCALES.iterdir() if one.is_dir()) == sorted(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_in_the_catalogue_and_no_other(language: str) -> None:
    found = {one.message.key for one in entries(language) if not one.is_obsolete}
    assert sorted(messages().keys() - found) == [], "make messages"
    assert sorted(found - messages().keys()) == [], "make messages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated(language: str) -> None:
    for one in entries(language):
        assert all(one.texts), one.message.id
        assert "fuzzy" not in one.flags, one.message.id
        if one.message.plural:
            assert len(one.texts) == (3 if language == "es" else 2), one.message.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_stay_in_their_texts(language: str) -> None:
    sources = messages()
    for one in entries(language):
        wanted = places(one.message.plural or one.message.id)
        for text in one.texts:
            allowed = [wanted, places(one.message.id)] if one.message.plural else [wanted]
            assert places(text) in allowed, one.message.id
            # What looks like a value of str.format would be taken for one.
            list(string.Formatter().parse(text)) if "{" in one.message.id else None
        if one.message.plural:
            assert one.message.plural == sources[one.message.key].plural
        for text in one.texts:
            assert (text.endswith(".")) == one.message.id.endswith("."), one.message.id
            assert text.strip() == text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_programs_read_is_what_people_edit(language: str) -> None:
    wanted: dict[object, str] = {}
    for one in entries(language):
        key = f"{one.message.context}\x04{one.message.id}" if one.message.context else one.message.id
        if one.message.plural:
            wanted |= {(key, index): text for index, text in enumerate(one.texts)}
        else:
            wanted[key] = one.texts[0]
    assert compiled(language) == wanted, "make messages"
