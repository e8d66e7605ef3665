"""Which measurement makes sense where. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, get_args

from tests.servers import Vendor

#: ``database``: the embedded broker, no messages.
BrokerName = Literal["database", "amqp", "redis"]
BROKER_NAMES: Final[tuple[BrokerName, ...]] = get_args(BrokerName)

#: What is set for measurements of tasks without rows: fields of ``Plan``. Of a task without a row and without a result
#: nothing is left but its message.
UNRECORDED: Mapping[str, Mapping[str, Any]] = {
    "unrecorded-enqueue": {"results": "disabled://"},
    "unrecorded-unconfirmed": {"results": "disabled://", "confirm": False},
    "unrecorded-enqueue-many": {"results": "disabled://"},
    "unrecorded-drain": {"results": "disabled://"},
}

#: The same for measurements of replies.
RPC: Mapping[str, Mapping[str, Any]] = {
    name: {"results": "rpc://"}
    for name in ("rpc-round-trip", "rpc-in-flight", "rpc-threads", "rpc-drain", "rpc-recorded")
}

#: What is set for a measurement, where it is not what the command line says.
SETTINGS: Mapping[str, Mapping[str, Any]] = {**UNRECORDED, **RPC}

#: The measurements, in the order they are run.
NAMES = ("enqueue", "enqueue-many", "drain", "round-trip", "in-flight", "idle", *SETTINGS)

#: Measurements that get a result back.
_NEED_RESULTS = frozenset({"round-trip", "in-flight", "idle"})

#: What there is not: without a message broker every task has a row; Redis answers each command, wanted or not.
_LEFT_OUT: Mapping[str, frozenset[str]] = {
    "database": frozenset(SETTINGS),
    "amqp": frozenset(),
    "redis": frozenset({"unrecorded-unconfirmed"}),
}

#: Other programs that can be measured beside ours.
PeerName = Literal["celery"]
PEER_NAMES: Final[tuple[PeerName, ...]] = get_args(PeerName)
#: What they are measured at, and over which broker.
PEER_MEASURES: Final = ("rpc-round-trip", "rpc-in-flight", "rpc-threads", "rpc-drain")
_PEER_BROKER: Final = "amqp"


def has_peers(names: Collection[str], broker: BrokerName) -> bool:
    """Tell whether another program can be measured beside ours at any of these."""
    return broker == _PEER_BROKER and not set(PEER_MEASURES).isdisjoint(names)


def fitting(names: Collection[str], broker: BrokerName, results: str) -> list[str]:
    """Return those that can be measured with this broker and these results, in the order they are run."""
    left_out = _LEFT_OUT[broker] | (_NEED_RESULTS if results == "disabled://" else frozenset())
    return [name for name in NAMES if name in names and name not in left_out]


def place_of(vendor: Vendor, broker: BrokerName) -> str:
    """Return what a database and a broker together are called: "postgres", "postgres+amqp"."""
    return vendor if broker == "database" else f"{vendor}+{broker}"
