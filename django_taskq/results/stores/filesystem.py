"""Files in a directory: one per value, swapped in whole, with its end as the time it was changed."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from ..address import only_known
from ..keyvalue import KeyValueStore, StoreConfigError

#: what ends the names of values, and of files that are not values yet or any more; nothing else is touched
_VALUE, _UNFINISHED = ".result", ".unfinished"
#: seconds after which nobody is still writing such a file
_STALE: Final = 3600.0
_OPTIONS: Final = ("mode",)


class FileStore(KeyValueStore):
    """Results as files: ``file:///path/of/directory``, as in Celery; the directory must exist.

    For one machine, or several with one file system. ``mode`` (option): of the files, ``0o600``; where web server and
    workers have different accounts, ``0o640`` and a directory with the group's sticky bit.

    A value appears whole or not at all (``os.replace``); it is not forced to disk. Nothing expires by itself: ``sweep``
    deletes what is over. A value's end is its file's time of modification; 1970 means that it stays.
    """

    expires: ClassVar[bool] = False

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, _OPTIONS, store="file://")
        self._mode = options.get("mode", 0o600)
        if not isinstance(self._mode, int) or not 0 <= self._mode <= 0o777:
            raise StoreConfigError("file://: mode must be a number from 0 to 0o777.")
        scheme, _, rest = url.partition("://")
        path = rest.removeprefix("localhost")
        if scheme != "file" or not path.startswith("/"):
            host = urlsplit(url).netloc
            hint = f"; {host!r} stands where a host would" if host else ""
            raise StoreConfigError(f"file://: write an absolute path, file:///path/of/directory{hint}.")
        self._directory = Path(path)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Write beside, and swap in; raises ``OSError``, which names the file."""
        unfinished = self._directory / f"{uuid.uuid4().hex}{_UNFINISHED}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                # What the process's umask has taken away.
                os.fchmod(descriptor, self._mode)
                file.write(value)
            # After closing, which would set it again.
            end = 0 if ttl is None else max(1, _nanoseconds(time.time() + ttl))
            os.utime(unfinished, ns=(end, end))
            unfinished.replace(self._file(key))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def get(self, key: str) -> bytes | None:
        """The file's content."""
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            self._look()
            return None

    def delete(self, key: str) -> None:
        """Remove the file."""
        try:
            self._file(key).unlink()
        except FileNotFoundError:
            self._look()

    def sweep(self, now: float, longest: float) -> int:
        """Remove what is over, and what somebody who died has left unfinished; several may do so at once."""
        swept = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                # Somebody else may be removing it, too.
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith(_VALUE) and _is_over(entry.stat(), now):
                        swept += self._sweep(Path(entry.path), now)
                    elif entry.name.endswith(_UNFINISHED) and entry.stat().st_ctime < now - _STALE:
                        Path(entry.path).unlink()
        return swept

    def _sweep(self, file: Path, now: float) -> int:
        # Between our look and now a put may have swapped a new value in. Moved aside it can be looked at again, and put
        # back unless there is an even newer one by then.
        aside = file.with_name(f"{uuid.uuid4().hex}{_UNFINISHED}")
        file.rename(aside)
        try:
            if _is_over(aside.stat(), now):
                return 1
            try:
                os.link(aside, file)
            except FileExistsError:
                pass
            except OSError:
                # A file system without links; there, one put in between is lost.
                aside.replace(file)
            return 0
        finally:
            aside.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._directory / f"{key}{_VALUE}"

    def _look(self) -> None:
        """Raise if what is missing is the directory: a file system that is not mounted has no results to miss."""
        if not self._directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, "The directory for results does not exist", str(self._directory))


def _is_over(status: os.stat_result, now: float) -> bool:
    return 0 < status.st_mtime <= now


def _nanoseconds(instant: float) -> int:
    return int(instant * 1_000_000_000)
