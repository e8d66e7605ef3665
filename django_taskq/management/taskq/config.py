"""``taskq config``: each effective value of ``OPTIONS``, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django.core.management.base import CommandParser

from ...conf import BackendOptions
from .console import Console, add_format
from .subcommand import Subcommand, add_backend, chosen_backends

HIDDEN = "***"

#: a password in a URL (RFC 3986, "User Information"), and in its query or in options
_IN_URL = re.compile(r"(://[^/@:;\s]*:)[^;\s]*@")
_IN_QUERY = re.compile(r"([?&;][^=&;]*(?:password|passwd|secret|token|key|credential)[^=&;]*=)[^&;]*", re.IGNORECASE)
_SECRET = re.compile(r"password|passwd|secret|token|credential|^(?!.*routing).*key$", re.IGNORECASE)


def _add(parser: CommandParser) -> None:
    add_backend(parser)
    add_format(parser)


def _run(console: Console, options: Mapping[str, Any]) -> int:
    rows = []
    for backend in chosen_backends(options):
        config = backend.config
        rows.append({"backend": backend.alias, "key": "QUEUES", "value": sorted(backend.queues), "source": "settings"})
        for one in fields(BackendOptions):
            given = one.name in backend.options
            rows.append(
                {
                    "backend": backend.alias,
                    "key": one.name,
                    "value": mask(one.name, backend.options[one.name] if given else getattr(config, one.name)),
                    "source": "settings" if given else "default",
                }
            )
        rows.append(
            {"backend": backend.alias, "key": "(database of the rows)", "value": backend.database, "source": "derived"}
        )
    console.rows(rows, options["format"])
    return 0


def mask(name: str, value: Any) -> Any:
    """A value as it may be shown: without passwords, keys and tokens."""
    match value:
        case Mapping():
            return {str(key): mask(str(key), one) for key, one in value.items()}
        case str() if _SECRET.search(name) and value:
            return HIDDEN
        case str():
            return _IN_QUERY.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}@", value))
        case list() | tuple() | set() | frozenset():
            return [mask(name, one) for one in value]
        case int() | float() | bool() | None:
            return value
        case _:
            # Its text might tell what is in it.
            return f"<{type(value).__name__}>"


CONFIG = Subcommand(
    name="config", help="each effective value of OPTIONS, and where it comes from", arguments=_add, run=_run
)
