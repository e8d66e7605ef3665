"""The emulators that npm brings: installed once, below the checkout, where git does not look."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.servers.programs import find
from tests.servers.server import ServerFailed

_MANIFEST: Final = Path(__file__).with_name("package.json")
#: Where they are, all of the checkout's environments together.
DIRECTORY: Final = Path(__file__).parents[3] / ".servers"
_STAMP: Final = DIRECTORY / "node_modules" / ".installed"
#: Seconds for npm: 200 MB in some 900 packages.
_PATIENCE: Final = 900.0

#: No scripts and nothing optional: what those would compile is for storage on disk, and we keep all in memory.
_OPTIONS: Final = (
    "--omit=dev",
    "--omit=optional",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--no-update-notifier",
    "--loglevel=error",
)


def node() -> Path:
    """Return the program of Node.js."""
    return find("node", package="nodejs")


def module(path: str) -> Path:
    """Return a file of an installed package, such as ``azurite/dist/src/blob/main.js``; installs what is missing."""
    install()
    return DIRECTORY / "node_modules" / path


def install() -> None:
    """Install what `package.json` names, unless that has been done already. Several processes may call this at once."""
    wanted = hashlib.sha256(_MANIFEST.read_bytes()).hexdigest()
    if _installed() == wanted:
        return
    DIRECTORY.mkdir(exist_ok=True)
    with (DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _installed() == wanted:
            return
        node()
        npm = find("npm", package="npm")
        shutil.copyfile(_MANIFEST, DIRECTORY / "package.json")
        done = subprocess.run(
            [npm, "install", *_OPTIONS],
            cwd=DIRECTORY,
            env={**os.environ, "CI": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
        if done.returncode:
            raise ServerFailed(f"npm could not install {_MANIFEST.name}'s packages:\n{done.stdout[-3000:]}")
        _STAMP.write_text(wanted)


def _installed() -> str | None:
    try:
        return _STAMP.read_text()
    except FileNotFoundError:
        return None
