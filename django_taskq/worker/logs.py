"""Log lines for a project that has not configured any for us."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

from django.conf import settings

#: ``--verbosity`` -> level
_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def configure(verbosity: int) -> None:
    """Print our log lines to stderr, unless the project's ``LOGGING`` has a say about ``django_taskq`` or the root."""
    ours = logging.getLogger("django_taskq")
    if ours.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(process)d %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(_LEVELS.get(verbosity, logging.INFO))
    ours.propagate = False
    # Of upstream's lines only the failures, which bring the traceback (and Django's mail to ADMINS): the
    # others would say what ours say.
    for name in ("django.tasks", "django_tasks"):
        upstream = logging.getLogger(name)
        if upstream.level == logging.NOTSET:
            upstream.setLevel(logging.ERROR)
        if not (settings.DEBUG and name.startswith("django.")):
            upstream.addHandler(handler)


def flush_output() -> None:
    """Write out what was printed; harmless where there is no output, or nobody reads it any more."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def keep_output() -> None:
    """Let no task close this process's output: each log line after it would raise."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.close = stream.flush  # type: ignore[method-assign]  # on these two alone
