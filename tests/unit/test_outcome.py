"""How an attempt ended, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from django_taskq import Reject, Retry, State
from django_taskq.core.options import TaskOptions, parse_options
from django_taskq.core.outcome import MAX_MESSAGE, MAX_TRACEBACK, AttemptError, Outcome, fail, succeed
from django_taskq.core.retry import fixed
from django_taskq.exceptions import OptionError

DEFAULTS = TaskOptions()
FIELDS = sorted(field.name for field in fields(Outcome))
AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def options(**given: Any) -> TaskOptions:
    return parse_options({"backoff": fixed(7), **given})


def raised(exception: BaseException) -> BaseException:
    try:
        raise exception  # noqa: TRY301  # it shall have a traceback
    except BaseException as error:  # noqa: BLE001  # some of them are
        return error


def never_asked(backoff: Callable[..., Any]) -> NoReturn:
    raise AssertionError("no backoff function was given")


def end(exception: BaseException, chosen: TaskOptions, *, failures: int = 0, **more: Any) -> Outcome:
    given = {"chance": 0.0, "ask": never_asked, **more}
    return fail(raised(exception), chosen, failures=failures, **given)


# --- values


def test_a_value_is_kept_as_json() -> None:
    outcome = succeed({"a": (1, None)}, DEFAULTS)
    assert outcome == Outcome(state=State.SUCCESSFUL, result='{"a":[1,null]}')
    assert not outcome.is_retry


def test_none_is_a_value() -> None:
    assert succeed(None, DEFAULTS).result == "null"


def test_a_value_can_be_left_out_but_must_be_json_all_the_same() -> None:
    chosen = options(store_result=False)
    assert succeed(42, chosen).result is None
    with pytest.raises(TypeError, match="Unsupported type"):
        succeed(object(), chosen)


def test_without_a_record_the_row_goes_with_the_success_only() -> None:
    chosen = options(record=False)
    assert not succeed(42, chosen).keep_row
    assert end(ValueError(), chosen).keep_row


@pytest.mark.parametrize(("value", "error"), [(object(), TypeError), (float("nan"), ValueError), ("\x00", ValueError)])
def test_a_value_that_is_not_json_is_an_error(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^Unsupported"):
        succeed(value, DEFAULTS)


def test_duration_and_metadata_are_added_afterwards_and_all_else_stays() -> None:
    error = AttemptError(exception_class_path="a.B", message="m", traceback="t")
    ended = Outcome(
        state=State.SCHEDULED,
        result="1",
        error=error,
        delay=3.0,
        keep_row=False,
        is_unstarted=True,
        is_rejected=True,
        is_kept=True,
        log="a line\n",
    )
    assert ended.after(2.5, "{}") == replace(ended, duration=2.5, metadata="{}")
    unlike_its_default = [name for name in FIELDS if getattr(ended, name) != getattr(Outcome(state=State.READY), name)]
    assert sorted({*unlike_its_default, "duration", "metadata"}) == FIELDS


# --- whether there is another attempt


@pytest.mark.parametrize(
    ("exception", "given", "failures", "state"),
    [
        (ValueError(), {}, 0, State.FAILED),
        (ValueError(), {"max_attempts": 1}, 0, State.FAILED),
        (ValueError(), {"max_attempts": 3}, 0, State.SCHEDULED),
        (ValueError(), {"max_attempts": 3}, 1, State.SCHEDULED),
        (ValueError(), {"max_attempts": 3}, 2, State.FAILED),
        (ValueError(), {"max_attempts": 3}, 9, State.FAILED),
        (ValueError(), {"max_attempts": 3, "retry_on": ValueError}, 0, State.SCHEDULED),
        (ValueError(), {"max_attempts": 3, "retry_on": Exception}, 0, State.SCHEDULED),
        (ValueError(), {"max_attempts": 3, "retry_on": KeyError}, 0, State.FAILED),
        (ValueError(), {"max_attempts": 3, "give_up_on": ValueError}, 0, State.FAILED),
        (ValueError(), {"max_attempts": 3, "retry_on": ValueError, "give_up_on": Exception}, 0, State.FAILED),
        (ValueError(), {"retry_on": ValueError}, 0, State.FAILED),
        (SystemExit(), {"max_attempts": 3}, 0, State.FAILED),
        (KeyboardInterrupt(), {"max_attempts": 3}, 0, State.FAILED),
        (SystemExit(), {"max_attempts": 3, "retry_on": SystemExit}, 0, State.SCHEDULED),
        (Retry(), {}, 0, State.SCHEDULED),
        (Retry(), {}, 1_000, State.SCHEDULED),
        (Retry(), {"max_attempts": 2}, 0, State.SCHEDULED),
        (Retry(), {"max_attempts": 2}, 1, State.FAILED),
        (Retry(), {"max_attempts": 3, "retry_on": KeyError}, 0, State.SCHEDULED),
        (Reject(), {"max_attempts": 3}, 0, State.FAILED),
        (Reject(), {"max_attempts": 3, "retry_on": Reject}, 0, State.FAILED),
    ],
    ids=repr,
)
def test_the_options_say_whether_there_is_another_attempt(
    exception: BaseException, given: dict[str, Any], failures: int, state: State
) -> None:
    outcome = end(exception, options(**given), failures=failures)
    assert outcome.state is state
    assert outcome.is_retry is (state is State.SCHEDULED)
    assert outcome.delay == (7 if outcome.is_retry else 0)


def test_what_would_fail_again_is_not_tried_again() -> None:
    assert end(TypeError(), options(max_attempts=5), may_retry=False).state is State.FAILED


def test_no_delay_means_at_once() -> None:
    outcome = end(ValueError(), options(max_attempts=2, backoff=0))
    assert (outcome.state, outcome.delay) == (State.READY, 0)


def test_the_task_may_name_the_delay_itself() -> None:
    outcome = end(Retry(delay=timedelta(minutes=2)), options())
    assert (outcome.state, outcome.delay) == (State.SCHEDULED, 120)
    assert end(Retry(delay=0), options()).state is State.READY


def test_the_delay_grows_with_the_failures() -> None:
    chosen = options(max_attempts=9, backoff=[1, 10, 100])
    assert [end(ValueError(), chosen, failures=failures).delay for failures in range(4)] == [1, 10, 100, 100]


# --- backoff functions


def ask_about(chosen: TaskOptions, answer: object) -> Outcome:
    def ask(backoff: Callable[..., Any]) -> Any:
        assert backoff is chosen.backoff
        if isinstance(answer, Exception):
            raise answer
        return answer

    return end(ValueError("first"), chosen, ask=ask)


@pytest.mark.parametrize(("answer", "delay"), [(2.5, 2.5), (timedelta(minutes=1), 60), (0, 0)])
def test_a_function_is_asked_for_the_delay(answer: object, delay: float) -> None:
    outcome = ask_about(options(max_attempts=2, backoff=lambda exception, task_result: 1), answer)
    assert outcome.is_retry
    assert outcome.delay == delay


def test_a_function_may_give_up() -> None:
    outcome = ask_about(options(max_attempts=2, backoff=lambda exception, task_result: None), None)
    assert outcome.state is State.FAILED


@pytest.mark.parametrize(
    "answer", [KeyError("second"), SystemExit("second"), -1, "soon", float("nan"), 10**400], ids=repr
)
def test_a_function_that_fails_ends_the_task_and_both_errors_are_told(answer: object) -> None:
    outcome = ask_about(options(max_attempts=2, backoff=lambda exception, task_result: 1), answer)
    assert outcome.state is State.FAILED
    assert outcome.error is not None
    assert outcome.error.exception_class_path == "builtins.ValueError"
    first, _, second = outcome.error.traceback.partition("The task's backoff failed, too:")
    assert "ValueError: first" in first
    assert "second" in second or "backoff() returned" in second


# --- errors


def test_an_error_is_text_and_names_the_class_by_its_path() -> None:
    error = AttemptError.of(raised(OptionError("it was so")))
    assert error.exception_class_path == "django_taskq.exceptions.OptionError"
    assert error.message == "it was so"
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert error.traceback.endswith("OptionError: it was so\n")
    assert "in raised" in error.traceback


def test_frames_of_ours_are_left_out() -> None:
    def outer() -> None:
        inner()

    def inner() -> None:
        raise ValueError

    def caught() -> BaseException:
        try:
            outer()
        except ValueError as error:
            return error
        raise AssertionError

    assert "in caught" in AttemptError.of(caught()).traceback
    assert "in caught" not in AttemptError.of(caught(), skip_frames=1).traceback
    assert "in inner" in AttemptError.of(caught(), skip_frames=1).traceback
    assert "in inner" in AttemptError.of(caught(), skip_frames=99).traceback


def test_causes_and_notes_are_part_of_the_traceback() -> None:
    try:
        try:
            raise KeyError("cause")  # noqa: TRY301  # as above
        except KeyError as error:
            problem = ValueError("effect")
            problem.add_note("a note")
            raise problem from error
    except ValueError as error:
        text = AttemptError.of(error).traceback
    assert "KeyError: 'cause'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: effect\na note\n")


class Unspeakable(Exception):
    def __init__(self, raises: BaseException) -> None:
        self.raises = raises

    def __str__(self) -> str:
        raise self.raises

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> Any:
        return None  # noqa: PLE0307  # the trap


class BadSyntax(SyntaxError):
    """The traceback module trusts these attributes."""

    def __init__(self) -> None:
        super().__init__("bad")
        self.filename, self.lineno, self.text = "file", 1, 5  # type: ignore[assignment]  # the trap


@pytest.mark.parametrize(
    "exception",
    [
        Unspeakable(ValueError()),
        Unspeakable(SystemExit()),
        Unspeakable(KeyboardInterrupt()),
        Unspeakable(RecursionError()),
        NoText(),
        BadSyntax(),
        ExceptionGroup("several", [Unspeakable(KeyError()), BadSyntax()]),
    ],
    ids=lambda exception: f"{type(exception).__name__}-{type(getattr(exception, 'raises', None)).__name__}",
)
def test_exceptions_that_cannot_be_told_are_told_as_far_as_can_be(exception: BaseException) -> None:
    error = AttemptError.of(raised(exception))
    assert error.exception_class_path.endswith(type(exception).__name__)
    assert type(exception).__name__ in error.traceback
    assert AttemptError.parse(error.line(attempt=1, worker="w", at=AT))


def test_a_cause_that_cannot_be_told_costs_nothing_else() -> None:
    try:
        raise ValueError("effect") from raised(BadSyntax())  # noqa: TRY301  # as above
    except ValueError as error:
        told = AttemptError.of(error)
    assert told.message == "effect"
    assert "in test_a_cause_that_cannot_be_told_costs_nothing_else" in told.traceback


def test_long_texts_keep_both_ends() -> None:
    error = AttemptError.of(raised(ValueError("a" * 5_000_000 + "z")))
    assert len(error.message) <= MAX_MESSAGE + 20
    assert len(error.traceback) <= MAX_TRACEBACK + 20
    assert error.message[0] == "a"
    assert error.message[-1] == "z"
    assert "characters left out" in error.message


def test_deep_recursion_is_short() -> None:
    def fall() -> None:
        fall()

    def caught() -> BaseException:
        try:
            fall()
        except RecursionError as error:
            return error
        raise AssertionError

    assert len(AttemptError.of(caught()).traceback) < MAX_TRACEBACK


ODD_TEXTS = ["\x00 \ud800", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg", "line\nline\r\n", '🙂 \u202e \\ " % {} \\u0000']


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_errors_come_back_from_their_lines(text: str) -> None:
    error = AttemptError.of(raised(ValueError(text)))
    lines = "".join(
        error.line(attempt=attempt, worker=f"host {text}".replace("\x00", "").replace("\ud800", ""), at=AT)
        for attempt in (1, 2)
    )
    assert lines.count("\n") == 2
    first, second = AttemptError.parse(lines)
    assert second == replace(first, attempt=2)
    assert replace(first, attempt=0, worker="", at="") == error
    assert first.at == "2026-03-29T01:30:00+00:00"


def test_no_lines_are_no_errors() -> None:
    assert AttemptError.parse("") == []
    assert AttemptError.parse("\n") == []


def test_lines_of_another_version_are_read_as_far_as_they_are_known() -> None:
    (error,) = AttemptError.parse('{"class":"a.B","more":1}\n')
    assert error == AttemptError(exception_class_path="a.B", message="", traceback="")


def test_errors_can_be_left_out() -> None:
    assert end(ValueError(), options(store_errors=False)).error is None
    assert end(ValueError(), options(store_errors=False, max_attempts=2)).error is None
