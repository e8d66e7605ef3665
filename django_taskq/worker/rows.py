"""The rows, as a message broker's consumer needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from .. import registry
from ..aliases import backends_on
from ..backend import TaskqBackend
from ..core.message import Message
from ..core.options import TaskOptions
from ..core.paused import Paused
from ..core.states import State
from ..core.wire import Call
from ..exceptions import TaskqError
from ..models import TaskRecord
from ..producer import options_of
from ..transitions.claim import claim_ids, queue_names, states_of
from ..transitions.enqueue import NewTask, Publication, insert_call
from ..transitions.outbox import put_off

#: under which a producer's own ids, which may be any text, become ids of rows
_NAMESPACE = UUID("0198b0d2-6f0c-7c1e-9b1e-5d0a1f6c2b7e")

_DEFAULT_OPTIONS = TaskOptions()


class BrokerRows:
    """See ``brokers.base.Rows``. ``worker_id``: asked for each claim, since a worker may be renamed."""

    def __init__(self, backend: TaskqBackend, served: Sequence[str], worker_id: Callable[[], str]) -> None:
        self._backend = backend
        self._using = backend.database
        self._served = served
        # Whatever alias a task was enqueued with, the queue is the same one.
        self._backends = [one.alias for one in backends_on(backend.database)]
        self._worker_id = worker_id

    def claim(self, ids: Sequence[str], names: Collection[str], wanted: bool, paused: Paused) -> list[Message]:
        """Claim what was delivered."""
        if names or wanted:
            rows = TaskRecord.objects.using(self._using).filter(pk__in=ids, state=State.READY)
            ids = [str(pk) for pk, name in rows.values_list("pk", "name") if (name in names) is wanted]
        return claim_ids(self._using, ids, self._worker_id(), backends=self._backends, paused=paused)

    def put_off(self, ids: Sequence[str], paused: Paused) -> set[str]:
        """They are in the outbox then, where a keeper leaves them for as long."""
        return put_off(self._using, ids, paused, backends=self._backends)

    def states(self, ids: Sequence[str]) -> Mapping[str, tuple[State, bool]]:
        """Of the tasks of this project's aliases; others are nobody's here."""
        return states_of(self._using, ids, backends=self._backends)

    def runs_in_thread(self, call: Call) -> bool:
        """See ``Rows``."""
        task = registry.lookup(call.name)
        return task is not None and call.name not in registry.coroutine_names()

    def refusal(self, call: Call) -> str:
        """Why a task without a row cannot run here; "" when it can."""
        try:
            registry.resolve(call.name, self._backend.config.imports)
        except TaskqError as error:
            return str(error)
        return ""

    def is_awaited(self, call: Call) -> bool:
        """A caller waits for a reply, or looks into the store."""
        return bool(call.reply_to) or self._backend.result_store.keeps

    def acks_late(self, call: Call) -> bool:
        """What the call says, or the task: a producer that is not ours says nothing."""
        return _options(call).acks_late if call.acks_late is None else call.acks_late

    def adopt(self, call: Call, queue_name: str) -> str:
        """Insert the row, in the state in which it can be claimed; one that is there stays as it is."""
        task_id = row_id(call.id)
        is_due = call.eta is None or call.eta <= datetime.now(UTC)
        state = State.READY if is_due else State.SCHEDULED
        insert_call(self._using, task_of(self._backend, call, queue_name, state=state), task_id, call)
        return task_id

    def queue_names(self) -> Collection[str]:
        """The queues with READY tasks, of the aliases that are served."""
        return [name for alias in self._served for name in queue_names(self._using, alias)]


def row_id(call_id: str) -> str:
    """The id of the row for a task without one."""
    try:
        return str(UUID(call_id))
    except ValueError:
        return str(uuid5(_NAMESPACE, call_id))


def task_of(backend: TaskqBackend, call: Call, queue_name: str, *, state: State) -> NewTask:
    """The row that a task without one would have had."""
    options = _options(call)
    return NewTask(
        name=call.name,
        queue_name=queue_name,
        backend=backend.alias,
        priority=call.priority,
        state=state,
        options=call.options,
        metadata=call.metadata,
        max_deliveries=call.max_deliveries or options.max_deliveries,
        acks_late=options.acks_late if call.acks_late is None else call.acks_late,
        run_after=call.eta,
        expires_at=call.expires,
        headers=call.headers,
        publication=Publication.PENDING,
    )


def _options(call: Call) -> TaskOptions:
    task = registry.lookup(call.name)
    return _DEFAULT_OPTIONS if task is None else options_of(task)
