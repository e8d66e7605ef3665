"""Where the servers' programs are, and which Debian packages bring what is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

from tests.pythons import newest_python

#: Debian keeps servers where an ordinary user's PATH does not look.
_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/sbin")


class MissingProgram(Exception):
    """A server's program is not installed."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed. Run: sudo apt-get install --no-install-recommends {package}")


def search_path() -> str:
    """Return PATH with the places where Debian keeps servers."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_ELSEWHERE))


def find(program: str, *, package: str) -> Path:
    """Return where `program` is, or raise `MissingProgram` with the line that installs it."""
    found = shutil.which(program, path=search_path())
    if found is None:
        raise MissingProgram(program, package)
    return Path(found)


def postgres_directory() -> Path:
    """Return the directory of `postgres`, `initdb` and `psql`: the newest of Debian's, else PATH's."""
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    # initdb looks for postgres beside itself, so a link to it elsewhere does not do.
    return find("initdb", package="postgresql").resolve().parent


def mariadb_server() -> Path:
    """Return the program of the MariaDB server."""
    return find("mariadbd", package="mariadb-server")


def rabbitmq_program(name: str) -> Path:
    """Return RabbitMQ's own script of this name; Debian's in PATH serve root and one account only."""
    own = Path("/usr/lib/rabbitmq/bin") / name
    return own if own.exists() else find(name, package="rabbitmq-server").resolve()


def redis_server() -> Path:
    """Return the program of the Redis server."""
    return find("redis-server", package="redis-server")


def memcached_server() -> Path:
    """Return the program of the memcached server."""
    return find("memcached", package="memcached")


def chromium() -> Path:
    """Return the program of the browser."""
    return find("chromium", package="chromium")


def libfaketime() -> Path:
    """Return the library that, loaded first, lets a program see another time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise MissingProgram("libfaketime", "faketime")
    return found[0]


def missing_packages() -> list[str]:
    """Return the Debian packages without which the tests cannot run here; mysqlclient is compiled, so it needs four."""
    wanted: list[tuple[str, Callable[[], bool]]] = [
        ("postgresql", lambda: _finds(postgres_directory)),
        ("mariadb-server", lambda: _finds(mariadb_server)),
        ("rabbitmq-server", lambda: _finds(lambda: rabbitmq_program("rabbitmq-server"))),
        ("redis-server", lambda: _finds(redis_server)),
        ("memcached", lambda: _finds(memcached_server)),
        ("chromium", lambda: _finds(chromium)),
        ("faketime", lambda: _finds(libfaketime)),
        ("openssl", lambda: shutil.which("openssl", path=search_path()) is not None),
        ("nodejs", lambda: shutil.which("node", path=search_path()) is not None),
        ("npm", lambda: shutil.which("npm", path=search_path()) is not None),
        ("gcc", lambda: shutil.which("cc") is not None or shutil.which("gcc") is not None),
        ("libc6-dev", lambda: Path("/usr/include/stdio.h").exists()),
        ("pkg-config", lambda: shutil.which("pkg-config") is not None),
        ("libmariadb-dev", _has_client_headers),
    ]
    packages = [package for package, present in wanted if not present()]
    return [*packages, *_missing_python_headers()]


def _finds(search: Callable[[], Path]) -> bool:
    try:
        search()
    except MissingProgram:
        return False
    return True


def _has_client_headers() -> bool:
    if shutil.which("pkg-config") is None:
        return False
    # The names mysqlclient's setup.py asks for.
    return any(
        subprocess.run(["pkg-config", "--exists", name], check=False).returncode == 0
        for name in ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient")
    )


def _missing_python_headers() -> list[str]:
    directories = [Path(sysconfig.get_path("include"))]
    newest = newest_python()
    if newest is not None:
        directories.append(newest.include)
    # The directory is named as Debian's package is: python3.12 -> python3.12-dev.
    return sorted({f"{path.name}-dev" for path in directories if not (path / "Python.h").exists()})
