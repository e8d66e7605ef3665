"""Clients of Amazon's services, by boto3: what S3 and DynamoDB have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import boto3
from botocore.config import Config

from .address import Address
from .keyvalue import CONNECT_TIMEOUT, OPERATION_TIMEOUT, StoreConfigError

#: Requests for one operation. Each may wait for half of an operation's time, so that a server that is silent is given up
#: in time, and one that has lost a single request is not.
_ATTEMPTS: Final = 2

#: What goes to ``boto3.session.Session``, and to its method ``client``.
_SESSION: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name", "region_name")
_CLIENT: Final = ("endpoint_url", "verify")

#: The options of every such store.
AWS_OPTIONS: Final = frozenset({*_SESSION, *_CLIENT, "config"})


def aws_settings(address: Address, options: Mapping[str, Any], *, store: str) -> dict[str, Any]:
    """The options of ``AWS_OPTIONS`` that are given, with the URL's credentials in front."""
    settings = {name: options[name] for name in AWS_OPTIONS if options.get(name) is not None}
    if address.username is not None:
        settings["aws_access_key_id"] = address.username
    if address.password is not None:
        settings["aws_secret_access_key"] = address.password
    if ("aws_access_key_id" in settings) != ("aws_secret_access_key" in settings):
        raise StoreConfigError(
            f"{store}: give both an access key id and its secret, or neither for boto3 to find them."
        )
    if not isinstance(settings.get("config", {}), Mapping):
        raise StoreConfigError(f"{store}: config is a dict of arguments for botocore.config.Config.")
    return settings


def make_aws_client(service: str, settings: Mapping[str, Any]) -> Any:
    """A client of ``service``; connects to nothing. Without credentials in ``settings`` boto3 looks for some, as ever.

    Clients are safe to share between threads, and sessions are not, so each client has its own:
    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html
    """
    session = boto3.session.Session(**{name: settings[name] for name in _SESSION if name in settings})
    config = Config(
        **{
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": OPERATION_TIMEOUT / _ATTEMPTS,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
            # More threads than this connect anew for each request.
            "max_pool_connections": 32,
            **settings.get("config", {}),
        }
    )
    return session.client(service, config=config, **{name: settings[name] for name in _CLIENT if name in settings})
