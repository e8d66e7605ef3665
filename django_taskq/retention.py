"""How long rows stay after their end, by ``OPTIONS``, their tasks or somebody's word: as the rows to delete now.

A task's own ``result_ttl`` and ``failure_ttl`` are those of its code, for all of its rows: a row does not say in a column
what its call said. So its module has to be imported by whoever deletes, as ``runworker`` and ``cleartasks`` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from . import registry
from .backend import TaskqBackend
from .core.queues import QueueSelection
from .core.states import FINAL, State
from .database import database_now
from .exceptions import MAX_DELAY
from .producer import options_of
from .transitions.prune import Finished, delete_batches, finished_queues

_FAILED = frozenset({State.FAILED})

#: seconds between two rounds that look at everything: for rows that were locked when it was their turn
_WHOLE = 86_400.0
#: what a round looks at again of the one before: an end is seen some time after its moment, when it is committed
_OVERLAP = timedelta(minutes=10)
_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Whose rows go ``age`` seconds after their end.

    ``aliases``: None for any, also for those no longer in ``TASKS``. ``names``, ``other_names``: see ``Finished``.
    """

    age: float
    aliases: tuple[str, ...] | None
    names: tuple[str, ...] | None = None
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Rows to delete in one database. Those of one plan have no row in common, so that their counts add up."""

    using: str
    which: Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asked for beyond ``OPTIONS``.

    ``older_than``: seconds after the end, whatever tasks say; None leaves it to ``result_ttl`` and ``failure_ttl``.
    ``failed_older_than``: the same for FAILED rows, and wins there. ``any_backend``: an age that was
    given is meant for all rows of a database, whatever alias wrote them.
    """

    older_than: float | None = None
    failed_older_than: float | None = None
    states: frozenset[State] = FINAL
    queues: QueueSelection = field(default_factory=QueueSelection)
    any_backend: bool = False


def plan(backends: Iterable[TaskqBackend], wish: Wish = Wish()) -> list[Sweep]:
    """The rows of these backends that are to go now, by the clock of their database.

    CANCELLED and EXPIRED rows go with the successful ones: nobody needs to look into them. Raises
    ``OptionsError`` for an alias whose ``OPTIONS`` cannot be.
    """
    by_database: dict[str, list[TaskqBackend]] = {}
    for backend in backends:
        by_database.setdefault(backend.database, []).append(backend)
    sweeps = []
    for using, group in by_database.items():
        merged: dict[_Rule, frozenset[State]] = {}
        for rule, states in _rules(group, wish):
            merged[rule] = merged.get(rule, frozenset()) | states
        now = database_now(using)
        for rule, states in merged.items():
            which = Finished(
                states=states,
                before=now - timedelta(seconds=min(rule.age, MAX_DELAY)),
                backends=rule.aliases,
                names=rule.names,
                other_names=rule.other_names,
            )
            sweeps.append(Sweep(using=using, which=replace(which, queues=_queue_names(using, which, wish.queues))))
    return sweeps


def carry_out(sweeps: Iterable[Sweep], batch_size: int) -> Iterator[int]:
    """Delete these rows; yields how many went after each batch, which is a transaction of its own."""
    for sweep in sweeps:
        yield from delete_batches(sweep.using, sweep.which, batch_size)


class Rounds:
    """Carries out plans again and again, and looks only at what has ended since the last time.

    Else rows that stay would be looked at in every round: those of other tasks, for a task whose rows stay less long, and
    its own where they stay longer. One for each database and process.
    """

    def __init__(self) -> None:
        #: by what is meant: up to which end nothing is left, and when that was last made sure of from the beginning
        self._done: dict[Sweep, tuple[datetime, float]] = {}

    def carry_out(self, sweeps: Iterable[Sweep], batch_size: int, now: float) -> Iterator[int]:
        """See :func:`carry_out`. ``now``: monotonic. Who takes not all of it continues with the next round."""
        for sweep in sweeps:
            which = sweep.which
            meant = replace(sweep, which=replace(which, before=_ANY_TIME))
            before, whole_at = self._done.get(meant, (_ANY_TIME, float("-inf")))
            is_whole = now - whole_at >= _WHOLE
            if not is_whole:
                which = replace(which, after=before - _OVERLAP)
            yield from delete_batches(sweep.using, which, batch_size)
            self._done[meant] = (which.before, now if is_whole else whole_at)


def _rules(backends: list[TaskqBackend], wish: Wish) -> Iterator[tuple[_Rule, frozenset[State]]]:
    aliases = None if wish.any_backend else tuple(backend.alias for backend in backends)
    failed_older_than = wish.older_than if wish.failed_older_than is None else wish.failed_older_than
    for states, age, option in (
        (wish.states - _FAILED, wish.older_than, "result_ttl"),
        (wish.states & _FAILED, failed_older_than, "failure_ttl"),
    ):
        if not states:
            continue
        if age is not None:
            yield _Rule(age=age, aliases=aliases), states
            continue
        own = _own_ttls(option)
        for backend in backends:
            ttl: float | None = getattr(backend.config, option)
            if ttl is not None:
                yield _Rule(age=ttl, aliases=(backend.alias,), other_names=tuple(sorted(own))), states
        for seconds in sorted(set(own.values())):
            names = tuple(sorted(name for name, one in own.items() if one == seconds))
            yield _Rule(age=seconds, aliases=tuple(backend.alias for backend in backends), names=names), states


def _own_ttls(option: str) -> dict[str, float]:
    """The tasks that say it themselves, by name."""
    given = {task_name: registry.lookup(task_name) for task_name in registry.task_names()}
    return {
        name: seconds
        for name, task in given.items()
        if task is not None and (seconds := getattr(options_of(task), option)) is not None
    }


def longest_ttl(backends: Iterable[TaskqBackend]) -> float | None:
    """Seconds after which none of the results of these aliases are kept; None when some are for ever.

    By what ``OPTIONS`` and the code of tasks say.
    """
    ttls = [ttl for backend in backends for ttl in (backend.config.result_ttl, backend.config.failure_ttl)]
    own = (*_own_ttls("result_ttl").values(), *_own_ttls("failure_ttl").values())
    return None if None in ttls else max((*(ttl for ttl in ttls if ttl is not None), *own), default=None)


def _queue_names(using: str, which: Finished, queues: QueueSelection) -> tuple[str, ...] | None:
    if queues.is_everything:
        return None
    return tuple(queues.of(finished_queues(using, which))) if queues.exact is None else queues.exact
