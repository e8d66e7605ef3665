"""What a project must have and no more; the databases and TASKS are in the file TASKQ_BENCHMARK names."""

from __future__ import annotations

from tests.benchmarks.plan import Plan

_plan = Plan.load()

SECRET_KEY = "for benchmarks only"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.benchmarks"]
DATABASES = {"default": _plan.database}
TASKS = {
    "default": {
        "BACKEND": "django_taskq.TaskqBackend",
        "OPTIONS": {
            "broker": _plan.broker,
            "results": _plan.results,
            # Left out as long as it can be: older commits do not know it.
            **({} if _plan.confirm else {"confirm": False}),
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
