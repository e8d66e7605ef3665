"""The private brokers and the network between: they break as ordered, and nothing of them outlives their owner."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.servers import QueueInfo, RabbitMQServer, RedisServer, ServerFailed, TCPProxy, shared_broker
from tests.waiting import wait_until

# They know nothing of databases: once is enough.
pytestmark = [pytest.mark.once, pytest.mark.databases("sqlite")]

REPOSITORY = Path(__file__).parents[2]
QUEUE = kombu.Queue("numbers", durable=True)
#: Seconds until "nothing comes" is believed.
SILENCE = 0.3


def publish(url: str, number: int) -> None:
    """Publish a persistent message; return once the broker has confirmed it."""
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        connection.Producer().publish(number, routing_key=QUEUE.name, declare=[QUEUE], delivery_mode=2)


def messages(url: str) -> list[Any]:
    """Return what is in the queue, and leave it empty."""
    found = []
    with kombu.Connection(url) as connection:
        queue = QUEUE(connection.default_channel)
        while (message := queue.get(no_ack=True)) is not None:
            found.append(message.decode())
    return found


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        # Reset: it stopped to listen while the connection waited to be accepted.
        return False
    return True


# RabbitMQ


@pytest.mark.parametrize("end", [RabbitMQServer.stop, RabbitMQServer.kill])
def test_a_confirmed_message_outlives_every_end_of_rabbitmq(
    private_rabbitmq: RabbitMQServer, end: Callable[[RabbitMQServer], None]
) -> None:
    port = private_rabbitmq.port
    publish(private_rabbitmq.url(), 1)
    end(private_rabbitmq)
    assert not answers(port)
    private_rabbitmq.start()
    assert private_rabbitmq.port == port
    assert messages(private_rabbitmq.url()) == [1]


def test_virtual_hosts_are_apart_and_go_with_what_is_in_them(private_rabbitmq: RabbitMQServer) -> None:
    for name in ("one", "other"):
        private_rabbitmq.make_vhost(name)
    publish(private_rabbitmq.url("one"), 1)
    assert private_rabbitmq.queue_info("one") == {QUEUE.name: QueueInfo(messages=1, unacked=0, consumers=0)}
    assert private_rabbitmq.queue_info("other") == {}
    for _ in range(2):
        private_rabbitmq.drop_vhost("one")
    private_rabbitmq.make_vhost("one")
    assert private_rabbitmq.queue_info("one") == {}
    assert "other" in private_rabbitmq.ctl("list_vhosts").split()


def test_queues_tell_what_is_unacked_and_who_consumes(private_rabbitmq: RabbitMQServer) -> None:
    url = private_rabbitmq.url()
    publish(url, 1)
    publish(url, 2)
    with kombu.Connection(url) as connection, connection.Consumer([QUEUE], on_message=print, prefetch_count=1):
        connection.drain_events(timeout=5)
        assert private_rabbitmq.queue_info() == {QUEUE.name: QueueInfo(messages=2, unacked=1, consumers=1)}


def test_a_wiped_rabbitmq_has_nothing_but_its_account(private_rabbitmq: RabbitMQServer) -> None:
    publish(private_rabbitmq.url(), 1)
    private_rabbitmq.make_vhost("one")
    private_rabbitmq.reset()
    assert private_rabbitmq.queue_info() == {}
    assert private_rabbitmq.ctl("list_vhosts").split() == ["name", "/"]
    publish(private_rabbitmq.url(), 2)
    assert messages(private_rabbitmq.url()) == [2]


def test_a_memory_alarm_holds_publishers_until_it_is_cleared(private_rabbitmq: RabbitMQServer) -> None:
    url = private_rabbitmq.url()
    publish(url, 1)
    private_rabbitmq.set_memory_alarm(True)
    connection = kombu.Connection(url, transport_options={"confirm_publish": True})
    with pytest.raises(TimeoutError):
        connection.Producer().publish(2, routing_key=QUEUE.name, confirm_timeout=SILENCE)
    # The broker does not read from it, so it would not answer a closing either.
    connection.collect()
    private_rabbitmq.set_memory_alarm(False)
    publish(url, 3)
    assert {1, 3} <= set(messages(url))


def test_all_connections_can_be_closed(private_rabbitmq: RabbitMQServer) -> None:
    with kombu.Connection(private_rabbitmq.url()) as connection:
        connection.connect()
        private_rabbitmq.close_all_connections()
        with pytest.raises(connection.connection_errors, match="CONNECTION_FORCED"):
            connection.drain_events(timeout=5)


def test_a_late_acknowledgement_closes_the_channel_after_the_consumer_timeout(private_rabbitmq: RabbitMQServer) -> None:
    private_rabbitmq.set_consumer_timeout(100)
    publish(private_rabbitmq.url(), 1)
    with kombu.Connection(private_rabbitmq.url()) as connection:
        connection.Consumer([QUEUE], on_message=print).consume()
        connection.drain_events(timeout=5)
        with pytest.raises(connection.channel_errors, match="PRECONDITION_FAILED"):
            connection.drain_events(timeout=10)
    assert messages(private_rabbitmq.url()) == [1]


@pytest.mark.parametrize("state", ["stopped", "frozen", "alarmed", "half stopped"])
def test_a_renewed_rabbitmq_is_as_new(private_rabbitmq: RabbitMQServer, state: str) -> None:
    publish(private_rabbitmq.url(), 1)
    match state:
        case "stopped":
            private_rabbitmq.kill()
        case "frozen":
            private_rabbitmq.freeze()
        case "alarmed":
            private_rabbitmq.set_memory_alarm(True)
        case "half stopped":
            private_rabbitmq.ctl("stop_app")
    private_rabbitmq.renew()
    assert private_rabbitmq.queue_info() == {}
    publish(private_rabbitmq.url(), 2)
    assert messages(private_rabbitmq.url()) == [2]


def test_what_rabbitmq_cannot_evaluate_is_an_error(private_rabbitmq: RabbitMQServer) -> None:
    with pytest.raises(ServerFailed, match="undef"):
        private_rabbitmq.evaluate("no:such()")


# Redis


def test_redis_forgets_everything_at_its_end(private_redis: RedisServer) -> None:
    port = private_redis.port
    publish(private_redis.url(3), 1)
    private_redis.kill()
    assert not answers(port)
    private_redis.start()
    assert private_redis.port == port
    assert messages(private_redis.url(3)) == []


def test_an_appendonly_redis_keeps_what_it_has_acknowledged() -> None:
    with RedisServer(durable=False, appendonly=True) as server:
        publish(server.url(), 1)
        server.kill()
        server.start()
        assert messages(server.url()) == [1]


def test_redis_databases_are_apart_and_emptied_alone_or_together(private_redis: RedisServer) -> None:
    dbs = [private_redis.next_db() for _ in range(3)]
    assert dbs == [1, 2, 3]
    for db in dbs:
        publish(private_redis.url(db), db)
    private_redis.flushdb(1)
    assert messages(private_redis.url(1)) == []
    assert messages(private_redis.url(2)) == [2]
    private_redis.flushall()
    assert messages(private_redis.url(3)) == []


def test_redis_wants_its_password(private_redis: RedisServer) -> None:
    with socket.create_connection(("127.0.0.1", private_redis.port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(64).startswith(b"-NOAUTH")
    with pytest.raises(ServerFailed, match="ERR unknown command"):
        private_redis.command("NONSENSE")


# Both


@pytest.mark.parametrize(
    ("fixture", "greeting"), [("private_rabbitmq", b"AMQP\x00\x00\x09\x01"), ("private_redis", b"PING\r\n")]
)
def test_a_frozen_server_answers_nobody_until_it_is_thawed(
    fixture: str, greeting: bytes, request: pytest.FixtureRequest
) -> None:
    server: RabbitMQServer | RedisServer = request.getfixturevalue(fixture)
    publish(server.url(), 1)
    server.freeze()
    with socket.create_connection(("127.0.0.1", server.port), timeout=SILENCE) as connection:
        connection.sendall(greeting)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        server.thaw()
        connection.settimeout(5)
        assert connection.recv(1)
    assert messages(server.url()) == [1]


def test_each_test_has_a_place_of_its_own_on_the_shared_brokers(
    amqp_url: str, amqp_vhost: str, redis_url: str, redis_db: int
) -> None:
    for url, number in ((amqp_url, 1), (redis_url, 2)):
        publish(url, number)
        assert messages(url) == [number]
    assert list(shared_broker("amqp").queue_info(amqp_vhost)) == [QUEUE.name]
    assert redis_db > 0


def test_the_launcher_hands_brokers_to_the_command_and_ends_them_after_it() -> None:
    program = """
        import json, os
        from tests.servers import shared_broker
        amqp, redis = shared_broker("amqp"), shared_broker("redis")
        amqp.make_vhost("ours")
        redis.flushall()
        ports = [amqp.port, amqp.control_port, amqp.epmd_port, redis.port]
        print(json.dumps([amqp.evaluate("os:getpid()"), str(amqp.directory), ports]))
    """
    command = ["-m", "tests.servers", "run", "--only", "amqp", "--only", "redis", "--", sys.executable, "-c"]
    prefixes = ("TASKQ_TEST_AMQP_", "TASKQ_TEST_REDIS_")
    done = subprocess.run(
        [sys.executable, *command, "\n".join(line.strip() for line in program.splitlines())],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith(prefixes)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *announced, told = done.stdout.splitlines()
    pid, directory, ports = json.loads(told)
    assert f"port {ports[0]}, {directory}" in announced[0]
    assert not any(answers(port) for port in ports)
    assert not Path(f"/proc/{json.loads(pid)}").exists()
    assert not any(Path(line.split()[-1]).exists() for line in announced)


def test_no_part_of_rabbitmq_outlives_an_owner_that_is_killed() -> None:
    program = """
        import json
        from tests.servers import RabbitMQServer
        server = RabbitMQServer(durable=False).start()
        print(json.dumps([str(server.directory), [server.port, server.control_port, server.epmd_port]]), flush=True)
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        directory, ports = json.loads(owner.stdout.readline())
        assert all(answers(port) for port in ports)
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(answers(port) for port in ports), what="the end of the node and its epmd")
    wait_until(lambda: not Path(directory).exists(), what="the end of its directory")


# The network


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[TCPProxy]:
    with TCPProxy(echo) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: TCPProxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


Connect = Callable[[], socket.socket]


def says_back(connection: socket.socket, data: bytes) -> bool:
    connection.settimeout(5)
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        more = connection.recv(65536)
        if not more:
            return False
        received += more
    return received == data


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENCE)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    return False


def test_the_proxy_forwards_and_passes_ends_on(proxy: TCPProxy, connect: Connect) -> None:
    connection = connect()
    assert says_back(connection, b"hello")
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""
    wait_until(lambda: proxy.connections == 0, what="the end of the connection")


def test_a_swallowing_proxy_keeps_connections_and_drops_all_bytes(proxy: TCPProxy, connect: Connect) -> None:
    old, idle = connect(), connect()
    assert says_back(old, b"hello")
    assert says_back(idle, b"hello")
    proxy.swallow()
    new = connect()
    for connection in (old, new):
        connection.sendall(b"lost")
        assert is_silent(connection)
    proxy.resume()
    assert says_back(connect(), b"hello")
    assert says_back(idle, b"hello")
    # They lost bytes, and so are dead for good.
    for connection in (old, new):
        connection.sendall(b"lost")
        assert is_silent(connection)


def test_a_stalling_proxy_holds_everything_until_it_goes_on(proxy: TCPProxy, connect: Connect) -> None:
    old = connect()
    assert says_back(old, b"hello")
    proxy.stall()
    new = connect()
    for connection in (old, new):
        connection.sendall(b"late")
        assert is_silent(connection)
    proxy.resume()
    for connection in (old, new):
        connection.settimeout(5)
        assert connection.recv(4) == b"late"


def test_a_cut_closes_what_is_open_and_nothing_else(proxy: TCPProxy, connect: Connect) -> None:
    old = connect()
    assert says_back(old, b"hello")
    proxy.cut()
    assert proxy.connections == 0
    assert old.recv(1) == b""
    assert says_back(connect(), b"hello")


def test_a_refusing_proxy_lets_nobody_new_in(proxy: TCPProxy, connect: Connect) -> None:
    old, port = connect(), proxy.port
    assert says_back(old, b"hello")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert says_back(old, b"still here")
    proxy.resume()
    assert proxy.port == port
    assert says_back(connect(), b"hello")


def test_a_connection_to_a_server_that_is_not_there_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with TCPProxy(port) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        assert connection.recv(1) == b""


def test_a_closed_proxy_leaves_no_thread_and_no_port(proxy: TCPProxy, connect: Connect) -> None:
    connection = connect()
    assert says_back(connection, b"hello")
    proxy.swallow()
    proxy.close()
    proxy.close()
    assert connection.recv(1) == b""
    assert not answers(proxy.port)
    assert "proxy" not in {thread.name for thread in threading.enumerate()}
