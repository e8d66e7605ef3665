"""``exchanges``, ``queues`` and ``queue_defaults`` of ``OPTIONS``: checked against what brokers accept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .broker_url import Transport
from .core.options import nearest
from .core.queues import MAX_QUEUE_NAME
from .core.topology import MAX_NAME, RESERVED, Binding, Exchange, Queue, Topology, named, unfit
from .option_values import OptionsError, arguments, flag, known_keys, mapping, refuse, short_text, whole_number
from .queue_arguments import RABBITMQ_ONLY, queue_arguments

Path = tuple[object, ...]

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")

#: Exchanges that AMQP 0-9-1 promises (section 3.1.3) and RabbitMQ has; nobody can declare others of that prefix.
PREDEFINED = {
    "amq.direct": "direct",
    "amq.topic": "topic",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
}

#: Bytes that a worker's own queue adds to the name of a broadcast queue: a dot and a UUID.
_BROADCAST_SUFFIX = 37

_WILDCARDS = ("*", "#")


def parse_exchanges(key: str, value: Any) -> dict[str, Exchange]:
    """Exchanges by name. Raises ``OptionsError``."""
    given = mapping((key,), value, "{'shop': {'type': 'topic'}}")
    return {name: _exchange((key, name), name, one) for name, one in given.items()}


def parse_queues(key: str, value: Any) -> dict[str, dict[str, Any]]:
    """What is said of each queue, one by one checked; how it fits together is ``build_topology``'s concern."""
    given = mapping((key,), value, "{'mail': {'max_priority': 10}}")
    return {name: _queue((key, name), name, one) for name, one in given.items()}


def parse_queue_defaults(key: str, value: Any) -> dict[str, Any]:
    """What holds for each queue, unless it says otherwise itself."""
    given = mapping((key,), value, "{'arguments': {'x-queue-type': 'quorum'}}")
    for name in ("routing_key", "bindings", "broadcast"):
        if name in given:
            raise refuse((key, name), " cannot be the same for all queues.", f"Say it under {'queues'!r}.")
    return _settings((key,), given, _DEFAULTS_KEYS)


def build_topology(
    exchanges: Mapping[str, Exchange],
    queues: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    *,
    persistent: bool,
    transport: Transport,
) -> Topology:
    """The whole, or the first thing in it that cannot be, as an ``OptionsError``.

    ``database://`` has no exchanges: what is said of them waits for the day another broker is written.
    """
    default = Queue(name="", **_merged({}, defaults))
    if default.exchange:
        _check_target(("queue_defaults", "exchange"), named(default, "any"), exchanges)
    _check_twice(("queue_defaults",), defaults)
    _check_sense(("queue_defaults",), default, defaults)
    _check_dead_letters(("queue_defaults",), default, exchanges)
    built = {}
    for name, given in queues.items():
        built[name] = _build_queue(("queues", name), name, given, defaults, exchanges)
    topology = Topology(exchanges=exchanges, queues=built, default=default, persistent=persistent)
    for name, exchange in _all_exchanges(topology).items():
        if transport.exchange_types and exchange.type not in transport.exchange_types:
            raise _unroutable(name, exchange, topology, transport)
    if not transport.exchange_types:
        for name, queue in built.items():
            if queue.broadcast:
                raise refuse(
                    ("queues", name, "broadcast"),
                    f": the broker {transport.name}:// gives a task to one worker only.",
                    "Broadcasts need amqp:// or redis://.",
                )
    return topology


def ignored_arguments(topology: Topology, transport: Transport) -> list[str]:
    """Names of arguments that this transport does not know; with AMQP none."""
    if transport.name in ("amqp", "database", "memory"):
        return []
    used = {name for queue in (topology.default, *topology.queues.values()) for name in queue.arguments}
    return [name for name in RABBITMQ_ONLY if name in used]


def broadcast_exchange(name: str) -> Exchange:
    """The exchange of a broadcast queue that is not configured under ``exchanges``."""
    return Exchange(name=name, type="fanout")


def _exchange(path: Path, name: str, value: Any) -> Exchange:
    short_text(path, name)
    given = {} if value is None else mapping(path, value, "{'type': 'topic'}")
    known_keys(path, given, ("type", "durable", "auto_delete", "arguments", "declare"))
    kind = given.get("type", PREDEFINED.get(name, "direct"))
    if kind not in EXCHANGE_TYPES:
        raise refuse(
            (*path, "type"),
            f"={kind!r} is not a type of exchange{nearest(str(kind), EXCHANGE_TYPES) or '.'}",
            f"Types: {', '.join(EXCHANGE_TYPES)}.",
        )
    if name.startswith(RESERVED):
        if PREDEFINED.get(name) != kind or given.keys() - {"type"}:
            raise refuse(path, ": names that begin with 'amq.' belong to the broker.", "Give it another name.")
        return Exchange(name=name, type=kind, declare=False)
    return Exchange(
        name=name,
        type=kind,
        durable=flag((*path, "durable"), given.get("durable", True)),
        auto_delete=flag((*path, "auto_delete"), given.get("auto_delete", False)),
        arguments=arguments((*path, "arguments"), given.get("arguments", {})),
        declare=flag((*path, "declare"), given.get("declare", True)),
    )


def _queue(path: Path, name: str, value: Any) -> dict[str, Any]:
    if len(name) > MAX_QUEUE_NAME:
        raise refuse(path, f": the name is longer than {MAX_QUEUE_NAME} characters.", "Give it a shorter one.")
    short_text(path, name)
    why = unfit(name)
    if why:
        raise refuse(path, f": {why}.", "Give it another name.")
    given = {} if value is None else mapping(path, value, "{'max_priority': 10}")
    parsed = _settings(path, given, _QUEUE_KEYS)
    if parsed.get("broadcast"):
        _check_broadcast(path, name, parsed)
    return parsed


def _settings(path: Path, given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    if "exclusive" in given:
        raise refuse(
            (*path, "exclusive"),
            ": an exclusive queue has one connection, and its messages go with it.",
            "Leave it out; 'broadcast': True gives each worker process a queue of its own.",
        )
    known_keys(path, given, known)
    return {name: _PARSERS[name]((*path, name), value) for name, value in given.items()}


def _exchange_name(path: Path, value: Any) -> str:
    return short_text(path, value, empty=True)


def _routing_key(path: Path, value: Any) -> str:
    return short_text(path, value, empty=True)


def _max_priority(path: Path, value: Any) -> int | None:
    return None if value is None else whole_number(path, value, 1, 255)


def _persistent(path: Path, value: Any) -> bool | None:
    return None if value is None else flag(path, value)


def _bindings(path: Path, value: Any) -> tuple[Binding, ...]:
    if not isinstance(value, list | tuple):
        raise refuse(path, f" must be a list, not {type(value).__name__}.", "For example [{'exchange': 'shop'}].")
    return tuple(_binding((*path, index), one) for index, one in enumerate(value))


def _binding(path: Path, value: Any) -> Binding:
    given = mapping(path, value, "{'exchange': 'shop', 'routing_key': 'mail.#'}")
    known_keys(path, given, ("exchange", "routing_key", "arguments"))
    if "exchange" not in given:
        raise refuse(path, " names no exchange.", "For example {'exchange': 'shop', 'routing_key': 'mail.#'}.")
    return Binding(
        exchange=short_text((*path, "exchange"), given["exchange"]),
        routing_key=_routing_key((*path, "routing_key"), given.get("routing_key", "")),
        arguments=arguments((*path, "arguments"), given.get("arguments", {})),
    )


_PARSERS: dict[str, Callable[[Path, Any], Any]] = {
    "exchange": _exchange_name,
    "routing_key": _routing_key,
    "bindings": _bindings,
    "durable": flag,
    "auto_delete": flag,
    "arguments": queue_arguments,
    "max_priority": _max_priority,
    "persistent": _persistent,
    "broadcast": flag,
    "declare": flag,
}
_QUEUE_KEYS = tuple(_PARSERS)
_DEFAULTS_KEYS = ("exchange", "durable", "auto_delete", "arguments", "max_priority", "persistent", "declare")


#: What RabbitMQ refuses, or does not do, for quorum queues.
_NOT_QUORUM = {
    "x-max-priority": "quorum queues have no such priorities",
    "x-queue-mode": "quorum queues have no modes",
    "x-queue-version": "quorum queues have no versions",
    "x-queue-master-locator": "that is for mirrored classic queues",
}
_QUORUM_ONLY = ("x-delivery-limit", "x-quorum-initial-group-size", "x-dead-letter-strategy")


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a queue over the defaults; an argument of None takes the default away."""
    merged = {**defaults, **given}
    merged["arguments"] = {**defaults.get("arguments", {}), **given.get("arguments", {})}
    if "max_priority" in merged:
        most = merged.pop("max_priority")
        if "max_priority" in given or "x-max-priority" not in given.get("arguments", {}):
            merged["arguments"]["x-max-priority"] = most
    merged["arguments"] = {name: value for name, value in merged["arguments"].items() if value is not None}
    return merged


def _build_queue(
    path: Path, name: str, given: Mapping[str, Any], defaults: Mapping[str, Any], exchanges: Mapping[str, Exchange]
) -> Queue:
    if given.get("broadcast"):
        existing = exchanges.get(name)
        if existing is not None and existing.type != "fanout":
            raise refuse(
                (*path, "broadcast"),
                f": the exchange {name!r} is of type {existing.type!r}.",
                "A broadcast needs 'fanout'.",
            )
        return Queue(name=name, **{**given, "exchange": name})
    _check_twice(path, given)
    merged = _merged(defaults, given)
    if not merged.get("exchange") and given.get("routing_key"):
        raise refuse(
            (*path, "routing_key"), " needs an 'exchange'.", "Without one, tasks go straight to the queue of this name."
        )
    queue = Queue(name=name, **{"routing_key": name, **merged})
    queue = _with_target(path, queue, exchanges)
    for index, binding in enumerate(queue.bindings[len(queue.bindings) - len(given.get("bindings", ())) :]):
        _check_binding((*path, "bindings", index), binding, exchanges)
    _check_sense(path, queue, given)
    _check_dead_letters(path, queue, exchanges)
    return queue


def _with_target(path: Path, queue: Queue, exchanges: Mapping[str, Exchange]) -> Queue:
    """The queue with a binding for what is published to it, which comes first."""
    if not queue.exchange:
        return queue
    _check_target((*path, "exchange"), queue, exchanges)
    own = Binding(exchange=queue.exchange, routing_key=queue.routing_key)
    return Queue(
        **{name: getattr(queue, name) for name in queue.__dataclass_fields__} | {"bindings": (own, *queue.bindings)}
    )


def _check_target(path: Path, queue: Queue, exchanges: Mapping[str, Exchange]) -> None:
    kind = _type_of(path, queue.exchange, exchanges)
    if kind == "headers":
        raise refuse(
            path,
            f": {queue.exchange!r} is a headers exchange, and tasks carry no headers of yours.",
            "Name it under 'bindings': then tasks of this project go straight to the queue, and others through it.",
        )
    if kind == "topic" and any(word in _WILDCARDS for word in queue.routing_key.split(".")):
        raise refuse(
            (*path[:-1], "routing_key"),
            f"={queue.routing_key!r} is a pattern, and tasks are published with it.",
            "Write the key of this project's own tasks, and patterns under 'bindings'.",
        )


def _check_binding(path: Path, binding: Binding, exchanges: Mapping[str, Exchange]) -> None:
    kind = _type_of((*path, "exchange"), binding.exchange, exchanges)
    if kind != "headers":
        if binding.arguments:
            raise refuse(
                (*path, "arguments"), f": a {kind} exchange does not look at them.", "Headers exchanges compare them."
            )
        return
    if binding.arguments.get("x-match", "all") not in ("all", "any", "all-with-x", "any-with-x"):
        raise refuse((*path, "arguments", "x-match"), " cannot be this.", "Write 'all' or 'any'.")


def _type_of(path: Path, name: str, exchanges: Mapping[str, Exchange]) -> str:
    configured = exchanges.get(name)
    if configured is not None:
        return configured.type
    kind = PREDEFINED.get(name)
    if kind is None:
        raise refuse(
            path,
            f": there is no exchange {name!r}{nearest(name, [*exchanges, *PREDEFINED]) or '.'}",
            "Say under 'exchanges' of what type it is; with 'declare': False if somebody else makes it.",
        )
    return kind


def _check_twice(path: Path, given: Mapping[str, Any]) -> None:
    most = given.get("arguments", {}).get("x-max-priority")
    if most is not None and given.get("max_priority", most) != most:
        raise refuse((*path, "max_priority"), f" contradicts 'x-max-priority', which is {most}.", "Write one of them.")


def _check_sense(path: Path, queue: Queue, given: Mapping[str, Any]) -> None:
    """Settings that contradict each other, which RabbitMQ says only when the queue is declared, or never."""
    if queue.is_quorum:
        _check_quorum(path, queue)
    else:
        for name in _QUORUM_ONLY:
            if name in queue.arguments:
                raise refuse((*path, "arguments", name), " is for quorum queues.", "Add 'x-queue-type': 'quorum'.")
    if not queue.durable and given.get("persistent"):
        raise refuse(
            (*path, "persistent"),
            ": the queue is not durable, and messages are gone with it when the broker restarts.",
            "Make it durable, or leave 'persistent' out.",
        )


def _check_quorum(path: Path, queue: Queue) -> None:
    for name, why in _NOT_QUORUM.items():
        if name in queue.arguments:
            where = (*path, "max_priority") if name == "x-max-priority" else (*path, "arguments", name)
            raise refuse(where, f": {why}.", "Leave it out, or use 'x-queue-type': 'classic'.")
    for wrong, name, what in (
        (not queue.durable, "durable", "durable"),
        (queue.auto_delete, "auto_delete", "permanent"),
    ):
        if wrong:
            raise refuse((*path, name), f": quorum queues are always {what}.", "Leave it out, or use a classic queue.")
    if queue.arguments.get("x-overflow") == "reject-publish-dlx":
        raise refuse((*path, "arguments", "x-overflow"), ": quorum queues cannot do that.", "Use 'reject-publish'.")
    if (
        queue.arguments.get("x-dead-letter-strategy") == "at-least-once"
        and queue.arguments.get("x-overflow") != "reject-publish"
    ):
        raise refuse(
            (*path, "arguments", "x-dead-letter-strategy"),
            "='at-least-once' needs 'x-overflow': 'reject-publish'.",
            "RabbitMQ falls back to at-most-once without it.",
        )


def _check_dead_letters(path: Path, queue: Queue, exchanges: Mapping[str, Exchange]) -> None:
    exchange = queue.arguments.get("x-dead-letter-exchange")
    if exchange:
        # RabbitMQ drops a dead letter silently where this is missing.
        _type_of((*path, "arguments", "x-dead-letter-exchange"), exchange, exchanges)
    if exchange is None and "x-dead-letter-routing-key" in queue.arguments:
        raise refuse(
            (*path, "arguments", "x-dead-letter-routing-key"),
            " has no effect without 'x-dead-letter-exchange'.",
            "Add it; '' is the default exchange, whose routing keys are names of queues.",
        )


def _check_broadcast(path: Path, name: str, given: Mapping[str, Any]) -> None:
    for other in ("exchange", "routing_key", "bindings", "durable", "auto_delete", "max_priority", "declare"):
        if other in given:
            raise refuse(
                (*path, other),
                " cannot be said of a broadcast queue: each worker process has one of its own.",
                "Leave it out.",
            )
    for other in ("x-queue-type", "x-max-priority"):
        if other in given.get("arguments", {}):
            raise refuse((*path, "arguments", other), " cannot be said of a broadcast queue.", "Leave it out.")
    if len(name.encode()) + _BROADCAST_SUFFIX > MAX_NAME:
        raise refuse(
            path, ": the name is too long for a broadcast queue.", f"At most {MAX_NAME - _BROADCAST_SUFFIX} bytes."
        )


def _all_exchanges(topology: Topology) -> dict[str, Exchange]:
    """Configured, predefined and of broadcasts, as far as queues use them or the settings name them."""
    found = dict(topology.exchanges)
    used = [binding.exchange for queue in topology.queues.values() for binding in queue.bindings]
    for name in [*used, *([topology.default.exchange] if topology.default.exchange else [])]:
        if name not in found:
            found[name] = Exchange(name=name, type=PREDEFINED[name], declare=False)  # type: ignore[arg-type]  # a known one
    for name, queue in topology.queues.items():
        if queue.broadcast:
            found.setdefault(name, broadcast_exchange(name))
    return found


def _unroutable(name: str, exchange: Exchange, topology: Topology, transport: Transport) -> OptionsError:
    queue = topology.queues.get(name)
    can = f"{transport.name} can route by: {', '.join(transport.exchange_types)}."
    if queue is not None and queue.broadcast:
        return refuse(
            ("queues", name, "broadcast"), f": the broker {transport.name}:// gives a task to one worker only.", can
        )
    return refuse(
        ("exchanges", name, "type"), f"={exchange.type!r} is not possible with the broker {transport.name}://.", can
    )
