"""The app's configuration."""

from django.apps import AppConfig


class TaskappConfig(AppConfig):
    """``tests.taskapp``."""

    name = "tests.taskapp"
    default_auto_field = "django.db.models.BigAutoField"
