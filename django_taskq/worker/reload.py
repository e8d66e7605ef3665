"""Beginning anew with the code as it is now: on SIGHUP, and in development when a file changes.

The new code is tried first, in a process of its own that starts as the worker did and ends where it would
begin to work. Code that does not load leaves the worker with what it has.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.apps import apps
from django.utils.autoreload import BaseReloader, autoreload_started, get_reloader, trigger_reload

from .logs import flush_output
from .orders import Orders
from .signs import Signs

logger = logging.getLogger("django_taskq.worker")

#: set for a program that only tries whether it could start
TRIAL = "TASKQ_TRIAL"
#: seconds that a trial may take
_TRIAL_TIMEOUT = 60.0
#: seconds that running tasks get when a file has changed; whoever waits for the new code is at the keyboard
HASTE = 3.0
#: how Django's autoreloader ends when a file has changed
_CHANGED = 3
#: about when this program read its code (wall clock)
_LOADED_AT = time.time()


def begin_anew() -> None:
    """Put the same program in the place of this one, under the same process id. Does not return.

    Raises ``OSError`` where the interpreter is not there any more.
    """
    logger.info("Begins anew.", extra={"action": "reloading"})
    # One more that comes before the new program listens would end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    logging.shutdown()
    flush_output()
    os.execv(sys.executable, _command())  # noqa: S606  # our own command line


class Reloads:
    """What the supervisor does until it begins anew.

    ``fork``: runs a function in a child, and gives the pid and a pipe that the child reads. ``is_watching``: also
    when files change.
    """

    def __init__(
        self,
        orders: Orders,
        signs: Signs,
        fork: Callable[[Callable[[int], int]], tuple[int, int]],
        *,
        is_watching: bool,
    ) -> None:
        #: whether it was a change of a file
        self.is_hasty = False
        self._orders = orders
        self._signs = signs
        self._fork = fork
        self._is_watching = is_watching
        self._tried = 0
        #: what was written after this is not loaded (wall clock, as files have it)
        self._loaded_at = _LOADED_AT
        self._trial: subprocess.Popen[bytes] | None = None
        self._trial_ends_at = 0.0
        self._watcher: tuple[int, int] | None = None

    @property
    def pipes(self) -> list[int]:
        """Ends of pipes that are the supervisor's alone."""
        return [] if self._watcher is None else [self._watcher[1]]

    def due_in(self, now: float) -> float | None:
        """Seconds until a trial takes too long."""
        return None if self._trial is None else max(self._trial_ends_at - now, 0.0)

    def tend(self, now: float) -> None:
        """Look after files and trials; called whenever a signal came."""
        if self._orders.is_stopping:
            return
        if self._watcher is not None:
            self._look_after_watcher(self._watcher)
        if self._trial is not None:
            self._look_after_trial(self._trial, now)
        if self._trial is None and self._orders.reloads > self._tried:
            self._begin_trial(now)
        if self._is_watching and self._watcher is None and self._trial is None and not self._orders.is_stopping:
            since = self._loaded_at
            self._watcher = self._fork(lambda control: _watch(control, since))

    def close(self) -> None:
        """Nobody begins anew, or it is about to."""
        if self._trial is not None:
            self._trial.kill()
            self._trial.wait()
            self._trial = None
        if self._watcher is not None:
            pid, pipe = self._watcher
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pipe)
            self._watcher = None

    def _look_after_watcher(self, watcher: tuple[int, int]) -> None:
        pid, wait_status = os.waitpid(watcher[0], os.WNOHANG)
        if not pid:
            return
        os.close(watcher[1])
        self._watcher = None
        if os.waitstatus_to_exitcode(wait_status) == _CHANGED:
            self.is_hasty = True
            self._orders.reloads += 1
        else:
            logger.error("Nobody watches for changes of files any more.", extra={"action": "watcher_died"})
            self._is_watching = False

    def _begin_trial(self, now: float) -> None:
        self._tried = self._orders.reloads
        self._signs.reloading()
        self._trial_ends_at = now + _TRIAL_TIMEOUT
        self._loaded_at = time.time()
        self._trial = subprocess.Popen(  # noqa: S603  # our own command line
            _command(), env={**os.environ, TRIAL: "1"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def _look_after_trial(self, trial: subprocess.Popen[bytes], now: float) -> None:
        if now >= self._trial_ends_at:
            trial.kill()
            trial.wait()
        if trial.poll() is None:
            return
        self._trial = None
        if trial.returncode == 0:
            self._orders.is_reloading = True
            return
        logger.error(
            "The code as it is now does not load; the worker goes on with what it has.",
            extra={"action": "not_reloaded"},
        )
        self.is_hasty = False
        self._signs.go_on()


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _watch(control: int, since: float) -> int:
    """Django's autoreloader, in a process of its own; gives its exit status.

    ``since``: what was written after this moment has changed, though nobody was there to see it.
    """

    def end_with_the_supervisor() -> None:
        os.read(control, 1)
        os._exit(0)

    def watch_apps(sender: BaseReloader, **kwargs: object) -> None:
        # Also modules that nobody has imported yet, or only a worker process.
        for directory in _own_directories():
            sender.watch_dir(directory, "**/*.py")
        for path in sender.watched_files():
            if since < _written_at(path) <= time.time():
                trigger_reload(str(path))

    threading.Thread(target=end_with_the_supervisor, name="taskq-watch", daemon=True).start()
    autoreload_started.connect(watch_apps)
    try:
        get_reloader().run(threading.main_thread())
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        # Renamed or removed meanwhile, as editors do.
        return 0.0


def _own_directories() -> Iterator[Path]:
    for config in apps.get_app_configs():
        path = Path(config.path)
        if not {"site-packages", "dist-packages"} & set(path.parts):
            yield path


def is_trial() -> bool:
    """Whether this program only tries whether it could start."""
    return TRIAL in os.environ


def wants_reload(*, debug: bool) -> bool:
    """Whether files are watched where nobody said anything: in development, on a terminal."""
    return debug and all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
