"""Pages of a table that may have any number of rows."""

from __future__ import annotations

from typing import Any, cast

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

#: rows that are counted and can be paged through; PostgreSQL counts these in some 3 ms, 10 million in seconds
MAX_ROWS = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # generic only in the stubs
    """Counts and shows the first ``MAX_ROWS`` rows only; ``is_cut`` tells whether there are more."""

    @cached_property
    def _found(self) -> int:
        # Without an order: which rows they are does not matter for the count.
        rows = cast("QuerySet[Any]", self.object_list)
        return rows.order_by()[: MAX_ROWS + 1].count()

    @cached_property
    def count(self) -> int:
        """Rows that can be paged through."""
        return min(self._found, MAX_ROWS)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than can be paged through."""
        return self._found > MAX_ROWS
