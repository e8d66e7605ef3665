"""The architecture: who may import whom, who may write rows, what the package exports."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import django_taskq
from tests.unit.source import PACKAGE, Import, Module, imports, modules, part_of, texts, walk

LAYERS: dict[str, int] = {
    **dict.fromkeys(("exceptions", "core"), 0),
    **dict.fromkeys(
        ("bell", "conf", "compat", "current", "database", "forks", "hiding", "instrument", "signals", "wakeup"), 1
    ),
    **dict.fromkeys(
        (
            "broker_url",
            "option_values",
            "queue_arguments",
            "result_url",
            "routes",
            "schedule_options",
            "topology_options",
        ),
        1,
    ),
    **dict.fromkeys(("registry", "schedules"), 1),
    **dict.fromkeys(("models", "migrations", "transitions", "brokers", "results"), 2),
    **dict.fromkeys(("context", "definition", "result", "producer", "publication", "backend", "aliases"), 3),
    **dict.fromkeys(
        (
            "announcements",
            "backlog",
            "beat_import",
            "beat_schedules",
            "beat_tables",
            "bulk",
            "changes",
            "control",
            "copying",
            "finding",
            "overview",
            "pace",
            "purging",
            "statistics",
            "selection",
            "sight",
            "standing",
            "statistics",
            "retention",
            "staff_groups",
            "schedule_checks",
            "schedule_control",
            "schedule_tasks",
            "option_checks",
            "transport_checks",
            "worker",
            "keeper",
        ),
        3,
    ),
    **dict.fromkeys(
        ("celery", "monitoring", "testing", "admin", "management", "middleware", "checks", "apps", "urls"), 4
    ),
    "": 5,
}

#: Imports between parts of layer 2; everybody else there minds its own business. Rows may be read by all of them.
SIBLINGS = {
    ("brokers.database", "transitions"),
    ("results.database", "transitions"),
    ("results.rpc", "brokers"),
    ("results.amqp", "brokers"),
    ("migrations", "models"),
    ("transitions", "models"),
    ("brokers", "models"),
    ("results", "models"),
}

#: Installed with the package, importable anywhere above core.
DEPENDENCIES = {"django", "asgiref"}

#: Other packages, and the parts that may import them at the top.
DEPENDENCIES_OF = {
    "compat": {"django_tasks"},
    "brokers": {"kombu", "amqp"},
    "django_taskq.brokers.kombu.redis_bulk": {"redis"},
    "django_taskq.results.amqp": {"amqp"},
    "django_taskq.results.aws": {"boto3", "botocore"},
    "celery": {"kombu"},
    # Each is an extra, and its module is loaded by whoever has it.
    "django_taskq.monitoring.tracing": {"opentelemetry"},
    "django_taskq.monitoring.sentry": {"sentry_sdk"},
    "django_taskq.monitoring.metrics": {"prometheus_client"},
}

#: Each module in here imports a client library of its own, and is imported by the registry when an alias needs it.
STORES = "django_taskq.results.stores."

#: Imports inside functions: (importer, imported) and why they cannot stand at the top.
LATE_IMPORTS: dict[tuple[str, str], str] = dict.fromkeys(
    [
        ("django_taskq.admin.queues", "django_taskq.brokers.kombu.connection"),
        ("django_taskq.backend", "django_taskq.brokers.kombu.publisher"),
        ("django_taskq.control", "django_taskq.brokers.kombu.purge"),
        ("django_taskq.keeper.outbox", "django_taskq.brokers.kombu.facts"),
        ("django_taskq.overview", "django_taskq.brokers.kombu.facts"),
        ("django_taskq.worker.consumers", "django_taskq.brokers.kombu.consumer"),
    ],
    "who has no message broker does not load kombu",
) | {
    ("django_taskq.brokers.kombu.virtual_ear", "django_taskq.brokers.kombu.redis_bulk"): "redis is an extra",
    ("django_taskq.results.stores.celery_store", "sqlalchemy"): "only db+ needs it",
    ("django_taskq.results.stores.celery_store", "celery.backends.database.models"): "only db+ needs it",
}

#: What only transitions may call. `update` and `delete` have other meanings too, see `_writes`.
WRITERS = {"save", "bulk_create", "bulk_update", "get_or_create", "update_or_create", "_raw_delete"}
WRITERS |= {f"a{name}" for name in WRITERS if not name.startswith("_")}

#: Whose create, update and delete write rows.
QUERIES = re.compile(r"\b(objects|_base_manager|_default_manager|filter|exclude|using|select_for_update)\b|Record\b")

WRITING_SQL = re.compile(
    r"\b(INSERT\s+(IGNORE\s+)?INTO|REPLACE\s+INTO|MERGE\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM)\b"
)

EXPORTS = [
    "Reject",
    "ResultStoreError",
    "ResultTimeout",
    "ResultUnavailable",
    "Retry",
    "Schedule",
    "ScheduleError",
    "SoftTimeLimitExceeded",
    "State",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskExpired",
    "TaskFailed",
    "TaskResult",
    "TaskqBackend",
    "TaskqError",
    "TimeLimitExceeded",
    "UnknownTask",
    "WorkerLost",
    "exponential",
    "fixed",
    "linear",
    "request_scope",
    "schedule",
    "task",
]


def layer(module: str) -> int:
    """Return the layer of a module of ours; 3 for one that a test of its own complains about."""
    return LAYERS.get(part_of(module), 3)


def all_imports() -> list[Import]:
    return [found for name in modules() for found in imports(name)]


def our_imports() -> list[Import]:
    return [found for found in all_imports() if found.imported.split(".")[0] == "django_taskq"]


def test_every_module_has_its_layer() -> None:
    unknown = {module.part for module in modules().values()} - LAYERS.keys()
    assert not unknown, "say in LAYERS where these belong"


def test_imports_go_down_the_layers() -> None:
    upward = [str(found) for found in our_imports() if layer(found.imported) > layer(found.importer)]
    assert upward == []


def test_the_parts_of_layer_2_leave_each_other_alone() -> None:
    def is_allowed(found: Import) -> bool:
        importer, imported = part_of(found.importer), part_of(found.imported)
        if importer == imported or not layer(found.importer) == layer(found.imported) == 2:
            return True
        within = found.importer.removeprefix("django_taskq.")
        return (importer, imported) in SIBLINGS or (within, imported) in SIBLINGS

    assert [str(found) for found in our_imports() if not is_allowed(found)] == []


def test_core_needs_only_the_standard_library_and_the_rest_what_is_installed() -> None:
    def is_allowed(found: Import) -> bool:
        top = found.imported.split(".")[0]
        if top in sys.stdlib_module_names or top == "django_taskq":
            return True
        part = part_of(found.importer)
        if (found.importer, found.imported) in LATE_IMPORTS or found.importer.startswith(STORES):
            return True
        return layer(found.importer) > 0 and top in DEPENDENCIES | DEPENDENCIES_OF.get(
            part, set()
        ) | DEPENDENCIES_OF.get(found.importer, set())

    assert [str(found) for found in all_imports() if not is_allowed(found)] == []


def test_imports_stand_at_the_top() -> None:
    late = {(found.importer, found.imported): str(found) for found in all_imports() if found.inside_function}
    assert [text for key, text in late.items() if key not in LATE_IMPORTS] == []
    assert sorted(LATE_IMPORTS.keys() - late.keys()) == [], "these are no longer needed"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {
            found.imported
            for found in imports(name)
            if found.imported in modules() and found.imported != name and not found.typing_only
        }
        for name in modules()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def _writes(call: ast.Call) -> bool:
    """Tell whether a call, as far as its text shows, writes rows.

    ``hash.update(b)``, ``dict.update(a)`` and ``store.delete(key)`` do not; ``query.update(field=value)`` and
    ``record.delete()`` do.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    name = call.func.attr
    if name in WRITERS:
        return True
    on_rows = QUERIES.search(ast.unparse(call.func.value)) is not None
    match name.removeprefix("a"):
        case "create":
            return on_rows
        case "update":
            return on_rows or bool(call.keywords and not call.args)
        case "delete":
            return on_rows or not (call.args or call.keywords)
    return False


def writes(module: Module) -> Iterator[str]:
    for node, _ in walk(module.tree):
        if isinstance(node, ast.Call) and _writes(node):
            yield f"{module.name}:{node.lineno} calls {ast.unparse(node.func)}"
    for line, text in texts(module):
        if WRITING_SQL.search(text):
            yield f"{module.name}:{line} has SQL that writes: {text.strip()[:60]!r}"


def test_only_transitions_write_rows() -> None:
    others = [
        module
        for module in modules().values()
        if module.part not in {"transitions", "migrations"} and not module.name.startswith(STORES)
    ]
    assert [text for module in others for text in writes(module)] == []


def test_the_search_for_writers_finds_those_there_are() -> None:
    found = {module.part for module in modules().values() if any(writes(module))}
    assert "transitions" in found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("TaskRecord.objects.create(name='x')", True),
        ("await TaskRecord.objects.acreate(name='x')", True),
        ("rows.update(state='READY')", True),
        ("TaskRecord.objects.using(alias).filter(pk=1).update(**values)", True),
        ("record.save(update_fields=['state'])", True),
        ("record.delete()", True),
        ("cursor.execute(f'UPDATE {table} SET state = %s')", True),
        ("cursor.execute('DELETE FROM django_taskq_task')", True),
        ("digest.update(block)", False),
        ("options.update(given)", False),
        ("store.delete(key)", False),
        ("'''DELETE FROM nothing, this is a docstring'''", False),
        ("raise ValueError('update the settings')", False),
        ("TaskRecord.objects.filter(pk=1).first()", False),
    ],
)
def test_the_search_for_writers_knows_them_when_it_sees_them(source: str, expected: bool) -> None:
    module = Module(name="example", path=modules()["django_taskq"].path, tree=ast.parse(source))
    assert any(writes(module)) is expected


def test_exports_are_sorted_and_complete() -> None:
    assert django_taskq.__all__ == EXPORTS
    assert [name for name in EXPORTS if not hasattr(django_taskq, name)] == []
    assert sorted(EXPORTS) == EXPORTS


def test_what_a_web_process_does_not_need_is_not_loaded_at_start_up() -> None:
    heavy = {"kombu", "rich", "cronsim", "psutil", "setproctitle", "prometheus_client", "opentelemetry", "sentry_sdk"}
    program = "import sys, django; django.setup(); print(*sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert {name.split(".")[0] for name in done.stdout.decode().split()} & heavy == set()
