"""``python -m tests.benchmarks.client NAME``: one measurement in a process of its own; prints its figures as JSON.

Besides the measurements: ``prepare`` (the tables), ``fill`` (the history) and ``facts`` (of the package, Django and the
database).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from tests.benchmarks.plan import Plan


def prepare(plan: Plan) -> dict[str, str]:
    """Make the tables."""
    call_command("migrate", verbosity=0)
    return {}


def fill(plan: Plan) -> dict[str, str]:
    """Make the history."""
    from tests.benchmarks import rows

    rows.clear()
    rows.fill(plan.history)
    return {}


def facts(plan: Plan) -> dict[str, str]:
    """Return what the figures depend on, as this process finds it."""
    from django.db import connection

    from tests.benchmarks import messages

    connection.ensure_connection()
    info = connection.get_database_version()
    found = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Django": django.get_version(),
        "database": f"{connection.display_name} {'.'.join(map(str, info))}",
        "driver": _driver(connection.vendor),
    }
    questions = {
        "postgresql": "SELECT name, setting FROM pg_settings "
        "WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers')",
        "mysql": "SHOW VARIABLES WHERE variable_name IN "
        "('innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'innodb_buffer_pool_size', 'sync_binlog', 'log_bin')",
        "sqlite": "SELECT 'journal_mode', journal_mode FROM pragma_journal_mode "
        "UNION ALL SELECT 'synchronous', synchronous FROM pragma_synchronous",
    }
    with connection.cursor() as cursor:
        cursor.execute(questions[connection.vendor])
        found["settings"] = ", ".join(f"{name}={value}" for name, value in sorted(cursor.fetchall()))
    return {**found, **messages.facts(plan)}


def _driver(vendor: str) -> str:
    if vendor == "sqlite":
        return "sqlite3"
    name = {"postgresql": "psycopg", "mysql": "mysqlclient"}[vendor]
    return f"{name} {version(name)}"


def main() -> None:
    """Do what is asked for and print the answer as the last line."""
    plan = Plan.load()
    # Also for the workers that are started from here.
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    import django_taskq
    from tests.benchmarks.measures import MEASURES

    found = Path(django_taskq.__file__).resolve().parents[1]
    if found != Path(plan.package):
        raise RuntimeError(f"django_taskq comes from {found}, not from {plan.package}: other code would be measured.")
    actions: dict[str, Callable[[Plan], dict[str, Any]]] = {
        "prepare": prepare,
        "fill": fill,
        "facts": facts,
        **MEASURES,
    }
    print(json.dumps(actions[sys.argv[1]](plan)))


if __name__ == "__main__":
    main()
