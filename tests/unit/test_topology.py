"""Exchanges and queues: what settings may say, what they mean, and what a channel is asked for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from amqp.exceptions import ConnectionForced, NotFound, PreconditionFailed
from kombu.connection import Connection

from django_taskq.brokers.topology import TopologyError, broadcast_queue, declare, declare_all
from django_taskq.conf import BackendOptions, OptionsError
from django_taskq.core.topology import Binding, Exchange, Queue, Topology, unfit

QUORUM = {"x-queue-type": "quorum"}


def topology(broker: str = "amqp://host", **options: Any) -> Topology:
    return BackendOptions.parse({"broker": broker, **options}).topology


# ---- what settings mean ------------------------------------------------------------------------------------


def test_a_queue_that_nobody_configured_is_durable_and_gets_its_tasks_directly() -> None:
    plain = topology()
    assert plain.queue("mail") == Queue(name="mail", routing_key="mail")
    assert plain.target("mail") == ("", "mail")
    assert plain.queue("mail").durable
    assert plain.queue_names == ()
    assert not plain.is_broadcast("mail")
    assert plain.is_persistent("mail")


def test_defaults_hold_for_every_queue_that_says_nothing_else() -> None:
    given = topology(
        queue_defaults={"arguments": {**QUORUM, "x-delivery-limit": 5}, "persistent": False},
        queues={
            "mail": {"arguments": {"x-delivery-limit": 9}, "persistent": True},
            "fast": {"arguments": {"x-queue-type": "classic", "x-delivery-limit": None}, "max_priority": 5},
        },
    )
    assert given.queue("other").arguments == {"x-queue-type": "quorum", "x-delivery-limit": 5}
    assert given.queue("mail").arguments == {"x-queue-type": "quorum", "x-delivery-limit": 9}
    assert given.queue("fast").arguments == {"x-queue-type": "classic", "x-max-priority": 5}
    assert [given.is_persistent(name) for name in ("other", "mail", "fast")] == [False, True, False]
    assert given.queue_names == ("mail", "fast")


def test_the_alias_says_whether_messages_are_persistent_where_no_queue_does() -> None:
    given = topology(persistent=False, queues={"mail": {"persistent": True}})
    assert given.is_persistent("mail")
    assert not given.is_persistent("other")


def test_a_queue_s_exchange_gets_the_tasks_and_brings_them() -> None:
    given = topology(
        exchanges={"shop": {"type": "topic"}},
        queues={
            "mail": {
                "exchange": "shop",
                "routing_key": "mail.send",
                "bindings": [{"exchange": "shop", "routing_key": "mail.#"}],
            },
            "sms": {"exchange": "shop"},
        },
    )
    assert given.target("mail") == ("shop", "mail.send")
    assert given.target("sms") == ("shop", "sms")
    assert given.queue("mail").bindings == (
        Binding(exchange="shop", routing_key="mail.send"),
        Binding(exchange="shop", routing_key="mail.#"),
    )
    assert given.exchange("shop") == Exchange(name="shop", type="topic")


def test_bindings_alone_leave_the_way_of_our_own_tasks_as_it_is() -> None:
    given = topology(
        exchanges={"events": {"type": "headers"}},
        queues={"mail": {"bindings": [{"exchange": "events", "arguments": {"kind": "mail", "x-match": "any"}}]}},
    )
    assert given.target("mail") == ("", "mail")
    assert [binding.exchange for binding in given.queue("mail").bindings] == ["events"]


def test_an_exchange_for_all_queues() -> None:
    given = topology(exchanges={"tasks": {}}, queue_defaults={"exchange": "tasks"}, queues={"slow": {"exchange": ""}})
    assert given.target("mail") == ("tasks", "mail")
    assert given.queue("mail").bindings == (Binding(exchange="tasks", routing_key="mail"),)
    assert given.target("slow") == ("", "slow")


def test_exchanges_of_the_broker_need_no_configuration() -> None:
    given = topology(queues={"mail": {"exchange": "amq.topic", "bindings": [{"exchange": "amq.match"}]}})
    assert given.target("mail") == ("amq.topic", "mail")
    assert given.exchange("amq.topic") is None


def test_a_broadcast_has_an_exchange_of_its_name() -> None:
    given = topology(queues={"news": {"broadcast": True, "arguments": {"x-max-length": 5}}})
    assert given.is_broadcast("news")
    assert given.target("news") == ("news", "")


def test_equal_settings_make_equal_topologies_that_can_be_keys() -> None:
    settings: dict[str, Any] = {
        "exchanges": {"shop": None},
        "queues": {"mail": {"exchange": "shop"}, "b": {"arguments": QUORUM}},
    }
    assert topology(**settings) == topology(**settings)
    assert len({topology(**settings), topology(**settings), topology()}) == 2


# ---- what settings cannot say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exchanges": []}, "OPTIONS['exchanges'] must be a dict, not list"),
        ({"exchanges": {7: {}}}, "OPTIONS['exchanges'] has the key 7"),
        ({"exchanges": {"": {}}}, "OPTIONS['exchanges'][''] must be text"),
        ({"exchanges": {"shop": "topic"}}, "OPTIONS['exchanges']['shop'] must be a dict, not str"),
        ({"exchanges": {"shop": {"typ": "topic"}}}, "has no key 'typ'; did you mean 'type'?"),
        ({"exchanges": {"shop": {"type": "topc"}}}, "['shop']['type']='topc' is not a type of exchange; did you mean 'topic'"),
        ({"exchanges": {"shop": {"type": None}}}, "['shop']['type']=None is not a type"),
        ({"exchanges": {"shop": {"durable": 1}}}, "OPTIONS['exchanges']['shop']['durable'] must be True or False"),
        ({"exchanges": {"shop": {"arguments": {"a": float("nan")}}}}, "['shop']['arguments']['a'] is nan"),
        ({"exchanges": {"shop": {"arguments": {"a": [1, {"b": 2**63}]}}}}, "['a'][1]['b'] is 9223372036854775808"),
        ({"exchanges": {"shop": {"arguments": {"a": object()}}}}, "['arguments']['a'] is a object"),
        ({"exchanges": {"ä" * 128: {}}}, "has 256 bytes, and AMQP allows 255"),
        ({"exchanges": {"\ud800": {}}}, "is not valid text"),
        ({"exchanges": {"amq.mine": {}}}, "names that begin with 'amq.' belong to the broker"),
        ({"exchanges": {"amq.topic": {"type": "direct"}}}, "names that begin with 'amq.' belong to the broker"),
        ({"exchanges": {"amq.topic": {"durable": True}}}, "names that begin with 'amq.' belong to the broker"),
        ({"queues": []}, "OPTIONS['queues'] must be a dict, not list"),
        ({"queues": {"mail": True}}, "OPTIONS['queues']['mail'] must be a dict, not bool"),
        ({"queues": {"x" * 129: {}}}, "longer than 128 characters"),
        ({"queues": {"😀" * 64: {}}}, "has 256 bytes, and AMQP allows 255"),
        ({"queues": {"amq.mine": {}}}, "names that begin with 'amq.' belong to the broker"),
        ({"queues": {"mail": {"max_prority": 5}}}, "has no key 'max_prority'; did you mean 'max_priority'?"),
        ({"queues": {"mail": {"exclusive": True}}}, "['exclusive']: an exclusive queue has one connection"),
        ({"queues": {"mail": {"max_priority": 0}}}, "['max_priority'] must be a whole number from 1 to 255, not 0"),
        ({"queues": {"mail": {"max_priority": 256}}}, "['max_priority'] must be a whole number from 1 to 255"),
        ({"queues": {"mail": {"max_priority": True}}}, "['max_priority'] must be a whole number from 1 to 255"),
        ({"queues": {"mail": {"arguments": {"x-max-priority": 300}}}}, "['x-max-priority'] must be a whole number from 1"),
        ({"queues": {"mail": {"max_priority": 3, "arguments": {"x-max-priority": 5}}}}, "contradicts 'x-max-priority'"),
        ({"queues": {"mail": {"arguments": {"x-message-ttl": "1h"}}}}, "['x-message-ttl'] must be a whole number from 0"),
        ({"queues": {"mail": {"arguments": {"x-message-ttl": 1.5}}}}, "['x-message-ttl'] must be a whole number"),
        ({"queues": {"mail": {"arguments": {"x-expires": 0}}}}, "['x-expires'] must be a whole number from 1"),
        ({"queues": {"mail": {"arguments": {"x-max-lenght": 5}}}}, "['x-max-lenght'] is no argument; did you mean 'x-max-length'"),
        ({"queues": {"mail": {"arguments": {"x-overflow": "drop-tail"}}}}, "['x-overflow']='drop-tail' cannot be; did you mean 'drop-head'"),
        ({"queues": {"mail": {"arguments": {"x-queue-type": "stream"}}}}, "a stream keeps what was consumed"),
        ({"queues": {"mail": {"arguments": {"x-queue-type": "quorom"}}}}, "['x-queue-type']='quorom' cannot be; did you mean 'quorum'"),
        ({"queues": {"mail": {"arguments": {"x-single-active-consumer": "yes"}}}}, "must be True or False"),
        ({"queues": {"mail": {"arguments": {"x" * 256: 1}}}}, "has 256 bytes"),
        ({"queues": {"mail": {"routing_key": "k"}}}, "OPTIONS['queues']['mail']['routing_key'] needs an 'exchange'"),
        ({"queues": {"mail": {"exchange": "shop"}}}, "['exchange']: there is no exchange 'shop'."),
        ({"exchanges": {"shop": {}}, "queues": {"mail": {"exchange": "shpo"}}}, "no exchange 'shpo'; did you mean 'shop'?"),
        ({"exchanges": {"shop": {}}, "queues": {"mail": {"exchange": "shop", "routing_key": "k" * 256}}}, "has 256 bytes"),
        ({"queues": {"mail": {"bindings": {}}}}, "['bindings'] must be a list, not dict"),
        ({"queues": {"mail": {"bindings": ["shop"]}}}, "['bindings'][0] must be a dict, not str"),
        ({"queues": {"mail": {"bindings": [{}]}}}, "OPTIONS['queues']['mail']['bindings'][0] names no exchange"),
        ({"queues": {"mail": {"bindings": [{"exchange": "shop"}]}}}, "['bindings'][0]['exchange']: there is no exchange"),
        ({"queues": {"mail": {"bindings": [{"exchange": ""}]}}}, "['bindings'][0]['exchange'] must be text"),
        (
            {"queues": {"mail": {"bindings": [{"exchange": "amq.topic"}, {"exchange": "amq.topic", "routing_key": "é" * 128}]}}},
            "['bindings'][1]['routing_key'] has 256 bytes",
        ),
        ({"queues": {"mail": {"bindings": [{"exchange": "amq.topic", "arguments": {"a": 1}}]}}}, "a topic exchange does not look"),
        (
            {"queues": {"mail": {"bindings": [{"exchange": "amq.headers", "arguments": {"x-match": "some"}}]}}},
            "['bindings'][0]['arguments']['x-match'] cannot be this",
        ),
        ({"queues": {"mail": {"exchange": "amq.headers"}}}, "is a headers exchange, and tasks carry no headers of yours"),
        ({"queues": {"mail": {"exchange": "amq.topic", "routing_key": "mail.#"}}}, "['routing_key']='mail.#' is a pattern"),
        ({"queues": {"mail": {"durable": False, "persistent": True}}}, "['persistent']: the queue is not durable"),
        ({"queues": {"mail": {"arguments": QUORUM, "max_priority": 5}}}, "['max_priority']: quorum queues have no such"),
        ({"queues": {"mail": {"arguments": QUORUM, "durable": False}}}, "['durable']: quorum queues are always durable"),
        ({"queues": {"mail": {"arguments": QUORUM, "auto_delete": True}}}, "['auto_delete']: quorum queues are always"),
        ({"queues": {"mail": {"arguments": {**QUORUM, "x-queue-mode": "lazy"}}}}, "['x-queue-mode']: quorum queues have no modes"),
        ({"queues": {"mail": {"arguments": {**QUORUM, "x-overflow": "reject-publish-dlx"}}}}, "quorum queues cannot do that"),
        ({"queues": {"mail": {"arguments": {"x-delivery-limit": 5}}}}, "['x-delivery-limit'] is for quorum queues"),
        (
            {"queues": {"mail": {"arguments": {**QUORUM, "x-dead-letter-strategy": "at-least-once"}}}},
            "='at-least-once' needs 'x-overflow'",
        ),
        ({"queue_defaults": {"arguments": QUORUM}, "queues": {"mail": {"max_priority": 5}}}, "OPTIONS['queues']['mail']['max_priority']"),
        ({"queue_defaults": {"arguments": QUORUM, "max_priority": 5}}, "OPTIONS['queue_defaults']['max_priority']: quorum"),
        ({"queue_defaults": {"exchange": "tasks"}}, "OPTIONS['queue_defaults']['exchange']: there is no exchange 'tasks'"),
        ({"queue_defaults": {"bindings": []}}, "OPTIONS['queue_defaults']['bindings'] cannot be the same for all queues"),
        ({"queue_defaults": {"durble": True}}, "OPTIONS['queue_defaults'] has no key 'durble'; did you mean 'durable'?"),
        (
            {"queues": {"mail": {"arguments": {"x-dead-letter-exchange": "dead"}}}},
            "['arguments']['x-dead-letter-exchange']: there is no exchange 'dead'",
        ),
        ({"queues": {"mail": {"arguments": {"x-dead-letter-routing-key": "dead"}}}}, "has no effect without"),
        ({"queue_defaults": {"arguments": {"x-dead-letter-exchange": "d"}}}, "OPTIONS['queue_defaults']['arguments']['x-dead-letter"),
        ({"queue_defaults": {"max_priority": 2, "arguments": {"x-max-priority": 3}}}, "['queue_defaults']['max_priority'] contradicts"),
        ({"queues": {"news": {"broadcast": "yes"}}}, "['broadcast'] must be True or False"),
        ({"queues": {"news": {"broadcast": True, "bindings": []}}}, "['bindings'] cannot be said of a broadcast queue"),
        ({"queues": {"news": {"broadcast": True, "exchange": "amq.fanout"}}}, "['exchange'] cannot be said of a broadcast"),
        ({"queues": {"news": {"broadcast": True, "durable": True}}}, "['durable'] cannot be said of a broadcast queue"),
        ({"queues": {"news": {"broadcast": True, "arguments": QUORUM}}}, "['x-queue-type'] cannot be said of a broadcast"),
        ({"queues": {"ä" * 110: {"broadcast": True}}}, "too long for a broadcast queue"),
        ({"exchanges": {"news": {}}, "queues": {"news": {"broadcast": True}}}, "the exchange 'news' is of type 'direct'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_place(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError) as refusal:
        topology(**options)
    assert said in str(refusal.value)
    assert refusal.value.key in options
    assert refusal.value.message.startswith(f"OPTIONS[{refusal.value.key!r}]")
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("broker", "options", "said"),
    [
        ("redis://h", {"exchanges": {"e": {"type": "headers"}}}, "['e']['type']='headers' is not possible with the broker redis"),
        ("memory://", {"queues": {"q": {"bindings": [{"exchange": "amq.match"}]}}}, "['amq.match']['type']='headers'"),
        ("sqs://", {"exchanges": {"e": {"type": "topic"}}}, "sqs can route by: direct"),
        ("sqs://", {"queues": {"q": {"broadcast": True}}}, "OPTIONS['queues']['q']['broadcast']: the broker sqs:// gives"),
        ("azureservicebus://k@n", {"queues": {"q": {"broadcast": True}}}, "the broker azureservicebus:// gives a task to one"),
        ("database://", {"queues": {"q": {"broadcast": True}}}, "['broadcast']: the broker database:// gives a task to one"),
    ],
)  # fmt: skip
def test_what_a_transport_cannot_do_is_refused(broker: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError) as refusal:
        topology(broker, **options)
    assert said in str(refusal.value)


def test_settings_for_another_broker_may_stay_with_the_embedded_one() -> None:
    given = topology("database://", exchanges={"e": {"type": "headers"}}, queues={"mail": {"max_priority": 5}})
    assert given.queue_names == ("mail",)


@pytest.mark.parametrize(
    ("name", "why"),
    [("mail", ""), ("ä" * 127, ""), ("ä" * 128, "more than 255 bytes"), ("amq.mail", "belong to the broker")],
)
def test_names_that_no_broker_can_have(name: str, why: str) -> None:
    found = unfit(name)
    assert why in found
    assert bool(found) == bool(why)


# ---- priorities --------------------------------------------------------------------------------------------

ALL = range(-100, 101)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9, 10, 100, 200, 255])
def test_rabbitmq_gets_0_to_max_priority_in_our_order(most: int) -> None:
    given = topology(queues={"mail": {"max_priority": most}})
    found = [given.priority("mail", priority, "amqp") for priority in ALL]
    assert all(value is not None for value in found)
    assert found == sorted(found, key=int)  # type: ignore[arg-type]  # none is None
    assert (found[0], found[100], found[-1]) == (0, most // 2, most)
    assert given.priority("other", 5, "amqp") is None


def test_redis_serves_zero_first() -> None:
    found = [topology("redis://h").priority("mail", priority, "redis") for priority in ALL]
    assert found == sorted(found, key=int, reverse=True)  # type: ignore[arg-type]  # none is None
    assert (found[0], found[100], found[-1]) == (9, 4, 0)
    assert set(found) == set(range(10))


def test_mongodb_serves_nine_first() -> None:
    found = [topology("mongodb://h").priority("mail", priority, "mongodb") for priority in ALL]
    assert (found[0], found[100], found[-1]) == (0, 4, 9)


@pytest.mark.parametrize("transport", ["sqs", "memory", "azureservicebus", "gcpubsub", "database"])
def test_where_there_are_no_priorities_messages_carry_none(transport: str) -> None:
    assert {topology().priority("mail", priority, transport) for priority in ALL} == {None}


def test_quorum_queues_have_two_levels() -> None:
    given = topology(queue_defaults={"arguments": QUORUM})
    assert {given.priority("mail", priority, "amqp") for priority in range(-100, 1)} == {None}
    assert {given.priority("mail", priority, "amqp") for priority in range(1, 101)} == {5}


# ---- what a channel is asked for ---------------------------------------------------------------------------


class RecordingChannel:
    """Answers everything, and knows in which order it was asked; fails for what it is told to."""

    def __init__(self, **errors: Exception) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.errors = errors

    def __getattr__(self, name: str) -> Any:
        def ask(**arguments: Any) -> None:
            self.asked.append((name, arguments))
            if name in self.errors:
                raise self.errors[name]

        return ask

    @property
    def names(self) -> list[str]:
        return [str(arguments.get("queue") or arguments.get("exchange")) for _, arguments in self.asked]


def test_a_plain_queue_is_one_request() -> None:
    channel = RecordingChannel()
    declare(topology(queue_defaults={"arguments": QUORUM}), channel, "mail")
    expected = {"queue": "mail", "durable": True, "exclusive": False, "auto_delete": False, "arguments": QUORUM}
    assert channel.asked == [("queue_declare", expected)]


def test_exchanges_come_before_queues_and_bindings_last() -> None:
    channel = RecordingChannel()
    given = topology(
        exchanges={"shop": {"type": "topic", "durable": False}, "unused": {}},
        queues={"mail": {"exchange": "shop", "bindings": [{"exchange": "amq.topic", "routing_key": "m.*"}]}},
    )
    declare(given, channel, "mail")
    assert [name for name, _ in channel.asked] == ["exchange_declare", "queue_declare", "queue_bind", "queue_bind"]
    assert channel.asked[0][1] == {
        "exchange": "shop", "type": "topic", "durable": False, "auto_delete": False, "arguments": {},
    }  # fmt: skip
    assert channel.asked[3][1] == {"queue": "mail", "exchange": "amq.topic", "routing_key": "m.*", "arguments": {}}
    declare_all(given, channel)
    assert "unused" in channel.names


def test_dead_letters_have_a_place_before_there_can_be_one() -> None:
    channel = RecordingChannel()
    dead = {"x-dead-letter-exchange": "dead"}
    given = topology(
        exchanges={"dead": {"type": "fanout"}},
        queues={
            "mail": {"arguments": dead},
            "mail.dead": {"exchange": "dead", "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "mail"}},
        },
    )  # fmt: skip
    declare(given, channel, "mail")
    assert channel.names == ["dead", "dead", "mail.dead", "mail.dead", "mail"]


def test_what_somebody_else_makes_is_left_to_them() -> None:
    channel = RecordingChannel()
    given = topology(
        exchanges={"theirs": {"declare": False}},
        queues={"mail": {"exchange": "theirs"}, "fixed": {"declare": False, "bindings": [{"exchange": "amq.topic"}]}},
    )
    declare(given, channel, "fixed")
    assert channel.asked == []
    declare(given, channel, "mail")
    assert channel.names == ["mail", "mail"]


def test_a_broadcast_is_an_exchange_for_those_who_publish_and_a_queue_for_each_who_consumes() -> None:
    given = topology(queues={"news": {"broadcast": True, "arguments": {"x-max-length": 5}}})
    channel = RecordingChannel()
    declare(given, channel, "news")
    assert [(name, arguments["type"]) for name, arguments in channel.asked] == [("exchange_declare", "fanout")]
    names = {broadcast_queue(given, channel, "news") for _ in range(3)}
    assert len(names) == 3
    assert all(UUID(name.removeprefix("news.")) for name in names)
    (_, made), (_, bound) = channel.asked[-2:]
    assert made["exclusive"]
    assert made["auto_delete"]
    assert made["arguments"]["x-max-length"] == 5
    assert made["arguments"]["x-expires"] > 0
    assert (bound["queue"], bound["exchange"]) == (made["queue"], "news")


def test_a_queue_that_differs_is_named_with_what_to_do() -> None:
    channel = RecordingChannel(queue_declare=PreconditionFailed("inequivalent arg 'durable'", (50, 10)))
    with pytest.raises(TopologyError, match=r"The queue 'mail' .*inequivalent arg 'durable'.*delete it") as said:
        declare(topology(), channel, "mail")
    assert isinstance(said.value.__cause__, PreconditionFailed)


def test_an_exchange_that_is_missing_is_named_with_what_to_do() -> None:
    channel = RecordingChannel(queue_bind=NotFound("no exchange 'theirs'", (50, 20)))
    given = topology(exchanges={"theirs": {"declare": False}}, queues={"mail": {"exchange": "theirs"}})
    with pytest.raises(TopologyError, match=r"binding of the queue 'mail' to the exchange 'theirs'.*has to make it"):
        declare(given, channel, "mail")


@pytest.mark.parametrize("error", [ConnectionForced("CONNECTION_FORCED"), OSError("gone")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)):
        declare(topology(), RecordingChannel(queue_declare=error), "mail")


def test_a_virtual_transport_routes_as_it_is_told() -> None:
    given = topology(
        "memory://",
        exchanges={"shop": {"type": "topic", "declare": False}},
        queues={
            "t.mail": {"exchange": "shop", "bindings": [{"exchange": "shop", "routing_key": "mail.#"}]},
            "t.news": {"broadcast": True},
        },
    )
    with Connection("memory://") as connection:
        channel = connection.default_channel
        for _ in range(2):
            declare_all(given, channel)
        declare(given, channel, "t.plain")
        mine, yours = (broadcast_queue(given, channel, "t.news") for _ in range(2))
        producer = connection.Producer()
        for exchange, key in (
            given.target("t.mail"),
            ("shop", "mail.x.y"),
            given.target("t.news"),
            given.target("t.plain"),
        ):
            producer.publish({}, exchange=exchange, routing_key=key)
        sizes = {name: channel.queue_declare(queue=name).message_count for name in ("t.mail", mine, yours, "t.plain")}
        assert sizes == {"t.mail": 2, mine: 1, yours: 1, "t.plain": 1}


def test_a_virtual_exchange_of_another_type_is_named() -> None:
    with Connection("memory://") as connection:
        channel = connection.default_channel
        queues = {"t.q": {"exchange": "t.e"}}
        declare(topology("memory://", exchanges={"t.e": {"type": "topic"}}, queues=queues), channel, "t.q")
        with pytest.raises(TopologyError, match=r"The exchange 't\.e' cannot be declared"):
            declare(topology("memory://", exchanges={"t.e": {"type": "direct"}}, queues=queues), channel, "t.q")
