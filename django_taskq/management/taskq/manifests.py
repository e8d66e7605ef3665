"""``taskq systemd`` and ``taskq k8s``: manifests for this project, ready to be adapted."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from .console import Console
from .subcommand import Subcommand

_UNIT = """\
# /etc/systemd/system/{name}.service
# systemctl daemon-reload && systemctl enable --now {name}
[Unit]
Description=Task queue worker of {project}
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User={user}
WorkingDirectory={directory}
Environment=DJANGO_SETTINGS_MODULE={settings}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec={grace}
WatchdogSec=30
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
"""

_DEPLOYMENT = """\
# kubectl apply -f {name}.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      # Longer than --shutdown-timeout: what still runs then is given back in order.
      terminationGracePeriodSeconds: {grace}
      containers:
        - name: worker
          image: {image}
          args: {args}
          env:
            - {{name: DJANGO_SETTINGS_MODULE, value: {settings}}}
          ports:
            - {{name: probe, containerPort: {port}}}
          startupProbe:
            httpGet: {{path: /live, port: probe}}
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {{path: /live, port: probe}}
            periodSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet: {{path: /ready, port: probe}}
            periodSeconds: 5
"""


def _add_common(parser: CommandParser) -> None:
    parser.add_argument("--name", default="taskq-worker", metavar="NAME", help="what it is called (%(default)s)")
    parser.add_argument(
        "--grace", type=int, default=60, metavar="SECONDS", help="running tasks get to end at a stop (%(default)s)"
    )
    parser.add_argument(
        "--flags", default="", metavar="FLAGS", help='flags of the worker, in one argument: --flags="--queues=mail"'
    )


def _add_systemd(parser: CommandParser) -> None:
    _add_common(parser)
    parser.add_argument("--user", metavar="USER", help="whom it runs as; default: you")


def _add_k8s(parser: CommandParser) -> None:
    _add_common(parser)
    parser.add_argument("--image", default="CHANGE-ME:latest", metavar="IMAGE", help="the container's (%(default)s)")
    parser.add_argument("--replicas", type=int, default=2, metavar="N", help="pods (%(default)s)")
    parser.add_argument("--probe-port", type=int, default=8099, metavar="PORT", help="for probes (%(default)s)")


def _flags(options: Mapping[str, Any]) -> list[str]:
    # In time for the rest of a stop.
    patience = max(options["grace"] - 5, 1)
    try:
        return [f"--shutdown-timeout={patience}", *shlex.split(options["flags"])]
    except ValueError as error:
        raise CommandError(f"--flags: {error}.") from error


def _settings() -> str:
    return os.environ.get("DJANGO_SETTINGS_MODULE", "CHANGE-ME.settings")


def _systemd(console: Console, options: Mapping[str, Any]) -> int:
    manage = Path("manage.py")
    program = [str(manage.resolve())] if manage.exists() else ["-m", "django"]
    words = [sys.executable, *program, "taskq", "worker", *_flags(options)]
    console.line(
        _UNIT.format(
            name=options["name"],
            project=Path.cwd().name,
            user=options["user"] or getpass.getuser(),
            directory=Path.cwd(),
            settings=_settings(),
            # "%" begins a specifier, "$" a variable (systemd.service, "Command lines").
            command=shlex.join(words).replace("%", "%%").replace("$", "$$"),
            grace=options["grace"] + 5,
        ).rstrip()
    )
    return 0


def _k8s(console: Console, options: Mapping[str, Any]) -> int:
    words = ["python", "manage.py", "taskq", "worker", f"--probe-port={options['probe_port']}", *_flags(options)]
    quoted = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    console.line(
        _DEPLOYMENT.format(
            name=options["name"],
            replicas=options["replicas"],
            image=options["image"],
            args=f"[{quoted}]",
            settings=_settings(),
            port=options["probe_port"],
            grace=options["grace"] + 5,
        ).rstrip()
    )
    return 0


SYSTEMD = Subcommand(name="systemd", help="print a unit for systemd", arguments=_add_systemd, run=_systemd)
K8S = Subcommand(name="k8s", help="print a Deployment for Kubernetes", arguments=_add_k8s, run=_k8s)
