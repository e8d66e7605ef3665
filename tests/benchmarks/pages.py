"""How long the admin's pages take with a million tasks, and how many queries each.

``python -c "import django; django.setup(); from tests.benchmarks.pages import main; main()" --help``, with
``DJANGO_SETTINGS_MODULE=tests.settings``, inside ``python -m tests.servers run --durable --``; TASKQ_TEST_DB chooses the
database, a new one. Each page is asked for by Django's test client, so that the figures have the rendering in them, and
not the network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.many import make_history
from tests.pages import addresses


def main() -> None:
    """Measure, and print a line for each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    told = parser.parse_args()
    settings.ALLOWED_HOSTS = ["testserver"]
    connection.creation.create_test_db(verbosity=0, serialize=False)
    try:
        _measure(told.rows, told.repeat)
    finally:
        connection.creation.destroy_test_db(settings.DATABASES["default"]["NAME"], verbosity=0)


def _measure(rows: int, repeat: int) -> None:
    make_history(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # What autovacuum would have done by the time there are so many.
            cursor.execute("VACUUM ANALYZE django_taskq_task")
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    print(f"{connection.vendor}, {rows:,} tasks: milliseconds (median), the slowest, queries, slowest query")
    for url, query in addresses(rows):
        took, queries = [], []
        for _ in range(repeat + 1):
            started = time.perf_counter()
            browser.get(url, query)
            took.append(1000 * (time.perf_counter() - started))
        with CaptureQueriesContext(connection) as seen:
            assert browser.get(url, query).status_code == 200
        queries = [1000 * float(one["time"]) for one in seen]
        # The first one finds nothing in memory.
        print(
            f"{statistics.median(took[1:]):7.0f} {max(took[1:]):7.0f} {len(queries):3} {max(queries):7.0f}  "
            f"{url.removeprefix('/admin/django_taskq/')}?{urlencode(query)}"
        )
