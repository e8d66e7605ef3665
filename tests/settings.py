"""Settings the tests run with; TASKQ_TEST_DB (sqlite, postgres, mariadb; default sqlite) chooses the database."""

from __future__ import annotations

import os
from pathlib import Path

from tests.databases import chosen
from tests.servers import shared

# The type checker knows settings from here, also those that the example project's code reads.
BASE_DIR = Path(__file__).parent.parent

# Each process its own name, so that two runs can share a server; pytest-django adds the xdist worker's.
_NAME = f"taskq_{os.getpid()}"

DATABASES = {
    "default": {
        **shared(chosen()).settings(_NAME),
        # A file for SQLite too: in memory, threads would share one connection's locks, which no user's project does.
        "TEST": {"NAME": shared(chosen()).settings(f"test_{_NAME}")["NAME"]},
    }
}

TASKS = {"default": {"BACKEND": "django_taskq.TaskqBackend"}}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_taskq",
    "tests.taskapp",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Tests sign users in; the time a real hasher takes protects nobody here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "for tests only"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
