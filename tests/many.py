"""A history of many tasks, made by the database itself."""

from __future__ import annotations

from django.db import connections

#: in a thousand: 979 that succeeded, 10 that failed in one of 30 ways, 1 of a rare kind, 10 of other ends and ahead
_STATE = (
    "CASE WHEN n % 1000 < 10 THEN 'FAILED' WHEN n % 1000 = 10 THEN 'CANCELLED' WHEN n % 1000 = 11 THEN 'EXPIRED' "
    "WHEN n % 1000 < 16 THEN 'READY' WHEN n % 1000 < 20 THEN 'SCHEDULED' WHEN n % 100000 = 50 THEN 'RUNNING' "
    "ELSE 'SUCCESSFUL' END"
)
_NAME = "CASE WHEN n % 50000 = 777 THEN 'shop.tasks.nightly' ELSE {concat} END"
_ID = {
    "postgresql": "(lpad(to_hex(1764000000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid",
    "sqlite": "printf('%012x70008000%012x', 1764000000000 + n, n)",
}
_ROWS = {
    "postgresql": "generate_series(1, {count}) AS n",
    "sqlite": "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {count}) SELECT n FROM r)",
}
_MOMENT = {
    "postgresql": "now() - ({count} - n) * interval '1 second'",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || ({count} - n) || ' seconds')",
}


def make_history(count: int, using: str = "default") -> None:
    """Write so many tasks, oldest first, and have the planner know of them."""
    connection = connections[using]
    vendor = connection.vendor
    moment = _MOMENT[vendor].format(count=count)
    name = _NAME.format(concat="'shop.tasks.task' || (n % 40)")
    error = '\'{"class":"shop.Broken","message":"order \' || n || \' is gone","traceback":"Traceback","attempt":1}\''
    rows = _ROWS[vendor].format(count=count)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_taskq_task (id, name, queue_name, backend, priority, state, arguments, options, metadata, "
            "headers, result, errors, fingerprint, log, progress, worker_id, worker_ids, attempt, claim, losses, "
            "max_deliveries, acks_late, cancel_requested, reply_to, enqueued_at, started_at, last_attempted_at, "
            "finished_at, run_after, duration) "
            f"SELECT {_ID[vendor]}, {name}, 'queue' || (n % 5), 'default', 0, {_STATE}, "
            "'[[],{\"order_id\":' || n || ',\"note\":\"abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz\"}]', '', '', "
            f"'', '{{\"ok\":true}}', CASE WHEN n % 1000 < 10 THEN {error} || chr ELSE '' END, "
            "CASE WHEN n % 1000 < 10 THEN 'f00d00000000' || lpad_n ELSE NULL END, '', '', "
            "CASE WHEN n % 1000 BETWEEN 12 AND 19 THEN '' ELSE 'host-' || (n % 8) END, 'host-1', 1, 1, 0, 3, "
            f"{_bool(vendor, True)}, {_bool(vendor, False)}, '', {moment}, {moment}, {moment}, "
            f"CASE WHEN n % 1000 BETWEEN 12 AND 19 OR n % 100000 = 50 THEN NULL ELSE {moment} END, "
            f"CASE WHEN n % 1000 BETWEEN 16 AND 19 THEN {moment} END, 0.25 "
            f"FROM (SELECT n, {_text(vendor)} FROM {rows}) AS numbers"
        )
        cursor.execute("ANALYZE django_taskq_task" if vendor == "postgresql" else "ANALYZE")


def _bool(vendor: str, value: bool) -> str:
    return str(value).lower() if vendor == "postgresql" else str(int(value))


def _text(vendor: str) -> str:
    """A line's end, and which of 30 ways it failed in, as four digits."""
    if vendor == "postgresql":
        return "chr(10) AS chr, lpad((n / 1000 % 30)::text, 4, '0') AS lpad_n"
    return "char(10) AS chr, printf('%04d', n / 1000 % 30) AS lpad_n"
