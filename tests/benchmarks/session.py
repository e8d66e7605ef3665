"""Repeated runs on one database and broker: what is run, in which order, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.catalogue import FIGURES
from tests.benchmarks.machine import Meter
from tests.benchmarks.plan import VARIABLE, Plan
from tests.benchmarks.scope import SETTINGS, BrokerName, place_of
from tests.benchmarks.variant import Variant
from tests.reaper import reaper
from tests.servers import SERVERS, Databases, RabbitMQServer, RedisServer, SQLiteDatabases, Vendor


class RunFailed(Exception):
    """A measurement did not come to its end; what it wrote is in the message."""


@dataclass(kw_only=True)
class Outcome:
    """What one variant did in one place: ``samples`` by the keys of ``FIGURES``, in the order of the runs."""

    variant: str
    facts: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        """Take the figures of one run."""
        for key, value in figures.items():
            self.samples.setdefault(f"{name}.{key}", []).append(value)

    def ordered(self) -> dict[str, list[float]]:
        """Return the samples in the order of the table."""
        return {key: self.samples[key] for key in FIGURES if key in self.samples}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant with a database and a virtual host of its own, since two of them may differ in tables and queues."""

    variant: Variant
    plan: Plan
    outcome: Outcome

    def run(self, name: str) -> dict[str, Any]:
        """Run one action of the variant's client and return its answer."""
        file = Path(self.plan.directory) / "plan.json"
        replace(self.plan, **SETTINGS.get(name, {})).save(file)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DJANGO_"))},
            "PYTHONPATH": str(self.variant.root),
            VARIABLE: str(file),
        }
        client = subprocess.Popen(
            [sys.executable, "-m", self.variant.client, name],
            cwd=self.plan.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        reaper().watch(client.pid)
        try:
            out, err = client.communicate()
        finally:
            if client.poll() is None:
                client.terminate()
                client.wait()
            reaper().release(client.pid)
        if client.returncode != 0:
            raise RunFailed(f"{name} ({self.variant.name}) ended with {client.returncode}:\n{err}")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer


class Session:
    """One database server, or directory, one broker, and the candidates on them; use it in a ``with`` block."""

    def __init__(
        self,
        vendor: Vendor,
        broker: BrokerName,
        variants: Sequence[Variant],
        directory: Path,
        *,
        make_plan: Callable[..., Plan],
        say: Callable[[str], None],
    ) -> None:
        self._vendor = vendor
        self._broker = broker
        self._place = place_of(vendor, broker)
        self._variants = variants
        self._directory = directory
        self._make_plan = make_plan
        self._say = say
        self._stack = ExitStack()
        self._server = 0
        self._broker_server = 0
        self.candidates: list[Candidate] = []
        #: The share of the machine's CPU that other programs used, by run.
        self.others: list[float] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            databases: Databases = SQLiteDatabases(self._directory)
            if self._vendor != "sqlite":
                server = stack.enter_context(SERVERS[self._vendor](durable=True))
                self._server = server.pid
                databases = server.databases
            url_of = self._start_broker(stack)
            for number, variant in enumerate(self._variants):
                self.candidates.append(
                    self._candidate(variant, databases, f"benchmark_{self._broker}_{number}", url_of(number))
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _start_broker(self, stack: ExitStack) -> Callable[[int], str]:
        """Start the message broker, if there is to be one; return what gives the URL for each candidate."""
        if self._broker == "amqp":
            rabbitmq = stack.enter_context(RabbitMQServer(durable=True))
            self._broker_server = rabbitmq.pid

            def vhost(number: int) -> str:
                rabbitmq.make_vhost(f"benchmark_{number}")
                return rabbitmq.url(f"benchmark_{number}")

            return vhost
        if self._broker == "redis":
            redis = stack.enter_context(RedisServer(durable=True, appendonly=True))
            self._broker_server = redis.pid
            return redis.url
        return lambda _number: "database://"

    def _candidate(self, variant: Variant, databases: Databases, name: str, broker: str) -> Candidate:
        databases.create_database(name)
        directory = self._directory / f"{self._place}-{name}"
        directory.mkdir()
        plan = self._make_plan(
            database=databases.settings(name),
            server=self._server,
            broker=broker,
            broker_server=self._broker_server,
            package=str(variant.root),
            directory=str(directory),
        ).divided(variant.divisor)
        candidate = Candidate(variant=variant, plan=plan, outcome=Outcome(variant=variant.name))
        candidate.run("prepare")
        return replace(candidate, outcome=Outcome(variant=variant.name, facts=candidate.run("facts")))

    def repeat(self, names: Sequence[str], times: int, *, prefix: str = "") -> None:
        """Run each measurement `times` times; candidates take turns, and who begins changes every time.

        ``prefix``: the figures' keys begin with it instead of the measurement's name.
        """
        for turn in range(times):
            for name in names:
                candidates = self._candidates_for(name)
                for candidate in candidates if turn % 2 == 0 else candidates[::-1]:
                    self._say(f"{self._place}: {prefix or name}, run {turn + 1} of {times}, {candidate.variant.name}")
                    before = self._meter()
                    figures = candidate.run(name)
                    self.others.append(self._meter().others_since(before))
                    candidate.outcome.add(prefix or name, figures)

    def _candidates_for(self, name: str) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.variant.can(name)]

    def _meter(self) -> Meter:
        return Meter.read([pid for pid in (self._server, self._broker_server) if pid])

    def repeat_with_history(self, times: int) -> None:
        """Drain again beside the plan's history, and set each run against that without history."""
        candidates = self._candidates_for("drain")
        for candidate in candidates:
            self._say(f"{self._place}: {candidate.plan.history:,} finished rows, {candidate.variant.name}")
            candidate.run("fill")
        self.repeat(["drain"], times, prefix="history")
        for candidate in candidates:
            samples = candidate.outcome.samples
            for without, beside in zip(samples["drain.rate"], samples["history.rate"], strict=True):
                candidate.outcome.add("history", {"share": beside / without * 100})
