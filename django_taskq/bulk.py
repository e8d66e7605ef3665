"""Operations: what is done to all tasks that a search means, however many, in the background.

Each is a row, which says how far it has come. Keepers carry it on, the oldest first, a slice at a time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from .announcements import announce_cancelled
from .changes import Change, to_cancel, to_delete, to_discard, to_requeue, to_retry
from .core import codec
from .core.ids import upper_bound
from .core.states import State
from .database import CONNECTION_ERRORS, retry_conflicts
from .finding.content import content_has
from .finding.search import Search
from .models import OperationRecord, TaskQuerySet, TaskRecord
from .models.operation import DONE
from .selection import Selection
from .transitions import operations

logger = logging.getLogger("django_taskq.control")

#: tasks of one transaction, and rows that it looks through at most where no index leads to them
SLICE, WINDOW = 500, 20_000

_VERBS: Mapping[str, Callable[..., Change]] = {
    "retry": to_retry,
    "run": to_requeue,
    "cancel": lambda using: to_cancel(using, announce_cancelled),
    "requeue": to_requeue,
    "discard": to_discard,
    "delete": to_delete,
}


class CannotAsk(ValueError):
    """Nothing can be done to all tasks of such a search; says why in words for people."""


def ask(
    using: str, verb: str, search: Search, *, token: str, by: str = "", parameters: Mapping[str, Any] | None = None
) -> tuple[OperationRecord, bool]:
    """Have something done to all tasks that are meant and are there by now; gives the operation, and whether it is new.

    ``token``: of who asks; the same one twice is one operation. Raises ``CannotAsk``, ``OptionError``.
    """
    check(search, change_of(using, verb, parameters))
    rows = _meant(using, search).order_by("pk").values_list("pk", flat=True)
    until = upper_bound(time.time())
    operation = OperationRecord(
        token=token,
        verb=verb,
        search=codec.encode({name: value for name, value in asdict(search).items() if value}),
        parameters=codec.encode(dict(parameters or {})),
        asked_by=by[:150],
        first=rows.first() or until,
        until=until,
    )
    operation, is_new = operations.insert_operation(using, operation)
    if is_new:
        logger.info("Operation %s: asked for by %s.", operation, by or "?", extra={"action": "operation_asked"})
    return operation, is_new


def change_of(using: str, verb: str, parameters: Mapping[str, Any] | None = None) -> Change:
    """What an operation does. Raises ``OptionError``."""
    return _VERBS[verb](using, **(parameters or {}))


def check(search: Search, change: Change) -> None:
    """Raises ``CannotAsk``."""
    if search.arguments:
        raise CannotAsk(
            _("A search for arguments cannot be acted on as a whole: it means what was looked through. Choose tasks.")
        )
    if search.is_nothing:
        raise CannotAsk(_("No task can be meant by this search."))
    if search.state and State(search.state) not in change.states:
        raise CannotAsk(_("Nothing can be done here to tasks in this state."))


def search_of(operation: OperationRecord) -> Search:
    """What an operation is about. Raises ``TypeError``, ``ValueError`` for a row that is spoilt."""
    said = codec.decode_as(operation.search, dict)
    if said is None:
        # Not that of all tasks.
        raise ValueError("what the operation is about cannot be read")
    return Search(**said)


def carry_on(using: str, operation_id: int) -> bool:
    """Do one slice of an operation; False when it is over. Raises the database's errors."""

    def slice_of_it() -> OperationRecord | None:
        with transaction.atomic(using=using, savepoint=False):
            held = operations.hold(using, operation_id)
            return held and _slice(using, held)

    held = retry_conflicts(using, slice_of_it)
    if held is not None and held.state == DONE:
        logger.info(
            "Operation %s is done: %d of %d tasks were changed.",
            held,
            held.changed,
            held.seen,
            extra={"action": "operation_done"},
        )
    return held is not None and held.is_active


def carry_on_or_fail(using: str, operation_id: int) -> bool:
    """The same; an operation that cannot go on is FAILED, so that it does not stand in the way of others.

    Raises the database's errors that say nothing of the operation: it is gone, or busy.
    """
    try:
        return carry_on(using, operation_id)
    except CONNECTION_ERRORS:
        raise
    except Exception as error:
        logger.exception("Operation %s cannot go on.", operation_id, extra={"action": "operation_failed"})
        operations.fail(using, operation_id, codec.clean(f"{type(error).__name__}: {error}")[:1_000])
        return False


def work_off(using: str, *, seconds: float | None = None) -> bool:
    """Carry on with the oldest operations, for so long; whether any is left."""
    end = None if seconds is None else time.monotonic() + seconds
    while (
        operation_id := OperationRecord.objects.using(using).active().values_list("pk", flat=True).first()
    ) is not None:
        while carry_on_or_fail(using, operation_id):
            if end is not None and time.monotonic() >= end:
                return True
    return False


def abort(using: str, operation_id: int) -> bool:
    """End an operation; what was done stays done. False when it is over."""
    is_aborted = operations.abort(using, operation_id)
    if is_aborted:
        logger.info("Operation %s was aborted.", operation_id, extra={"action": "operation_aborted"})
    return is_aborted


def _slice(using: str, held: OperationRecord) -> OperationRecord:
    search = search_of(held)
    change = change_of(using, held.verb, codec.decode_as(held.parameters, dict))
    batch, after, is_last = _batch(using, held, search, change)
    found, changed = change.carry_out(batch) if batch else (Counter[str](), 0)
    counts = Counter(held.reasons) + found
    operations.advance(using, held, after=after, counts=counts, seen=len(batch), changed=changed, is_last=is_last)
    held.seen, held.changed = held.seen + len(batch), held.changed + changed
    held.state = DONE if is_last else held.state
    return held


def _batch(
    using: str, held: OperationRecord, search: Search, change: Change
) -> tuple[list[tuple[str, State]], UUID, bool]:
    """Ids and states of the tasks that come next, up to where was looked, and whether that is the end."""
    rows = _meant(using, search).filter(pk__lte=held.until)
    rows = rows.filter(pk__gt=held.after) if held.after else rows.filter(pk__gte=held.first)
    edge = None
    if not (search.group or search.id):
        # Where they are few among many, a transaction is not to look through all.
        everything = TaskRecord.objects.using(using).filter(pk__gt=held.after or UUID(int=0), pk__lte=held.until)
        edge = everything.order_by("pk").values_list("pk", flat=True)[WINDOW - 1 : WINDOW].first()
        rows = rows if edge is None else rows.filter(pk__lte=edge)
    if not search.state:
        rows = rows.filter(state__in=sorted(change.states))
    found: list[tuple[UUID, str]]
    if search.error:
        records = list(rows.order_by("pk").defer("result", "log")[:SLICE])
        # As in the list: what is hidden there is not acted on, so that nobody can guess it.
        found = [(one.pk, one.state) for one in records if content_has(one, search)]
        last = records[-1].pk if len(records) == SLICE else None
    else:
        found = list(rows.order_by("pk").values_list("pk", "state")[:SLICE])
        last = found[-1][0] if len(found) == SLICE else None
    batch = [(str(pk), State(state)) for pk, state in found]
    return batch, last or edge or held.until, last is None and edge is None


def _meant(using: str, search: Search) -> TaskQuerySet:
    # With the condition that leads to the index of failures.
    rows = Selection(group=search.group).rows(using) if search.group else TaskRecord.objects.using(using)
    return rows.filter(search.condition())
