"""Django's storages, whichever is behind an alias of STORAGES."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import (
    FileSystemStorage,
    InMemoryStorage,
    InvalidStorageError,
    Storage,
    storages,
)
from django.utils import timezone

from ...core.options import nearest
from ..address import only_known
from ..keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, KeyValueStore, StoreConfigError

#: what ends the names of values, and of files that are not values yet; nothing else is touched
_VALUE, _UNFINISHED = ".result", ".unfinished"
#: seconds after which nobody is still writing such a file
_STALE: Final = 3600.0
#: what django-storages calls the permission to replace a file: S3, Google Cloud and others; Azure
_OVERWRITES: Final = ("file_overwrite", "overwrite_files")
#: how often a value is saved that others save at the same time, in a storage that renames instead of replacing
_ATTEMPTS: Final = 10


class StorageStore(KeyValueStore):
    """Results in a storage of Django: ``storage://alias`` or ``storage://alias/some/prefix``; no options.

    For large values, kept for long: each is a file. Take a storage that is not served to the public; results in
    MEDIA_ROOT are, to whoever knows a task's id. Credentials and permissions are those of the alias; so are timeouts, but
    S3's are ours where it has none. Google Cloud's and Azure's clients try for minutes when nobody answers, and the alias
    cannot always tell them not to; ``gs://`` and ``azureblockblob://`` give up in time.

    Files on disk are written beside and swapped in. S3, Google Cloud, Azure and others of django-storages replace a file
    as one, also where the alias says that uploads do not (``file_overwrite``): a storage of our own is made with the
    alias's options and that one. Any other storage is asked to delete, then to save: for a moment there is no value.

    A storage knows when a file was saved, not when it is over: ``sweep`` deletes what is older than the longest time
    anybody puts values with. On an object store that is a request for each file; a rule for the bucket is cheaper.
    """

    expires: ClassVar[bool] = False

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        only_known(options, (), store="storage://")
        scheme, _, rest = url.partition("://")
        alias, _, prefix = rest.partition("/")
        if scheme != "storage" or not alias:
            raise StoreConfigError("storage://: write the alias of a storage, storage://default/results.")
        if alias not in storages.backends:
            hint = nearest(alias, storages.backends) or "."
            raise StoreConfigError(f"storage://: STORAGES has no alias {alias!r}{hint}")
        self._prefix = "/".join(part for part in prefix.split("/") if part)
        if ".." in self._prefix.split("/"):
            raise StoreConfigError("storage://: a prefix leads nowhere but down; leave out '..'.")
        self._storage = _open(alias)
        self._lock = threading.Lock()
        location = str(getattr(self._storage, "location", ""))
        # Azure's lists everything below, by its name in the container.
        self._listed_as = {"", self._prefix, f"{location}/{self._prefix}".strip("/")}

    @property
    def is_private(self) -> bool:
        """Whether no other process sees the values."""
        return isinstance(self._storage, InMemoryStorage)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Save, in the place of what was there."""
        if isinstance(self._storage, FileSystemStorage):
            self._swap_in(self._storage, key, value)
        elif any(getattr(self._storage, name, False) for name in _OVERWRITES):
            saved = self._storage.save(self._name(key), ContentFile(value))
            if saved != self._name(key):
                raise OSError("The storage saved a value under another name than it was asked to.")
        else:
            self._replace(self._name(key), value)

    def get(self, key: str) -> bytes | None:
        """The file's content."""
        name = self._name(key)
        try:
            with self._storage.open(name, "rb") as file:
                value: bytes = file.read()
                return value
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception:
            # Azure's says it in a way of its own. When nobody answers, ``exists`` raises, too.
            if self._storage.exists(name):
                raise
            return None

    def delete(self, key: str) -> None:
        """Delete the file."""
        with contextlib.suppress(FileNotFoundError):
            self._storage.delete(self._name(key))

    def sweep(self, now: float, longest: float) -> int:
        """Delete what was saved longer ago than ``longest``, and what somebody who died has left unfinished."""
        swept = 0
        try:
            names = self._storage.listdir(self._prefix)[1]
        except FileNotFoundError:
            return 0
        for listed in names:
            directory, _, file = listed.rpartition("/")
            if directory not in self._listed_as:
                continue
            name = f"{self._prefix}/{file}".lstrip("/")
            # Somebody else may be deleting it, too.
            with contextlib.suppress(FileNotFoundError):
                if file.endswith(_VALUE) and self._saved_at(name) + longest < now:
                    self._storage.delete(name)
                    swept += 1
                elif file.endswith(_UNFINISHED) and self._saved_at(name) + _STALE < now:
                    self._storage.delete(name)
        return swept

    def _swap_in(self, storage: FileSystemStorage, key: str, value: bytes) -> None:
        unfinished = storage.save(self._name(uuid.uuid4().hex, _UNFINISHED), ContentFile(value))
        try:
            Path(storage.path(unfinished)).replace(storage.path(self._name(key)))
        except BaseException:
            storage.delete(unfinished)
            raise

    def _replace(self, name: str, value: bytes) -> None:
        for _ in range(_ATTEMPTS):
            with self._lock:
                with contextlib.suppress(FileNotFoundError):
                    self._storage.delete(name)
                saved = self._storage.save(name, ContentFile(value))
                if saved == name:
                    return
                # Another process was faster.
                self._storage.delete(saved)
        raise OSError("The storage saves values under other names than it is asked to.")

    def _saved_at(self, name: str) -> float:
        moment: datetime = self._storage.get_modified_time(name)
        return (timezone.make_aware(moment) if timezone.is_naive(moment) else moment).timestamp()

    def _name(self, key: str, kind: str = _VALUE) -> str:
        return f"{self._prefix}/{key}{kind}".lstrip("/")


def _open(alias: str) -> Storage:
    """A storage of our own, with connections of its own: those of Django's may have been inherited from a parent."""
    arguments: Any = storages.backends[alias]
    try:
        storage: Storage = storages.create_storage(arguments)
        for name in _OVERWRITES:
            if getattr(storage, name, None) is False:
                changed = {**arguments.get("OPTIONS", {}), name: True}
                storage = storages.create_storage({**arguments, "OPTIONS": changed})
    except (ImproperlyConfigured, InvalidStorageError) as error:
        raise StoreConfigError(f"storage://: the storage {alias!r} cannot be made: {error}") from error
    _limit(storage)
    # What lives in memory would be another memory.
    return storages[alias] if isinstance(storage, InMemoryStorage) else storage


def _limit(storage: Storage) -> None:
    """Give boto3 our timeouts where the alias says nothing; its own are a minute, five times."""
    given: Any = getattr(storage, "client_config", None)
    if hasattr(given, "merge"):
        ours = type(given)(
            connect_timeout=CONNECT_TIMEOUT, read_timeout=OPERATION_TIMEOUT, retries={"total_max_attempts": 2}
        )
        storage.client_config = ours.merge(given)  # type: ignore[attr-defined]  # it has one
