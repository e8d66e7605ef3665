"""Log lines for a project that has not configured any for us."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

from django.conf import settings

#: ``--verbosity`` -> level
_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def configure(verbosity: int, formatter: logging.Formatter) -> None:
    """Print log lines to stderr, unless the project's ``LOGGING`` has a say about ``django_taskq`` or the root.

    Of other loggers than ours, which are those of tasks and what they use, only warnings, and with ``--verbosity 2`` what
    is INFO. The root logger lets INFO pass in any case: for the rows, see ``kept_log``.
    """
    ours = logging.getLogger("django_taskq")
    if ours.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
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
    root, others = logging.getLogger(), logging.StreamHandler(sys.stderr)
    others.setFormatter(formatter)
    others.setLevel(logging.WARNING if verbosity < 2 else logging.INFO)
    others.addFilter(is_unhandled)
    root.addHandler(others)
    if root.level == logging.WARNING:
        root.setLevel(logging.INFO)


def is_unhandled(record: logging.LogRecord) -> bool:
    """Whether no handler below the root logger's has this record: what ``logging.lastResort`` would print."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if logger.handlers:
            return False
        logger = logger.parent
    return True


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
