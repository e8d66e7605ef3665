"""systemd's notification protocol: a datagram to the socket that the environment names (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

logger = logging.getLogger("django_taskq.worker")

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Tells systemd how the worker is; without a ``NOTIFY_SOCKET`` nobody.

    Takes the variables out of the environment, so that programs which tasks start do not speak for the worker.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._taken = {name: environment.pop(name, "") for name in (_SOCKET, _WATCHDOG, _WATCHDOG_PID)}
        address = self._taken[_SOCKET]
        #: a leading @ stands for the NUL of an abstract address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""

    @property
    def is_listened_to(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._address)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two signs of life: half of what systemd waits for one; None when it does not."""
        microseconds, pid = self._taken[_WATCHDOG], self._taken[_WATCHDOG_PID]
        if not self._address or not microseconds.isdigit() or pid not in {"", str(os.getpid())}:
            return None
        return int(microseconds) / 2e6

    def ready(self) -> None:
        """It works, for the first time or again."""
        self._send("READY=1")

    def stopping(self) -> None:
        """It stops."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """It begins anew."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; sent when it is another one than before."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def give_back(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Leave the variables to the program that comes after this one in the same process."""
        environment.update({name: value for name, value in self._taken.items() if value})

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            logger.warning("systemd could not be told %r: %s", text, error, extra={"action": "notify_failed"})
