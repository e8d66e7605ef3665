"""Which queues a worker serves."""

from __future__ import annotations

import pytest

from django_taskq.core.queues import MAX_QUEUE_NAME, QueueSelection
from django_taskq.exceptions import OptionError

ALL = ["a", "b", "mail", "mail-bulk", "mails", "slow"]


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("*", ALL),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("mail*", ["mail", "mail-bulk", "mails"]),
        ("mail?", ["mails"]),
        ("[ab]", ["a", "b"]),
        ("[!ab]", []),
        ("-slow", ["a", "b", "mail", "mail-bulk", "mails"]),
        ("-mail*,-slow", ["a", "b"]),
        ("*,-mail*", ["a", "b", "slow"]),
        ("mail*,-mail-bulk", ["mail", "mails"]),
        ("mail-bulk,-mail*", []),
        ("A", []),
        ("nothing", []),
    ],
)
def test_a_selection_serves_what_it_names_less_what_it_takes_away(text: str, served: list[str]) -> None:
    selection = QueueSelection.parse(text)
    assert selection.of(ALL) == served
    assert [name for name in ALL if name in selection] == served


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("a", ("a",)),
        ("a,b,a", ("a", "b")),
        ("a,b,-b", ("a",)),
        ("a,-*", ()),
        ("*", None),
        ("-slow", None),
        ("a,mail*", None),
        ("mail?", None),
        ("[ab]", None),
    ],
)
def test_a_selection_of_plain_names_is_exact(text: str, exact: tuple[str, ...] | None) -> None:
    assert QueueSelection.parse(text).exact == exact


@pytest.mark.parametrize(
    ("selection", "everything"),
    [
        (QueueSelection(), True),
        (QueueSelection.parse("*"), True),
        (QueueSelection.parse("a,*"), True),
        (QueueSelection.parse("a"), False),
        (QueueSelection.parse("-a"), False),
        (QueueSelection.parse("*,-a"), False),
    ],
    ids=str,
)
def test_everything_is_no_choice_at_all(selection: QueueSelection, everything: bool) -> None:
    assert selection.is_everything is everything


@pytest.mark.parametrize("text", ["", ",", "a,", "a,,b", "-", "a,-", " "])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="empty queue name"):
        QueueSelection.parse(text)


def test_a_name_longer_than_the_column_is_refused() -> None:
    QueueSelection.parse("q" * MAX_QUEUE_NAME)
    with pytest.raises(OptionError, match="longer than 128"):
        QueueSelection.parse("a," + "q" * (MAX_QUEUE_NAME + 1))


@pytest.mark.parametrize(
    ("text", "shown"), [("*", "*"), ("a,b", "a, b"), ("-slow", "*, -slow"), ("mail*,-mail-bulk", "mail*, -mail-bulk")]
)
def test_a_selection_shows_as_it_was_meant(text: str, shown: str) -> None:
    assert str(QueueSelection.parse(text)) == shown
    assert QueueSelection.parse(str(QueueSelection.parse(text))).of(ALL) == QueueSelection.parse(text).of(ALL)
