"""OPTIONS, parsed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls

from django_taskq.broker_url import SCHEMES, TRANSPORTS
from django_taskq.conf import BackendOptions, OptionsError, taskq_aliases, tuned_databases
from django_taskq.core.topology import Topology

if TYPE_CHECKING:
    from pytest_django import Settings

OURS = "django_taskq.TaskqBackend"


def test_nothing_has_to_be_given() -> None:
    options = BackendOptions.parse({})
    assert options == BackendOptions()
    assert (options.broker, options.results) == ("database://", "database://")
    assert (options.result_ttl, options.failure_ttl) == (7 * 86400, 30 * 86400)
    assert (options.lease, options.poll_interval) == (30, 1)
    assert options.tune_sqlite
    assert options.database_alias == ""
    assert not options.is_kombu
    assert (options.confirm, options.persistent, options.prefetch, options.heartbeat) == (True, True, None, 10)
    assert options.topology == Topology()
    assert options.topology is options.topology
    assert options.routes == ()
    assert options.stores_results
    assert options.store_errors
    assert options.result_sweep == 86400


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("broker", "database://", "database://"),
        ("broker", "database://default", "database://default"),
        ("broker", "amqp://a;amqps://b:5671//", "amqp://a;amqps://b:5671//"),
        ("broker", ["amqp://a", "pyamqp://b"], "amqp://a;pyamqp://b"),
        ("broker", "amqp://a ; amqp://b", "amqp://a;amqp://b"),
        ("broker", "amqp://user:p%40%2F%3B%23@[::1]:5672/vhost", "amqp://user:p%40%2F%3B%23@[::1]:5672/vhost"),
        ("broker", "sentinel://a:26379;sentinel://b:26379", "sentinel://a:26379;sentinel://b:26379"),
        ("broker", "redis+socket:///run/redis.sock?virtual_host=1", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("broker", "sqs://key:secret%2F@", "sqs://key:secret%2F@"),
        ("broker", "azureservicebus://policy:a/key=@space", "azureservicebus://policy:a/key=@space"),
        ("broker", "mongodb://h1:27017,h2:27017/db", "mongodb://h1:27017,h2:27017/db"),
        ("broker", "memory://", "memory://"),
        ("database", "default", "default"),
        ("database", "", ""),
        ("broker_options", {"visibility_timeout": 60}, {"visibility_timeout": 60}),
        ("confirm", False, False),
        ("persistent", False, False),
        ("prefetch", None, None),
        ("prefetch", 1, 1),
        ("heartbeat", 0, 0.0),
        ("heartbeat", timedelta(seconds=30), 30.0),
        ("routes", {"shop.*": "mail"}, (("shop.*", "mail"),)),
        ("results", "disabled://", "disabled://"),
        ("results", "disabled", "disabled://"),
        ("results", "redis://:p%40@host:6379/1", "redis://:p%40@host:6379/1"),
        ("results", "sentinel://a:26379;sentinel://b:26379", "sentinel://a:26379;sentinel://b:26379"),
        ("result_options", {"socket_timeout": 2}, {"socket_timeout": 2}),
        ("result_stores", {"vault": "shop.results.VaultStore"}, {"vault": "shop.results.VaultStore"}),
        ("store_result", False, False),
        ("store_errors", False, False),
        ("result_sweep", timedelta(hours=1), 3600.0),
        ("result_sweep", None, None),
        ("imports", ["shop.jobs"], ("shop.jobs",)),
        ("imports", (), ()),
        ("result_ttl", None, None),
        ("result_ttl", 60, 60.0),
        ("failure_ttl", timedelta(days=1), 86400.0),
        ("failure_ttl", None, None),
        ("lease", 3, 3.0),
        ("lease", timedelta(minutes=1), 60.0),
        ("poll_interval", 0.05, 0.05),
        ("tune_sqlite", False, False),
    ],
)
def test_values_are_brought_into_one_form(key: str, given: Any, expected: Any) -> None:
    assert getattr(BackendOptions.parse({key: given}), key) == expected


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("broker", "", "not a URL"),
        ("broker", None, "not a URL"),
        ("broker", "database", "not a URL"),
        ("broker", 7, "not a URL"),
        ("broker", [], "not a URL"),
        ("broker", [7], "not a URL"),
        ("broker", ["amqp://user:secret@host", ""], "one of 2 URLs is not a URL"),
        ("broker", "amqp://user:12;secret@host", "one of 2 URLs is not a URL"),
        ("broker", "ampq://user:secret@host", "'ampq' is not supported; did you mean 'amqp'?"),
        ("broker", "amqp://host;redis://host", "servers of different kinds: amqp, redis"),
        ("broker", "database://default;database://", "more than one database"),
        ("broker", "filesystem://user:secret@host", "'filesystem' is not supported: it loses messages"),
        *(
            ("broker", f"{scheme}://user:secret@host/db", f"'{scheme}' is not supported: it loses messages")
            for scheme in ("sqla", "sqla+postgresql", "sqlalchemy+sqlite", "db+mysql", "sqlalchemy", "django")
        ),
        *(
            ("broker", f"{scheme}://host", f"'{scheme}' is not supported")
            for scheme in ("kafka", "confluentkafka", "pyro", "zookeeper", "etcd", "librabbitmq", "pgmq", "http")
        ),
        # Characters that end a part of a URL, unencoded in a password: the rest of it looks like a port or a path.
        ("broker", "amqp://user:12/secret@host", "in a place where it means something"),
        ("broker", "amqp://user:12?secret@host", "in a place where it means something"),
        ("broker", "amqp://user:12#secret@host", "in a place where it means something"),
        ("broker", "amqp://user:a/secret@host", "a host or port that cannot be"),
        ("broker", "amqp://user:[secret@host", "a host or port that cannot be"),
        ("broker", "redis://:secret@host:99999", "a host or port that cannot be"),
        ("broker", "redis://:secret@host:0", "the port 0"),
        ("broker", "redis://:se cret@host", "a space or a control character"),
        ("database", "defautl", "did you mean 'default'?"),
        ("database", None, "must be text"),
        ("broker_options", None, "must be a dict"),
        ("broker_options", {7: 1}, "not text"),
        ("broker_options", {"confirm_publish": True}, "is said elsewhere. Write OPTIONS['confirm']"),
        ("confirm", 1, "True or False"),
        ("persistent", "yes", "True or False"),
        *(("prefetch", value, "whole number from 1 to 65535") for value in (0, -1, True, 1.5, "4", 65536)),
        *(("heartbeat", value, "more than 0 seconds") for value in (-1, None, "10", False, float("nan"))),
        *(("heartbeat", value, "from 1 to 65535 seconds") for value in (0.5, 65536)),
        ("broker", "database://defautl", "did you mean 'default'?"),
        ("results", "database://default", "nothing stands behind database://"),
        (
            "results",
            "rpc://user:secret@host",
            "nothing stands behind rpc://. Write 'rpc://' for the alias's own broker",
        ),
        ("results", "redos://:secret@host", "'redos' is not known; did you mean 'redis'?"),
        ("results", "redis:secret@host", "is not a URL"),
        ("results", "rpc://", "this alias has none"),
        ("results", "amqp", "this alias has none"),
        ("result_options", ["secret"], "must be a dict"),
        ("result_stores", {"vault": object}, "OPTIONS['result_stores']['vault'] must be the path of a class"),
        ("store_result", None, "True or False"),
        ("store_errors", 0, "True or False"),
        ("result_sweep", 0, "more than 0 seconds"),
        ("imports", "shop.jobs", "list of module names"),
        ("imports", [1], "list of module names"),
        ("imports", None, "list of module names"),
        *((key, value, "more than 0 seconds") for key in ("lease", "poll_interval") for value in (0, -1, None, "1")),
        *(("result_ttl", value, "more than 0 seconds") for value in (0, True, float("nan"), float("inf"), "7d")),
        ("failure_ttl", timedelta(0), "more than 0 seconds"),
        ("lease", 1, "at least 3 seconds"),
        ("tune_sqlite", 1, "True or False"),
    ],
)
def test_what_cannot_be_is_refused_and_secrets_stay_unsaid(key: str, given: Any, said: str) -> None:
    with pytest.raises(OptionsError) as refusal:
        BackendOptions.parse({key: given})
    assert refusal.value.key == key
    assert said in str(refusal.value)
    assert f"OPTIONS[{key!r}]" in refusal.value.message
    assert "secret" not in f"{refusal.value} {refusal.value.__cause__}"


@pytest.mark.parametrize(
    ("broker", "transport"),
    [
        ("database://", "database"),
        ("amqp://h", "amqp"),
        ("amqps://h", "amqp"),
        ("pyamqp://h", "amqp"),
        ("redis://h", "redis"),
        ("rediss://h", "redis"),
        ("redis+socket:///s", "redis"),
        ("sentinel://h", "redis"),
        ("sqs://", "sqs"),
        ("memory://", "memory"),
        ("mongodb+srv://h", "mongodb"),
    ],
)
def test_a_transport_has_one_name_whatever_its_url_says(broker: str, transport: str) -> None:
    options = BackendOptions.parse({"broker": broker})
    assert options.transport == transport
    assert options.is_kombu is (transport != "database")


def test_every_scheme_is_known_to_kombu() -> None:
    assert {scheme.partition("+")[0] for scheme in SCHEMES} - {"database"} <= TRANSPORT_ALIASES.keys()


def test_what_a_transport_can_route_by_is_what_kombu_says() -> None:
    for name in ("amqp", "redis"):
        implements = getattr(get_transport_cls(name), "implements")  # noqa: B009  # kombu's type says only "type"
        assert set(TRANSPORTS[name].exchange_types) == set(implements.exchange_type)


@pytest.mark.parametrize(
    ("given", "alias"),
    [
        ({"broker": "amqp://default:secret@host"}, ""),
        ({"broker": "amqp://host", "database": "default"}, "default"),
        ({"broker": "database://default"}, "default"),
        ({"broker": "database://", "database": "default"}, "default"),
        ({"broker": "database://default", "database": "default"}, "default"),
    ],
)
def test_the_database_of_the_rows(given: dict[str, Any], alias: str) -> None:
    assert BackendOptions.parse(given).database_alias == alias


def test_two_databases_contradict_each_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES, "jobs", {})
    with pytest.raises(OptionsError, match=r"OPTIONS\['database'\] is 'jobs', and OPTIONS\['broker'\] says 'default'"):
        BackendOptions.parse({"broker": "database://default", "database": "jobs"})


SECRETS = ["s3cr3t%2F%40word", "s3cr3t%3B%23", "s3cr3t!$&'()*+,=word", "%73%33cr3t"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", ["amqp://ann:{}@host//", "redis://:{}@host/0", "redis://host/0?password={}"])
def test_representations_keep_passwords_to_themselves(form: str, secret: str) -> None:
    options = BackendOptions.parse({"broker": form.format(secret), "broker_options": {"password": unquote(secret)}})
    assert secret in options.broker
    for text in (repr(options), str(options), f"{options.topology!r}"):
        assert secret not in text
        assert unquote(secret) not in text


def test_equal_options_can_be_keys() -> None:
    given = {"broker": "amqp://h", "broker_options": {"a": []}, "queues": {"q": {}}, "routes": {"a": "q"}}
    one, other = BackendOptions.parse(given), BackendOptions.parse(given)
    assert {one: 1}[other] == 1
    assert one != BackendOptions.parse({**given, "broker_options": {}})


def test_what_the_project_changes_later_changes_nothing() -> None:
    transport_options = {"visibility_timeout": 60}
    options = BackendOptions.parse({"broker_options": transport_options})
    transport_options.clear()
    assert options.broker_options == {"visibility_timeout": 60}


@pytest.mark.parametrize(
    ("key", "said"),
    [("lesae", "did you mean 'lease'?"), ("BROKER", "no key 'BROKER'"), ("nothing_like_it", "Known keys: broker")],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, said: str) -> None:
    with pytest.raises(OptionsError, match=f"no key {key!r}") as refusal:
        BackendOptions.parse({key: 1})
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("tasks", "aliases"),
    [
        ({}, []),
        ({"default": {"BACKEND": OURS}}, ["default"]),
        ({"a": {"BACKEND": "django_taskq.backend.TaskqBackend"}, "b": {"BACKEND": "other.Backend"}}, ["a"]),
        ({"a": {"BACKEND": OURS}, "b": {"BACKEND": OURS}, "c": {}}, ["a", "b"]),
    ],
)
def test_our_aliases_are_known_from_the_settings_alone(
    settings: Settings, tasks: dict[str, Any], aliases: list[str]
) -> None:
    settings.TASKS = tasks
    assert list(taskq_aliases()) == aliases


def test_a_project_without_tasks_has_no_aliases(settings: Settings) -> None:
    del settings.TASKS
    assert taskq_aliases() == {}
    assert tuned_databases() == frozenset()


@pytest.mark.parametrize(
    ("options", "databases"),
    [
        (None, {"default"}),
        ({}, {"default"}),
        ({"broker": "database://default"}, {"default"}),
        ({"tune_sqlite": False}, set()),
        ({"lease": -1}, set()),
        ({"broker": "database://unknown"}, set()),
        ({"broker": "amqp://host"}, {"default"}),
        ({"broker": "amqp://host", "database": "default"}, {"default"}),
    ],
)
def test_only_databases_of_ours_are_tuned(
    settings: Settings, options: dict[str, Any] | None, databases: set[str]
) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": options}}
    assert tuned_databases() == databases


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"store_result": False}, False),
        ({"results": "disabled://"}, False),
        ({"results": "disabled://", "store_result": True}, False),
        ({"results": "redis://host"}, True),
    ],
)
def test_whether_values_are_kept_of_tasks_that_do_not_say_it(options: dict[str, Any], expected: bool) -> None:
    assert BackendOptions.parse(options).stores_results is expected
