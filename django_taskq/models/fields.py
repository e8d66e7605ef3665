"""Column and index types that mean the same on every database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Q
from django.utils import timezone

from ..database import moment_param, read_instant


class InstantField(models.DateTimeField):  # type: ignore[type-arg]  # generic only in the stubs
    """A moment, stored in UTC also where ``USE_TZ = False``.

    Rows are written by the database's own clock. PostgreSQL keeps moments as such; SQLite and
    MySQL keep bare digits, which are UTC here whatever the project's settings, those of the database included.
    """

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """``value`` as the column holds it."""
        if isinstance(value, datetime) and connection.vendor != "postgresql":
            moment = value if prepared else self.get_prep_value(value)
            return moment_param(connection, timezone.make_aware(moment) if timezone.is_naive(moment) else moment)
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """The moment as this project reads moments: aware, or naive local time without ``USE_TZ``."""
        return read_instant(value, connection)


class NameField(models.CharField):  # type: ignore[type-arg]  # generic only in the stubs
    """Text that is the same to the letter only.

    MySQL's and MariaDB's default collations take "Mail", "mäil" and "mail " for "mail": a worker would
    run tasks of queues it does not serve.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """The column's type, with a collation where the default one will not do."""
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql" and parameters["type"] is not None:
            parameters["type"] += " CHARACTER SET utf8mb4"
            mariadb = connection.mysql_is_mariadb  # type: ignore[attr-defined]
            parameters["collation"] = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        return parameters


class StateIndex(models.Index):
    """An index over the rows in some states only, small beside any history.

    Partial where the database has partial indexes; elsewhere (MySQL, MariaDB) the state comes
    first in a full index, which reads as fast and costs a little more to write. An ordinary
    ``condition`` would be dropped there, with a warning on every project's checks.
    """

    def __init__(
        self, *fields: str, states: Sequence[str], name: str, only_set: bool = False, unset_elsewhere: bool = False
    ) -> None:
        """``only_set``: leave out rows whose first field is NULL, where the database can.

        ``unset_elsewhere``: that field is NULL in all other states, so that a full index does without the state; or one
        over all rows is as useful, and as good as never written again since no move changes its fields.
        """
        self.states = tuple(str(state) for state in states)  # plain strings, for migrations
        self.only_set = only_set
        self.unset_elsewhere = unset_elsewhere
        super().__init__(fields=fields, name=name)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """For migrations."""
        options: dict[str, Any] = {"states": self.states, "name": self.name, "only_set": self.only_set}
        if self.unset_elsewhere:
            options["unset_elsewhere"] = True
        return f"{type(self).__module__}.{type(self).__qualname__}", tuple(self.fields), options

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Any:
        """The statement of the vendor at hand."""
        if schema_editor.connection.features.supports_partial_indexes:
            # A single state is written with "=", as the claims write it, so that planners match it.
            where = Q(state=self.states[0]) if len(self.states) == 1 else Q(state__in=self.states)
            if self.only_set:
                where &= Q(**{f"{self.fields[0]}__isnull": False})
            index = models.Index(fields=self.fields, name=self.name, condition=where)
        else:
            fields = self.fields if self.unset_elsewhere else ["state", *self.fields]
            index = models.Index(fields=fields, name=self.name)
        return index.create_sql(model, schema_editor, using, **kwargs)
