"""A private RabbitMQ."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar

from tests.reaper import reaper
from tests.servers.certificates import TLSServer
from tests.servers.programs import find, rabbitmq_program, search_path
from tests.servers.server import PATIENCE, Mode, Server, ServerFailed, accepts, free_port

#: Account of the private node with all rights; the password differs every time.
USER = "taskq"
#: Milliseconds: RabbitMQ's own default of what `set_consumer_timeout` sets.
CONSUMER_TIMEOUT = 1_800_000
#: Emulator flags of node and client programs: two cores are shared with the tests, so no busy waiting; loopback only.
_EMULATOR = "+S 2:2 +SDcpu 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """What a queue holds just now."""

    #: Ready and unacked together.
    messages: int
    unacked: int
    consumers: int


class RabbitMQ:
    """A RabbitMQ node that runs on this machine, whoever started it.

    Everything but `ctl` goes through Erlang's own ``erl_call``, which takes some 20 ms where rabbitmqctl takes a
    second of a whole core.
    """

    def __init__(self, *, port: int, password: str, directory: Path, control_port: int, epmd_port: int) -> None:
        self.port = port
        self.password = password
        #: Holds the cookie by which nodes and client programs know each other.
        self.directory = directory
        #: Where the node speaks Erlang's distribution protocol.
        self.control_port = control_port
        self.epmd_port = epmd_port

    @property
    def node(self) -> str:
        """The node's name in Erlang."""
        return f"{self.directory.name}@localhost"

    def url(self, vhost: str = "/", *, user: str = USER, password: str | None = None, port: int | None = None) -> str:
        """Return kombu's URL of a virtual host; another `port` is that of a proxy before the node."""
        return f"amqp://{user}:{password or self.password}@127.0.0.1:{port or self.port}/{vhost}"

    def evaluate(self, expressions: str) -> str:
        """Run comma-separated Erlang expressions in the node; return what they printed and the last one's value.

        Unlike rabbitmqctl this also answers while the broker is stopped inside its node.
        """
        done = subprocess.run(
            [
                *(find("erl_call", package="erlang-base"), "-address", f"127.0.0.1:{self.control_port}"),
                # A name from the node, which answers only one client of a name at a time.
                *("-R", "-fetch_stdout", "-e"),
            ],
            input=f"{expressions}.\n",
            env=self.program_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        printed, found, value = done.stdout.rpartition("{ok, ")
        if done.returncode or not found:
            raise ServerFailed(f"{expressions}: {done.stdout}{done.stderr}")
        return printed + value.removesuffix("}")

    def ctl(self, *arguments: str) -> str:
        """Return what rabbitmqctl prints: a second of a core each, so rather `evaluate` if it is called often."""
        return subprocess.run(
            [rabbitmq_program("rabbitmqctl"), "--quiet", "--node", self.node, *arguments],
            env={
                **self.program_environment(),
                "RABBITMQ_CTL_ERL_ARGS": _EMULATOR,
                # Any free port, rather than the eleven that other clients use, too.
                "RABBITMQ_CTL_DIST_PORT_MIN": "0",
                "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout

    def make_vhost(self, name: str) -> None:
        """Create a virtual host in which our user may do everything."""
        self.evaluate(
            f"ok = rabbit_vhost:add({_binary(name)}, {_binary(USER)}), ok = rabbit_auth_backend_internal:set_permissions("
            f'{_binary(USER)}, {_binary(name)}, <<".*">>, <<".*">>, <<".*">>, {_binary(USER)})'
        )

    def drop_vhost(self, name: str) -> None:
        """Drop a virtual host and all that is in it, if it is there; connections to it are closed."""
        self.evaluate(
            f"case rabbit_vhost:exists({_binary(name)}) of "
            f"true -> rabbit_vhost:delete({_binary(name)}, {_binary(USER)}); false -> ok end"
        )

    def queue_info(self, vhost: str = "/") -> dict[str, QueueInfo]:
        """Return what each queue of the virtual host holds, by its name."""
        text = self.evaluate(
            "io:put_chars(rabbit_json:encode([#{name => Name, messages => Messages, unacked => Unacked, consumers =>"
            " Consumers} || [{name, {resource, _, _, Name}}, {messages, Messages}, {messages_unacknowledged, Unacked},"
            f" {{consumers, Consumers}}] <- rabbit_amqqueue:info_all({_binary(vhost)},"
            " [name, messages, messages_unacknowledged, consumers])]))"
        )
        return {queue.pop("name"): QueueInfo(**queue) for queue in json.loads(text.removesuffix("ok"))}

    def close_all_connections(self, reason: str = "closed by a test") -> None:
        """Close every client's connection, with an error 320."""
        self.evaluate(
            f"ok = rabbit_networking:close_connections(rabbit_networking:connections(), {json.dumps(reason)})"
        )

    def set_memory_alarm(self, on: bool) -> None:
        """Raise the alarm that blocks every publisher, or clear it."""
        alarms = self.evaluate(
            f"vm_memory_monitor:set_vm_memory_high_watermark({0.0 if on else 0.4}), rabbit_alarm:get_alarms()"
        )
        if ("memory" in alarms) is not on:
            raise ServerFailed(f"The memory alarm is not {'on' if on else 'off'}: {alarms}")

    def set_consumer_timeout(self, milliseconds: int = CONSUMER_TIMEOUT) -> None:
        """Bound how long a delivery may stay unacked, on channels opened from now on; looked at every second."""
        self.evaluate(
            f"application:set_env(rabbit, consumer_timeout, {milliseconds}),"
            " application:set_env(rabbit, channel_tick_interval, 1000)"
        )

    def reset(self) -> None:
        """Wipe the broker: what stop_app, reset and start_app do. The default virtual host and our user are back."""
        self.evaluate("ok = rabbit:stop(), ok = rabbit_mnesia:reset(), ok = rabbit:start()")
        deadline = time.monotonic() + PATIENCE
        while not self.is_booted:
            if time.monotonic() > deadline:
                raise ServerFailed("RabbitMQ did not start again after it was reset")
            time.sleep(0.02)

    @property
    def is_booted(self) -> bool:
        """Whether the broker in the node has started for good.

        It serves clients a moment earlier; but stopped and started within that moment it stays stopped, because the
        second start takes the end of the first for its own.
        """
        return self.evaluate("{rabbit_boot_state:get(), whereis(rabbit_boot)}") == "{ready, undefined}"

    def program_environment(self) -> dict[str, str]:
        """Return what Erlang's programs need to find the node and be believed."""
        return {
            "PATH": search_path(),
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Not the machine's own settings, in any of the three places.
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
        }


class RabbitMQServer(Server, RabbitMQ):
    """A private RabbitMQ node with an epmd, the port mapper of Erlang's nodes, of its own.

    `durable` changes nothing: RabbitMQ cannot leave out the fsync before it confirms a persistent message.
    """

    vendor = "amqp"
    accounts = ("rabbitmq",)
    # RabbitMQ has no signal for an immediate stop: killed, it recovers at the next start.
    endings: ClassVar[dict[Mode, Signals]] = {"fast": SIGTERM, "immediate": SIGKILL}

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__(durable=durable)
        self.control_port = 0
        self.epmd_port = 0
        self._epmd: subprocess.Popen[bytes] | None = None

    def renew(self) -> None:
        """Make it a new node again, whatever was done to it, on the same port; runs afterwards."""
        if not self.runs:
            shutil.rmtree(self._data, ignore_errors=True)
            self.start()
            return
        self.thaw()
        self.reset()
        self.set_memory_alarm(False)
        self.set_consumer_timeout()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def environment(self) -> dict[str, str]:
        """Return the variables by which `shared_broker` finds this node in other processes."""
        return {
            **super().environment(),
            "TASKQ_TEST_AMQP_DIRECTORY": str(self.directory),
            "TASKQ_TEST_AMQP_CONTROL_PORT": str(self.control_port),
            "TASKQ_TEST_AMQP_EPMD_PORT": str(self.epmd_port),
        }

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self.control_port = free_port()
        self.epmd_port = free_port()

    def _initialise(self) -> None:
        self._write(".erlang.cookie", self.password)
        self._write("plugins", "[].")
        self._write("rabbitmq.conf", self._configuration())
        self._leave_plugins_out()

    def _configuration(self) -> str:
        return (
            f"default_user = {USER}\n"
            f"default_pass = {self.password}\n"
            "log.file = false\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            # A full disk is not what the tests are about.
            "disk_free_limit.absolute = 1MB\n"
        )

    def _leave_plugins_out(self) -> None:
        """Make a home for RabbitMQ's scripts with links to all but its plugins, none of which we use.

        Erlang looks for each of a thousand modules in one directory of its code path after the other: without those
        of 40 plugins a start takes 3 s instead of 5, and half of the processor's time.
        """
        original = rabbitmq_program("rabbitmq-server").resolve().parents[1]
        for directory in (self._home, self._home / "plugins"):
            directory.mkdir(mode=0o755)
        for name in ("sbin", "escript"):
            (self._home / name).symlink_to(original / name)
        for library in (original / "plugins").iterdir():
            if not library.name.startswith("rabbitmq_") or library.name.startswith("rabbitmq_prelaunch"):
                (self._home / "plugins" / library.name).symlink_to(library)

    @property
    def _home(self) -> Path:
        return self.directory / "home"

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        self._own(path)
        path.write_text(text)

    def _environment(self) -> dict[str, str]:
        return {
            **self.program_environment(),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.control_port),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILES": str(self.directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_SCRIPTS_DIR": str(self._home / "sbin"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _EMULATOR,
            # Bound to cores, the schedulers of two nodes would share one and leave the other idle.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # The script becomes the server, instead of waiting for it and passing signals on.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _command(self) -> list[str | Path]:
        return [rabbitmq_program("rabbitmq-server")]

    def _is_ready(self) -> bool:
        # The header of AMQP 0-9-1, section 4.2.2.
        return accepts(self.port, b"AMQP\x00\x00\x09\x01", answer=b"\x01") and self.is_booted

    def _start(self) -> None:
        # The node would start one itself if there were none, in the background and for good.
        self._epmd = self._spawn(
            [find("epmd", package="erlang-base"), "-port", str(self.epmd_port), "-address", "127.0.0.1"]
        )
        reaper().watch(self._epmd.pid)
        super()._start()

    def _end(self, number: Signals) -> None:
        try:
            super()._end(number)
        finally:
            if self._epmd is not None:
                self._epmd.kill()
                self._epmd.wait()
                reaper().release(self._epmd.pid)
                self._epmd = None


class TLSRabbitMQServer(TLSServer, RabbitMQServer):
    """A private RabbitMQ that also listens with TLS, by a certificate for 127.0.0.1 from an authority of its own.

    It listens on 127.0.0.2 as well, where the name in the certificate is another one's.
    """

    vendor = "amqp-tls"

    def tls_url(self, *, host: str = "127.0.0.1", port: int | None = None) -> str:
        """Return kombu's URL of the default virtual host; another `port` is that of a proxy before the node."""
        return f"amqps://{USER}:{self.password}@{host}:{port or self.tls_port}//"

    def _choose_ports(self) -> None:
        super()._choose_ports()
        # It has the number of the port in it.
        self._write("rabbitmq.conf", self._configuration())

    def _initialise(self) -> None:
        super()._initialise()
        self._certify()

    def _configuration(self) -> str:
        return (
            super()._configuration() + f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"listeners.ssl.2 = 127.0.0.2:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.authority}\n"
            f"ssl_options.certfile = {self._certificates.server}\n"
            f"ssl_options.keyfile = {self._certificates.key}\n"
        )


def _binary(text: str) -> str:
    """Return the text as Erlang writes a binary."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}"/utf8>>'
