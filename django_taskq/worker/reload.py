"""Beginning anew with the code as it is now."""

from __future__ import annotations

import logging
import os
import signal
import sys

from .logs import flush_output

logger = logging.getLogger("django_taskq.worker")


def begin_anew() -> None:
    """Put the same program in the place of this one, under the same process id. Does not return.

    Raises ``OSError`` where the interpreter is not there any more.
    """
    logger.info("Begins anew.", extra={"action": "reloading"})
    # One more that comes before the new program listens would end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    logging.shutdown()
    flush_output()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # our own command line
