"""System checks: what each one finds, what its message never shows, and that a healthy project has none."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sqlite3
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.core.checks import CheckMessage, Error, Warning, run_checks  # noqa: A004  # Django's own name

from django_taskq import broker_url, checks
from django_taskq.compat import task_backends
from django_taskq.option_checks import check_options
from django_taskq.result_url import STORE_TYPES, store_type
from tests.memory_store import MEMORY, MemoryStore

OURS = "django_taskq.TaskqBackend"


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


def ours(messages: list[CheckMessage]) -> list[CheckMessage]:
    return [message for message in messages if str(message.id).startswith("django_taskq.")]


# ---- OPTIONS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"broker": "database://", "results": "database://"},
        {"broker": "database://default", "results": "disabled://", "imports": ["shop.jobs"], "tune_sqlite": False},
        {"result_ttl": None, "failure_ttl": 1, "lease": 10, "poll_interval": 0.1},
    ],
)
def test_good_options_have_no_message(options: dict[str, Any]) -> None:
    assert list(check_options("default", options)) == []


@pytest.mark.parametrize(
    ("options", "identity", "text"),
    [
        ({"broke": "database://"}, "E001", "did you mean 'broker'?"),
        ({"RESULT_TTL": 5}, "E001", "OPTIONS has no key 'RESULT_TTL'"),
        ({7: 5}, "E001", "OPTIONS has no key 7"),
        ({"result_ttl": -1}, "E002", "OPTIONS['result_ttl'] must be more than 0 seconds, not -1"),
        ({"failure_ttl": "7d"}, "E002", "OPTIONS['failure_ttl']"),
        ({"lease": 1}, "E002", "OPTIONS['lease'] must be at least 3 seconds"),
        ({"poll_interval": None}, "E002", "OPTIONS['poll_interval']"),
        ({"imports": "shop.jobs"}, "E002", "OPTIONS['imports'] must be a list of module names"),
        ({"tune_sqlite": "no"}, "E002", "OPTIONS['tune_sqlite'] must be True or False"),
        ({"broker": "ampq://host"}, "E003", "the scheme 'ampq' is not supported"),
        ({"broker": "database"}, "E003", "OPTIONS['broker'] is not a URL"),
        ({"broker": None}, "E003", "OPTIONS['broker'] is not a URL"),
        ({"broker": "database://defualt"}, "E003", "did you mean 'default'?"),
        ({"broker": "sqla+postgresql://u:p@h/db"}, "E003", "it loses messages"),
        ({"database": "defualt"}, "E002", "did you mean 'default'?"),
        ({"prefetch": 0}, "E002", "OPTIONS['prefetch'] must be a whole number from 1"),
        ({"heartbeat": -1}, "E002", "OPTIONS['heartbeat'] must be more than 0 seconds"),
        ({"broker_options": []}, "E002", "OPTIONS['broker_options'] must be a dict"),
        ({"exchanges": {"e": {"type": "x"}}}, "E015", "OPTIONS['exchanges']['e']['type']='x' is not a type"),
        ({"queues": {"q": {"max_priority": 0}}}, "E015", "OPTIONS['queues']['q']['max_priority']"),
        ({"queues": {"q": {"exchange": "e"}}}, "E015", "OPTIONS['queues']['q']['exchange']: there is no exchange 'e'"),
        ({"queue_defaults": {"bindings": []}}, "E015", "OPTIONS['queue_defaults']['bindings']"),
        ({"broker": "sqs://", "queues": {"q": {"broadcast": True}}}, "E015", "['broadcast']: the broker sqs://"),
        ({"routes": {"*": 5}}, "E016", "OPTIONS['routes']['*']=5 is not a queue's name"),
        ({"routes": "no_such_module.choose"}, "E016", "'no_such_module.choose' cannot be imported"),
        ({"result_ttl": 0}, "E002", "OPTIONS['result_ttl'] must be more than 0 seconds, not 0"),
        ({"store_result": None}, "E002", "OPTIONS['store_result'] must be True or False"),
        ({"store_errors": 1}, "E002", "OPTIONS['store_errors'] must be True or False"),
        ({"result_sweep": 0}, "E002", "OPTIONS['result_sweep'] must be more than 0 seconds"),
        ({"results": "mongo://host"}, "E004", "the scheme 'mongo' is not known; did you mean 'mongodb'?"),
        ({"results": "database://default"}, "E004", "nothing stands behind database://"),
        ({"results": "rpc://"}, "E004", "rpc:// goes over a message broker, and this alias has none"),
        ({"results": "rpc+database://"}, "E004", "replies need a message broker, not a database"),
        ({"results": "amqp://"}, "E004", "amqp:// goes over a message broker, and this alias has none"),
        ({"results": "amqp://", "broker": "redis://host"}, "E004", "amqp:// needs RabbitMQ"),
        ({"result_stores": {"vault": "VaultStore"}}, "E002", "OPTIONS['result_stores']['vault'] must be the path"),
        ({"result_options": []}, "E002", "OPTIONS['result_options'] must be a dict"),
        (None, "E005", "OPTIONS must be a dict, not NoneType"),
        ([("broker", "database://")], "E005", "OPTIONS must be a dict, not list"),
    ],
)
def test_bad_options_have_a_message_with_a_hint(options: Any, identity: str, text: str) -> None:
    (message,) = check_options("jobs", options)
    assert isinstance(message, Error)
    assert message.id == f"django_taskq.{identity}"
    assert message.msg.startswith("TASKS['jobs']: ")
    assert text in message.msg
    assert message.hint


def test_every_mistake_is_named_not_only_the_first() -> None:
    options = {"broke": 1, "lease": 0, "results": "x", "poll_interval": "often"}
    assert ids(list(check_options("default", options))) == [
        f"django_taskq.{identity}" for identity in ("E001", "E002", "E004", "E002")
    ]


@pytest.mark.parametrize("key", ["broker", "results"])
@pytest.mark.parametrize(
    "url",
    [
        "ampq://ann:secret@host//",
        "redos://:secret@host/0",
        "ann:secret@host",
        "database://ann:secret@host/db",
        "postgres://ann:secret@host/db?password=secret",
        "://ann:secret@host",
        "redis://:9/secret@host/0",
        "amqp://ann:;secret@host",
        "amqp://ann:[secret@host",
        "amqp://host?password=secret;http://ann:secret@host",
    ],
)
def test_passwords_are_never_shown(key: str, url: str) -> None:
    (message,) = check_options("default", {key: url})
    assert "secret" not in f"{message.msg} {message.hint}"


@pytest.mark.parametrize(
    ("broker", "missing", "install"),
    [
        ("redis://:secret@host/0", "redis and packaging", "django-taskq-kombu[redis]"),
        ("sentinel://:secret@host;sentinel://host", "redis and packaging", "django-taskq-kombu[redis]"),
        ("sqs://key:secret@", "boto3 and pycurl and urllib3", "kombu[sqs]"),
        ("mongodb://u:secret@host", "pymongo", "kombu[mongodb]"),
        ("azureservicebus://p:secret@n", "azure.servicebus and isodate", "kombu[azureservicebus]"),
    ],
)
def test_a_client_that_is_not_installed(
    broker: str, missing: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_url, "find_spec", lambda name: None)
    (message,) = check_options("jobs", {"broker": broker})
    assert message.id == "django_taskq.E014"
    assert f"needs {missing}, not installed here" in message.msg
    assert message.hint == f'pip install "{install}".'
    assert "secret" not in f"{message.msg} {message.hint}"


@pytest.mark.parametrize("name", ["no_such_parent.child", "no_such_module", "django.no_such_child"])
def test_what_is_not_installed_is_found_out_without_importing_it(name: str) -> None:
    transport = broker_url.Transport(name="x", schemes=("x",), modules=("json", name))
    assert broker_url.missing_modules(transport) == [name]


def test_rabbitmq_needs_nothing_that_is_not_there_already() -> None:
    assert list(check_options("default", {"broker": "amqp://ann:secret@host//"})) == []


def test_a_broker_in_memory_is_a_warning() -> None:
    (message,) = check_options("default", {"broker": "memory://"})
    assert message.id == "django_taskq.W003"
    assert isinstance(message, Warning)


def test_arguments_that_a_transport_ignores_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_url, "find_spec", lambda name: object())
    options = {
        "broker": "redis://:secret@host",
        "queue_defaults": {"arguments": {"x-queue-type": "quorum"}},
        "queues": {"mail": {"arguments": {"x-message-ttl": 5, "x-expires": 60_000}}},
    }
    (message,) = check_options("default", options)
    assert message.id == "django_taskq.W002"
    assert "redis:// ignores x-queue-type, x-message-ttl." in message.msg
    assert list(check_options("default", {**options, "broker": "amqp://host"})) == []


# ---- results -------------------------------------------------------------------------------------------------

#: A URL of each store whose client is a package of its own, with a password where it can have one.
STORE_URLS = [
    "redis://:hunter22@host/1",
    "rediss://:hunter22@host/1",
    "sentinel://:hunter22@host:26379/1",
    "cache+memcached://host:11211/",
    "s3://key:hunter22@bucket/path",
    "gs://bucket/path?gcs_project=shop",
    "azureblockblob://DefaultEndpointsProtocol=https;AccountName=a;AccountKey=aHVudGVyMjI=",
    "mongodb://ann:hunter22@host/db",
    "cassandra://ann:hunter22@host/keyspace",
    "elasticsearch://ann:hunter22@host:9200/results",
    "couchbase://ann:hunter22@host/bucket",
    "couchdb://ann:hunter22@host:5984/db",
    "arangodb://ann:hunter22@host:8529/db/collection",
    "cosmosdbsql://:hunter22@host",
    "consul://host:8500/",
    "dynamodb://key:hunter22@eu-west-1/table",
    "ironcache://project:hunter22@/cache",
    "celery+redis://:hunter22@host/1",
    "db+postgresql://ann:hunter22@host/db",
]
SECRETS = ("hunter22", "aHVudGVyMjI=")


def shown(message: CheckMessage) -> str:
    text = f"{message.msg} {message.hint}"
    assert not any(secret in text for secret in SECRETS)
    return text


@pytest.mark.parametrize("url", STORE_URLS, ids=lambda url: url.partition("://")[0])
def test_a_store_s_client_that_is_not_installed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_url, "find_spec", lambda name: None)
    (message,) = check_options("jobs", {"results": url})
    assert message.id == "django_taskq.E018"
    assert message.level == Error("").level
    text = shown(message)
    assert re.search(r"TASKS\['jobs'\]: results in [a-z0-9+]+:// need \w", text)
    kind = store_type(url, {})
    assert kind is not None
    assert message.hint == f'pip install "django-taskq-kombu[{kind.extra}]".'


def test_every_store_with_a_client_is_among_these() -> None:
    def scheme(url: str) -> str:
        return url.partition("://")[0]

    assert {kind.path for url in STORE_URLS if (kind := store_type(url, {}))} == {
        *(kind.path for kind in STORE_TYPES if kind.modules),
        "django_taskq.results.stores.celery_store.CeleryStore",
    }
    assert {scheme(url) for url in STORE_URLS} >= {"rediss", "sentinel"}


def test_the_client_of_the_results_own_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_url, "find_spec", lambda name: None if name == "redis" else object())
    (message,) = check_options("jobs", {"results": "rpc+redis://:hunter22@host"})
    assert message.id == "django_taskq.E014"
    assert "results over rpc+redis:// need redis, not installed here" in shown(message)
    assert message.hint == 'pip install "django-taskq-kombu[redis]".'


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"results": "redis://:hunter22@host/one"}, "Redis: db must be a whole number"),
        (
            {"results": "redis://:hunter22@host", "result_options": {"socket_timout": 2}},
            "did you mean 'socket_timeout'?",
        ),
        ({"results": "redis://:hunter22@host", "result_options": {"key_prefix": "a b"}}, "key_prefix must be up to 60"),
        ({"results": "cache://reslts"}, "CACHES has no alias 'reslts'; did you mean 'results'?"),
        ({"results": "cache://"}, "write the alias of a cache"),
        ({"results": "storage://defualt"}, "STORAGES has no alias 'defualt'; did you mean 'default'?"),
        ({"results": "vault://x", "result_stores": {"vault": "no_such.Vault"}}, "no_such.Vault cannot be imported"),
        ({"results": "vault://x", "result_stores": {"vault": "tests.memory_store.Vault"}}, "Vault cannot be imported"),
        (
            {"results": "mem://hunter22", "result_stores": MEMORY, "result_options": {"colour": "red"}},
            "mem:// has no option 'colour'",
        ),
        (
            {"results": "vault://hunter22", "result_stores": {"vault": "tests.unit.test_checks.TalkativeStore"}},
            "vault:// cannot be used (RuntimeError)",
        ),
    ],
)
def test_a_store_that_cannot_be_made(options: dict[str, Any], text: str, settings: Any) -> None:
    settings.CACHES = {"results": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://h"}}
    (message,) = check_options("jobs", options)
    assert message.id == "django_taskq.E019"
    assert isinstance(message, Error)
    assert text in shown(message)
    assert message.msg.startswith("TASKS['jobs']: OPTIONS['results']: ")


class TalkativeStore(MemoryStore):
    """Its client says in errors what it was told."""

    def __init__(self, url: str, options: Any) -> None:
        raise RuntimeError(f"Cannot read {url}")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, []),
        ({"result_ttl": None}, ["result_ttl"]),
        ({"failure_ttl": timedelta(days=50)}, ["failure_ttl"]),
        ({"result_ttl": 4_294_967.295, "failure_ttl": 1}, []),
        ({"result_ttl": 4_294_968, "failure_ttl": None}, ["result_ttl", "failure_ttl"]),
    ],
)
@pytest.mark.parametrize("results", ["amqp://", "amqps://ann:hunter22@other//"])
def test_a_queue_for_each_task_has_to_go_some_day(results: str, options: dict[str, Any], keys: list[str]) -> None:
    messages = list(check_options("jobs", {"broker": "amqp://host", "results": results, **options}))
    assert ids(messages) == ["django_taskq.E020"] * len(keys)
    for message, key in zip(messages, keys, strict=True):
        assert f"OPTIONS['{key}'] is" in shown(message)
        assert "4294967 seconds (49 days)" in str(message.hint)


@pytest.mark.parametrize(
    ("results", "backend", "identity"),
    [
        ("cache://results", "django.core.cache.backends.locmem.LocMemCache", "W004"),
        ("cache://results", "django.core.cache.backends.dummy.DummyCache", "W004"),
        ("cache://results", "django.core.cache.backends.filebased.FileBasedCache", "W005"),
        ("cache://results", "django.core.cache.backends.db.DatabaseCache", "W005"),
        ("storage://results", "django.core.files.storage.InMemoryStorage", "W004"),
        ("storage://results", "django.core.files.storage.FileSystemStorage", ""),
    ],
)
def test_django_s_caches_and_storages_that_lose_results(
    results: str, backend: str, identity: str, settings: Any
) -> None:
    settings.CACHES = {"results": {"BACKEND": backend if "cache" in backend else _LOCMEM, "LOCATION": "results"}}
    settings.STORAGES = {"results": {"BACKEND": backend}}
    messages = list(check_options("jobs", {"results": results}))
    assert ids(messages) == ([f"django_taskq.{identity}"] if identity else [])
    for message in messages:
        assert isinstance(message, Warning)
        assert results in message.msg
        assert message.hint


def test_a_cache_with_room_is_fine(settings: Any, tmp_path: Any) -> None:
    entry: dict[str, Any] = {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(tmp_path),
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
    settings.CACHES = {"roomy": entry, "small": {**entry, "OPTIONS": {"MAX_ENTRIES": 9_999}}}
    assert list(check_options("jobs", {"results": "cache://roomy"})) == []
    (message,) = check_options("jobs", {"results": "cache://small"})
    assert "cache://small has room for 9999 entries" in message.msg


_LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


@pytest.mark.parametrize(
    "options",
    [
        {"results": "redis://:hunter22@host/1", "result_options": {"socket_timeout": 2}},
        {"results": "mem://x", "result_stores": MEMORY},
        {"broker": "amqp://host", "results": "rpc://"},
        {"results": "rpc+amqp://ann:hunter22@host//"},
        {"results": "disabled://"},
    ],
)
def test_good_stores_have_no_message_and_nothing_is_connected_to(options: dict[str, Any]) -> None:
    assert list(check_options("default", options)) == []


# ---- TASKS ---------------------------------------------------------------------------------------------------


def test_a_healthy_project_has_no_message() -> None:
    assert ours(run_checks()) == []
    assert list(task_backends["default"].check()) == []


def test_the_backend_names_every_mistake_in_its_options(settings: Any) -> None:
    settings.TASKS = {"jobs": {"BACKEND": OURS, "OPTIONS": {"broke": 1, "lease": 0}}}
    assert list(task_backends["jobs"].check()) == list(check_options("jobs", {"broke": 1, "lease": 0}))


def test_mistakes_in_options_are_reported_once(settings: Any) -> None:
    settings.TASKS = {"jobs": {"BACKEND": OURS, "OPTIONS": {"broke": 1}}}
    assert ids(ours(run_checks())) == ["django_taskq.E001"]


def test_the_checks_are_registered_by_the_app_alone() -> None:
    """In a process that imports nothing else, as ``manage.py check`` may."""
    program = f"""
import django, json
from django.conf import settings
settings.configure(
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "unused.sqlite3"}}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"],
    TASKS={{"default": {{"BACKEND": {OURS!r}, "OPTIONS": {{"lease": 0}}}}, "a" * 65: {{"BACKEND": {OURS!r}}}}},
)
django.setup()
from django.core.checks import run_checks
print(json.dumps(sorted(message.id for message in run_checks())))
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True)
    assert json.loads(done.stdout) == ["django_taskq.E002", "django_taskq.E007"]


def test_neither_start_up_nor_checks_load_a_broker_s_client() -> None:
    program = f"""
import django, json, sys
from django.conf import settings
OPTIONS = {{"broker": "redis://:x@host", "queues": {{"mail": {{"broadcast": True}}}}, "routes": {{"a": "mail"}}}}
settings.configure(
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "unused.sqlite3"}}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_taskq"],
    TASKS={{"default": {{"BACKEND": {OURS!r}, "QUEUES": [], "OPTIONS": OPTIONS}}}},
)
django.setup()
from django.core.checks import run_checks
run_checks()
print(json.dumps(sorted({{"kombu", "amqp", "redis"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True)
    assert json.loads(done.stdout) == []


def test_a_backend_that_cannot_be_imported(settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": "django_taskq.NoBackend"}}
    (message,) = checks.check_aliases()
    assert message.id == "django_taskq.E006"
    assert "django_taskq.NoBackend" in message.msg
    assert list(checks.check_databases()) == []


def test_an_alias_that_does_not_fit_its_column(settings: Any) -> None:
    settings.TASKS = {"a" * 64: {"BACKEND": OURS}, "b" * 65: {"BACKEND": OURS}}
    (message,) = checks.check_aliases()
    assert message.id == "django_taskq.E007"
    assert "b" * 65 in message.msg


@pytest.mark.parametrize(
    ("allowed", "options", "named"),
    [
        ({"QUEUES": ["mail"]}, {"queues": {"mail": {}, "news": {}}}, ["'queues'] has the queue 'news'"]),
        ({"QUEUES": ["mail"]}, {"routes": {"*": "male"}}, ["'routes'] has the queue 'male', and QUEUES does not; did"]),
        ({}, {"queues": {"mail": {}}, "routes": {"a": "b"}}, ["has the queue 'mail'", "has the queue 'b'"]),
        ({"QUEUES": []}, {"queues": {"mail": {}}, "routes": {"a": "b"}}, []),
        ({}, {"queues": {"default": {}}}, []),
        (
            {"QUEUES": ["mail"]},
            {
                "exchanges": {"dead": {}},
                "queues": {
                    "mail": {"arguments": {"x-dead-letter-exchange": "dead"}},
                    "mail.dead": {"exchange": "dead", "routing_key": "mail"},
                },
            },
            [],
        ),
        ({"QUEUES": ["mail"]}, {"queues": {"news": {"max_priority": 0}}}, []),
    ],
)
def test_queues_that_the_alias_does_not_have(
    allowed: dict[str, Any], options: dict[str, Any], named: list[str], settings: Any
) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": options, **allowed}}
    found = [message for message in checks.check_aliases() if message.id == "django_taskq.E017"]
    assert len(found) == len(named)
    assert all(text in message.msg for text, message in zip(named, found, strict=True))


@pytest.mark.parametrize("queues", ["mail", ["mail", ""], ["x" * 129], [7]])
def test_queues_that_cannot_be(queues: Any, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "QUEUES": queues}}
    (message,) = checks.check_aliases()
    assert message.id == "django_taskq.E008"


@pytest.mark.parametrize("queues", [[], ["mail"], ("mail", "x" * 128), {"mail"}])
def test_queues_that_can_be(queues: Any, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "QUEUES": queues}}
    assert list(checks.check_aliases()) == []


def test_other_backends_are_none_of_our_business(settings: Any) -> None:
    package = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    settings.TASKS = {"default": {"BACKEND": f"{package}.backends.dummy.DummyBackend", "QUEUES": "mail"}}
    # But that there is none of ours.
    assert ids(list(checks.check_aliases())) == ["django_taskq.W006"]
    assert list(checks.check_databases()) == []


# ---- other hosts -----------------------------------------------------------------------------------------------


def with_options(settings: Any, **options: Any) -> None:
    settings.TASKS = {"jobs": {"BACKEND": OURS, "OPTIONS": options}}


def deployment(settings: Any, **options: Any) -> list[CheckMessage]:
    with_options(settings, **options)
    return list(checks.check_deployment())


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ({"broker": "amqp://ann:secret@mq.example//"}, "amqps://"),
        ({"broker": "pyamqp://ann:secret@10.0.0.7//"}, "amqps://"),
        ({"broker": ["amqps://ann:secret@a.example", "amqp://ann:secret@b.example"]}, "amqps://"),
        ({"broker": "redis://:secret@cache.example:6379/0"}, "rediss://"),
        ({"results": "redis://:secret@cache.example:6379/0"}, "rediss://"),
        ({"results": "rpc+amqp://ann:secret@mq.example//"}, "amqps://"),
    ],
)
def test_a_password_in_the_clear_is_a_warning_at_deployment(settings: Any, options: dict[str, Any], tls: str) -> None:
    (message,) = deployment(settings, **options)
    assert message.id == "django_taskq.W007"
    assert tls in str(message.hint)
    assert "secret" not in str(message)
    assert "example" not in str(message)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"broker": "amqp://ann:secret@localhost//"},
        {"broker": "amqp://ann:secret@127.0.0.1//", "results": "rpc://"},
        {"broker": "redis://:secret@[::1]:6379/0"},
        {"broker": "redis+socket:///run/redis.sock?password=secret"},
        {"broker": "amqps://ann:secret@mq.example//"},
        {"broker": "amqp://mq.example//"},
        {"broker": "amqp://ann:secret@mq.example//?ssl=true"},
        {"broker": "amqp://ann:secret@mq.example//", "broker_options": {"ssl": {"cert_reqs": 2}}},
        {"results": "s3://bucket/path"},
    ],
)
def test_a_password_that_crosses_no_network_or_is_encrypted_is_fine(settings: Any, options: dict[str, Any]) -> None:
    assert deployment(settings, **options) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"confirm": False}, "confirm"),
        ({"persistent": False}, "persistent"),
        ({"persistent": False, "confirm": False}, "and"),
    ],
)
def test_messages_that_nobody_makes_sure_of_are_a_warning_at_deployment(
    settings: Any, options: dict[str, Any], named: str
) -> None:
    (message,) = deployment(settings, broker="amqp://localhost//", **options)
    assert message.id == "django_taskq.W008"
    assert named in message.msg
    assert deployment(settings, broker="redis://localhost/0", **options) == []


def test_only_check_deploy_asks_for_these(settings: Any) -> None:
    with_options(settings, broker="amqp://ann:secret@mq.example//", confirm=False)
    assert {"django_taskq.W007", "django_taskq.W008"}.isdisjoint(ids(ours(run_checks())))
    assert {"django_taskq.W007", "django_taskq.W008"} <= set(ids(ours(run_checks(include_deployment_checks=True))))


@pytest.mark.parametrize(
    ("broker", "vendor", "expected"),
    [
        ("amqp://mq.example//", "sqlite", ["django_taskq.W009"]),
        ("amqp://localhost//;amqp://mq.example//", "sqlite", ["django_taskq.W009"]),
        ("redis://10.0.0.7/0", "sqlite", ["django_taskq.W009"]),
        ("sqs://", "sqlite", ["django_taskq.W009"]),
        ("amqp://mq.example//", "postgresql", []),
        ("amqp://localhost//", "sqlite", []),
        ("redis+socket:///run/redis.sock", "sqlite", []),
        ("memory://", "sqlite", []),
        ("database://", "sqlite", []),
    ],
)
def test_rows_in_sqlite_are_on_one_host(
    settings: Any, monkeypatch: pytest.MonkeyPatch, broker: str, vendor: str, expected: list[str]
) -> None:
    with_options(settings, broker=broker)
    monkeypatch.setattr("django_taskq.transport_checks.connections", {"default": a_database(vendor)})
    assert ids(list(checks.check_hosts())) == expected


def test_bad_options_are_not_judged_for_what_they_might_have_meant(settings: Any) -> None:
    with_options(settings, broker="ampq://ann:secret@mq.example//")
    assert list(checks.check_hosts()) == list(checks.check_deployment()) == []
    settings.TASKS = {"jobs": {"BACKEND": "no.such.Backend"}}
    assert list(checks.check_hosts()) == list(checks.check_deployment()) == []


def test_an_app_that_nobody_uses_is_a_warning(settings: Any) -> None:
    settings.TASKS = {}
    (message,) = checks.check_aliases()
    assert message.id == "django_taskq.W006"
    assert "django_taskq.TaskqBackend" in str(message.hint)


def test_rows_that_stay_for_ever_are_a_warning() -> None:
    (message,) = check_options("jobs", {"result_ttl": None, "failure_ttl": None})
    assert message.id == "django_taskq.W010"
    assert isinstance(message, Warning)
    assert "cleartasks" in str(message.hint)


# ---- the installation ------------------------------------------------------------------------------------------


def test_the_other_distribution_with_our_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.4" if name == "django-taskq" else found(name))
    (message,) = checks.check_namesake()
    assert message.id == "django_taskq.E009"
    assert "django-taskq 0.4" in message.msg
    assert "pip uninstall django-taskq" in str(message.hint)


# ---- databases -------------------------------------------------------------------------------------------------


class Unconnected:
    """Stands for what takes a connection to find out."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: this check must not connect")


def a_database(vendor: str, *, name: str = "db.sqlite3", in_memory: bool = False, features: Any = None) -> Any:
    return SimpleNamespace(
        alias="default",
        vendor=vendor,
        settings_dict={"NAME": name},
        is_in_memory_db=lambda: in_memory,
        features=features or Unconnected(),
    )


def check_database(connection: Any, monkeypatch: pytest.MonkeyPatch) -> list[CheckMessage]:
    monkeypatch.setattr(checks, "connections", {"default": connection})
    return list(checks.check_databases())


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_the_databases_we_know_need_no_connection(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_database(a_database(vendor), monkeypatch) == []


def test_a_database_we_do_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = check_database(a_database("oracle"), monkeypatch)
    assert message.id == "django_taskq.E012"
    assert "'oracle'" in message.msg


@pytest.mark.parametrize(("version", "expected"), [((3, 34, 1), ["django_taskq.E010"]), ((3, 35, 0), [])])
def test_sqlite_must_know_returning(
    version: tuple[int, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert ids(check_database(a_database("sqlite"), monkeypatch)) == expected


def test_sqlite_in_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = check_database(a_database("sqlite", name=":memory:", in_memory=True), monkeypatch)
    assert message.id == "django_taskq.W001"
    assert isinstance(message, Warning)


def test_django_s_own_database_for_tests_is_in_memory_and_that_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "file:memorydb_default?mode=memory&cache=shared"
    assert check_database(a_database("sqlite", name=name, in_memory=True), monkeypatch) == []


def test_psycopg2_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.db.backends.postgresql.psycopg_any.is_psycopg3", False)
    (message,) = check_database(a_database("postgresql"), monkeypatch)
    assert message.id == "django_taskq.E011"
    assert "pip install 'django-taskq-kombu[postgres]'" in str(message.hint)


def check_server(connection: Any, monkeypatch: pytest.MonkeyPatch, databases: Any) -> list[CheckMessage]:
    monkeypatch.setattr(checks, "connections", {"default": connection})
    return list(checks.check_servers(databases=databases))


@pytest.mark.parametrize(("skips_locked", "expected"), [(False, ["django_taskq.E013"]), (True, [])])
def test_mysql_must_know_skip_locked(skips_locked: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    server = a_database("mysql", features=SimpleNamespace(has_select_for_update_skip_locked=skips_locked))
    assert ids(check_server(server, monkeypatch, ["default"])) == expected


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_servers_are_asked_only_where_django_says_so(databases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_server(a_database("mysql"), monkeypatch, databases) == []


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_other_servers_are_not_asked_at_all(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_server(a_database(vendor), monkeypatch, ["default"]) == []


def test_a_bad_option_hides_its_database_from_the_other_checks(settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": OURS, "OPTIONS": {"broker": "nothing://"}}}
    assert list(checks.check_databases()) == []


# ---- commands ------------------------------------------------------------------------------------------------


def test_a_command_of_another_app_in_the_place_of_ours_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(checks.check_commands()) == []
    found = {"runworker": "channels", "taskq": "django_taskq", "cleartasks": "django_taskq", "migrate": "django.core"}
    monkeypatch.setattr(checks, "get_commands", lambda: found)
    (message,) = checks.check_commands()
    assert message.id == "django_taskq.W020"
    assert message.msg == "manage.py runworker is the command of channels, and not that of django_taskq."
    assert "taskq worker" in str(message.hint)
