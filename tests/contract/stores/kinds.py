"""All kinds of stores there are."""

from __future__ import annotations

from tests.contract.stores import basic, documents, objects
from tests.contract.stores.kind import StoreKind

KINDS: list[StoreKind] = [*basic.KINDS, *objects.KINDS, *documents.KINDS]
