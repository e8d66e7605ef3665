"""Django's own tests of its tasks, to be subclassed onto our backend.

They are in Django's source distribution only, as ``tests/tasks``, so that is downloaded once per environment, with pip,
and kept inside the environment. ``python -m tests.upstream`` does it ahead; otherwise the first test run does.

Django 5.2 has no tasks: there the suite of 6.0 runs against the backport, whose names take the place of Django's.
"""
