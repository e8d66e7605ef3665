"""The signs of life that a worker gives: pages for probes, the age of a file, notices to systemd."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from .health import Picture, metrics
from .notify import Notifier
from .probe import Page, Probe
from .settings import WorkerSettings
from .startup import CannotStart

logger = logging.getLogger("django_taskq.worker")

#: seconds between two looks at the worker's health, where somebody is told without asking
_LOOK = 1.0


class Signs:
    """Given by the supervisor, in its own loop: what it does not get to, nobody is told.

    ``look``: gives a picture of the worker. ``counted``: what its tasks came to, in Prometheus's text format. Raises
    ``CannotStart`` where a sign could not be given.
    """

    def __init__(self, settings: WorkerSettings, look: Callable[[], Picture], counted: Callable[[], str]) -> None:
        self._look = look
        self._counted = counted
        self._notifier = Notifier()
        self._probe: Probe | None = None
        self._file = None if settings.heartbeat_file is None else Path(settings.heartbeat_file).absolute()
        self._has_started = False
        self._was_live = True
        self._look_at = self._alive_at = 0.0
        if settings.probe_port is not None:
            try:
                self._probe = Probe(settings.probe_host, settings.probe_port, self._page)
            except OSError as error:
                raise CannotStart(f"No probe on {settings.probe_host} port {settings.probe_port}: {error}") from error
            logger.info(
                "Answers probes at %s port %d: /live, /ready, /metrics.",
                self._probe.host,
                self._probe.port,
                extra={"action": "probe_listens"},
            )
        if self._file is not None:
            try:
                self._file.touch()
            except OSError as error:
                raise CannotStart(f"--heartbeat-file {self._file} cannot be written: {error}") from error

    @property
    def reads(self) -> list[int]:
        """Descriptors to watch for something to read."""
        return [] if self._probe is None else self._probe.reads

    @property
    def writes(self) -> list[int]:
        """Descriptors to watch for room to write."""
        return [] if self._probe is None else self._probe.writes

    def due_in(self, now: float) -> float | None:
        """Seconds until there is something to do unasked; None: never."""
        waits = [] if self._probe is None else [self._probe.due_in(now)]
        if self._file is not None or self._notifier.is_listened_to:
            waits.append(max(self._look_at - now, 0.0))
        return min((wait for wait in waits if wait is not None), default=None)

    def give(self, ready: list[int], now: float) -> None:
        """Answer who asks on the descriptors that are ``ready``, and tell who wants to be told."""
        if self._probe is not None:
            self._probe.serve(ready)
        if self._notifier.is_listened_to and not self._has_started:
            self._tell_of_start()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            if self._file is not None or self._notifier.is_listened_to:
                self._tell(now)

    def stopping(self) -> None:
        """The worker was told to end."""
        self._notifier.stopping()

    def reloading(self) -> None:
        """The worker was told to begin anew."""
        self._notifier.reloading()

    def go_on(self) -> None:
        """It cannot, and goes on."""
        self._notifier.ready()

    def close(self, *, is_reloading: bool = False) -> None:
        """The worker has ended. ``is_reloading``: another program goes on in its place."""
        self.close_in_child()
        if is_reloading:
            self._notifier.give_back()
        elif self._file is not None:
            self._file.unlink(missing_ok=True)

    def close_in_child(self) -> None:
        """A worker process has inherited what only the supervisor may have."""
        if self._probe is not None:
            self._probe.close()

    def _page(self, path: str) -> Page | None:
        picture = self._look()
        match path:
            case "/live":
                return _verdict(picture.reasons_not_live())
            case "/ready":
                return _verdict(picture.reasons_not_ready())
            case "/metrics":
                return Page(200, metrics(picture) + self._counted(), "text/plain; version=0.0.4; charset=utf-8")
        return None

    def _tell_of_start(self) -> None:
        # A broker that is away keeps nobody from starting: systemd would end what waits for it.
        picture = self._look()
        self._has_started = {vital.index for vital in picture.vitals if vital.has_database} >= set(
            range(picture.processes)
        )
        if self._has_started:
            self._notifier.ready()

    def _tell(self, now: float) -> None:
        picture = self._look()
        not_ready = picture.reasons_not_ready()
        self._notifier.status(f"Not ready: {'; '.join(not_ready)}." if not_ready else "Ready.")
        if not_live := picture.reasons_not_live():
            if self._was_live:
                logger.error("Not live: %s.", "; ".join(not_live), extra={"action": "not_live"})
            self._was_live = False
            return
        self._was_live = True
        interval = self._notifier.watchdog_interval
        if interval is not None and now >= self._alive_at:
            # Rather early than late.
            self._alive_at = now + max(interval - _LOOK, 0.0)
            self._notifier.alive()
        if self._file is not None:
            try:
                self._file.touch()
            except OSError as error:
                logger.error(  # noqa: TRY400  # the error says it all
                    "The heartbeat file cannot be written: %s", error, extra={"action": "heartbeat_file_failed"}
                )


def _verdict(reasons: list[str]) -> Page:
    return Page(503, "".join(f"{reason}\n" for reason in reasons)) if reasons else Page(200, "ok\n")
