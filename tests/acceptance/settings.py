"""Settings of a test's own project: what a user must have and no more, then what the test wrote into its JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path

SECRET_KEY = "for tests only"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "tests.taskapp"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

_given = json.loads(Path(os.environ["TASKQ_PROJECT"]).read_text())
INSTALLED_APPS += _given.pop("APPS")
globals().update(_given)
