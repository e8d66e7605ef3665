"""Which database the tests of this process run on."""

from __future__ import annotations

import os

from tests.servers import VENDORS, Vendor


def chosen() -> Vendor:
    """Return what TASKQ_TEST_DB says: sqlite (the default), postgres or mariadb."""
    name = os.environ.get("TASKQ_TEST_DB", "sqlite")
    for vendor in VENDORS:
        if vendor == name:
            return vendor
    raise ValueError(f"TASKQ_TEST_DB={name!r}: it must be one of {', '.join(VENDORS)}")
