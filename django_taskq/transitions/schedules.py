"""What schedules say: written by people, and by the code that is deployed.

Guarded by the version that was read: of two changes at once one has to look again. Where a schedule stands is the
keeper's to write, see ``ticks``; a change of its time alone sets that anew.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from ..core import codec
from ..database import Now, database_now, notify, retry_conflicts
from ..models import KeeperRecord, ScheduleRecord
from ..models.schedule import CODE, Source
from ..schedules.definition import Schedule, rule_of
from ..wakeup import SCHEDULE_CHANNEL
from .once import insert_once

#: what says when a schedule's ticks come; after any other change they come when they would have
TIMING = frozenset(
    ("kind", "expression", "timezone", "latitude", "longitude", "repeat_ambiguous", "start_at", "end_at")
)


def columns_of(schedule: Schedule) -> dict[str, Any]:
    """What a schedule's row says of its definition."""
    return {
        "name": schedule.name,
        "description": schedule.description,
        "task": schedule.task,
        "arguments": codec.encode([list(schedule.args), schedule.kwargs]),
        "backend": schedule.backend,
        "queue_name": schedule.queue_name or "",
        "priority": schedule.priority,
        "expires": schedule.expires,
        "kind": schedule.kind,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "latitude": schedule.latitude,
        "longitude": schedule.longitude,
        "repeat_ambiguous": schedule.repeat_ambiguous,
        "start_at": schedule.start_at,
        "end_at": schedule.end_at,
        "jitter": schedule.jitter,
        "missed": schedule.missed.value,
        "window": schedule.window,
        "overlap": schedule.overlap.value,
        "enabled": schedule.enabled,
    }


def first_tick(using: str, schedule: Schedule) -> datetime | None:
    """A schedule's next tick from now on, by the database's clock; None: it never comes. Raises what ``rule_of`` does."""
    return rule_of(schedule).next_after(database_now(using))


def insert_schedule(using: str, schedule: Schedule, source: Source) -> bool:
    """Add a schedule; False when its name is taken."""

    def insert() -> bool:
        row = ScheduleRecord(
            **columns_of(schedule),
            source=source,
            next_at=first_tick(using, schedule) if schedule.enabled else None,
            changed_at=database_now(using),
        )
        # With a savepoint inside a transaction of the caller's: that goes on when the name is taken.
        with transaction.atomic(using=using):
            row.save(using=using, force_insert=True)
            notify(using, SCHEDULE_CHANNEL)
        return True

    try:
        return retry_conflicts(using, insert)
    except IntegrityError:
        return False


def rewrite_schedule(using: str, record: ScheduleRecord, schedule: Schedule) -> bool:
    """Let it say something else; False when it has changed since ``record`` was read, or is no more.

    Raises ``IntegrityError`` when its new name is taken. Its next tick is counted anew, from now, only where its time was
    changed, or whether it is enabled.
    """
    was = columns_of(record.schedule)
    values = columns_of(schedule)
    is_enabled = schedule.enabled if record.switched is None else record.switched
    changed = {name for name, value in values.items() if value != was[name]}
    if is_enabled is not record.is_enabled or (changed & TIMING and is_enabled):
        values["next_at"] = first_tick(using, schedule) if is_enabled else None
        values["waiting_tick_at"] = None
    return _change(using, record, {**values, "problem": ""})


def switch_schedule(using: str, record: ScheduleRecord, *, enabled: bool) -> bool:
    """Enable or disable it; as above. A schedule of the code keeps that when the code changes."""
    values: dict[str, Any] = {
        "next_at": first_tick(using, record.schedule) if enabled else None,
        "waiting_tick_at": None,
        "problem": "",
    }
    if record.source == CODE:
        values["switched"] = None if enabled is record.enabled else enabled
    else:
        values["enabled"] = enabled
    return _change(using, record, values)


def delete_schedule(using: str, record: ScheduleRecord) -> bool:
    """Delete it, whatever it says by now, unless it belongs to somebody else by now: False. Its tasks stay.

    Its ticks go as those that are old do: another of its name is another schedule.
    """
    row = ScheduleRecord.objects.using(using).filter(pk=record.pk, source=record.source, name=record.name)

    def delete() -> bool:
        with transaction.atomic(using=using, savepoint=False):
            deleted = bool(row._raw_delete(using))  # noqa: SLF001  # no cascade: nothing else points at it
            if deleted:
                notify(using, SCHEDULE_CHANNEL)
        return deleted

    return retry_conflicts(using, delete)


def take_lead(using: str, backend: str, digest: str, started_at: datetime) -> bool:
    """Whether this process's code may say which schedules an alias has; False when code that was started later did.

    ``digest``: of what it says. ``started_at``: when its code was loaded, by the database's clock.
    """
    rows = KeeperRecord.objects.using(using)
    name = f"code-{sha256(backend.encode()).hexdigest()[:24]}"
    row = rows.filter(pk=name)
    if row.filter(expires_at__lte=started_at).update(holder=digest, expires_at=started_at):
        return True
    if row.exists():
        return row.filter(holder=digest).exists()
    insert_once(rows, KeeperRecord(pk=name, holder=digest, expires_at=started_at))
    return row.filter(holder=digest).exists()


def _change(using: str, record: ScheduleRecord, values: dict[str, Any]) -> bool:
    row = ScheduleRecord.objects.using(using).filter(pk=record.pk, version=record.version, source=record.source)

    def update() -> bool:
        # With a savepoint, as above.
        with transaction.atomic(using=using):
            changed = bool(row.update(**values, version=F("version") + 1, changed_at=Now()))
            if changed:
                notify(using, SCHEDULE_CHANNEL)
        return changed

    return retry_conflicts(using, update)
