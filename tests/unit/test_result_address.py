"""URLs of stores are read the same way by all, and no error shows a password."""

from __future__ import annotations

import pytest

from django_taskq.results.address import only_known, parse_address
from django_taskq.results.keyvalue import StoreConfigError

FORM = "vault://user:password@host:port/shelf"


def test_a_url_has_all_its_parts() -> None:
    address = parse_address(
        "vault://anne:a%2Fb%40c@one:1,two,[::1]:3/top/shelf?dry=1", form=FORM, queries=["dry"], parts=2
    )
    assert (address.scheme, address.username, address.password) == ("vault", "anne", "a/b@c")
    assert address.hosts == (("one", 1), ("two", None), ("[::1]", 3))
    assert address.path == ("top", "shelf")
    assert address.query == {"dry": "1"}
    assert address.host("elsewhere", 9) == ("one", 1)


@pytest.mark.parametrize("url", ["vault://", "vault:///", "vault://@", "vault://:@/"])
def test_a_url_may_be_as_good_as_empty(url: str) -> None:
    address = parse_address(url, form=FORM)
    assert (address.username, address.password, address.hosts, address.path) == (None, None, (), ())
    assert address.host("elsewhere", 9) == ("elsewhere", 9)


def test_a_host_may_be_without_a_port() -> None:
    assert parse_address("vault://one", form=FORM).host("elsewhere", 9) == ("one", 9)
    assert parse_address("vault://one:", form=FORM).host("elsewhere", 9) == ("one", 9)
    assert parse_address("vault://[::1]", form=FORM).host("elsewhere", 9) == ("[::1]", 9)


@pytest.mark.parametrize(
    "url",
    [
        "vault://anne:s3cret/wor@d@host/shelf",
        "vault://anne:s3cret?wor@d@host/shelf",
        "vault://anne:s3cret/word",
        "vault://host:s3cret",
        "vault://host:0",
        "vault://host:65536",
        "vault://host/top/s3cret",
        "s3cret",
    ],
)
def test_what_cannot_be_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(StoreConfigError) as refused:
        parse_address(url, form=FORM)
    assert FORM in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_password_is_not_in_what_an_address_looks_like() -> None:
    assert "s3cret" not in repr(parse_address("vault://anne:s3cret@host", form=FORM))


def test_a_misspelt_name_gets_the_right_one() -> None:
    with pytest.raises(StoreConfigError, match="'dri' in the URL; did you mean 'dry'"):
        parse_address("vault://host/?dri=1", form=FORM, queries=["dry"])
    with pytest.raises(StoreConfigError, match="vault://: unknown result option 'tabel'; did you mean 'table'"):
        only_known({"tabel": "x"}, ["table"], store="vault://")
    only_known({"table": "x"}, ["table"], store="vault://")
