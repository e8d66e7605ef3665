"""The code under measurement: this tree's package, that of another commit, or another program."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from tests.benchmarks.scope import PEER_MEASURES

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """``name``: for people. ``root``: where ``django_taskq`` and ``tests`` are imported from.

    ``client``: the module that measures it. ``is_peer``: whether it is another program. ``divisor``: one in so many of
    the plan's tasks is enough for it.
    """

    name: str
    root: Path
    client: str = "tests.benchmarks.client"
    is_peer: bool = False
    divisor: int = 1

    def can(self, name: str) -> bool:
        """Tell whether there is such a measurement of it."""
        return not self.is_peer or name in PEER_MEASURES

    @classmethod
    def here(cls, directory: Path) -> Self:
        """Return this tree's package as it is now, with what is not committed.

        It is copied below `directory`: a file that is saved in the middle of the runs must not divide them.
        """
        commit = git("rev-parse", "--short", "HEAD").decode().strip()
        changed = git("status", "--porcelain", "--", "django_taskq").strip()
        root = _beside_tests(directory / "here")
        shutil.copytree(
            REPOSITORY / "django_taskq", root / "django_taskq", ignore=shutil.ignore_patterns("__pycache__")
        )
        return cls(name=f"{commit}{' with changes' if changed else ''}", root=root)

    @classmethod
    def of(cls, commit: str, directory: Path) -> Self:
        """Return the package of a commit, unpacked below `directory`."""
        name = git("rev-parse", "--short", f"{commit}^{{commit}}").decode().strip()
        root = _beside_tests(directory / f"commit-{name}")
        with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", name, "django_taskq"))) as archive:
            archive.extractall(root, filter="data")
        return cls(name=name, root=root)

    @classmethod
    def celery(cls, directory: Path) -> Self:
        """Return the Celery of this environment."""
        return cls(
            name=f"Celery {version('celery')}",
            root=_beside_tests(directory / "celery"),
            client="tests.benchmarks.celery_client",
            is_peer=True,
            # It takes four times as long for a task, or more.
            divisor=4,
        )


def _beside_tests(root: Path) -> Path:
    """Make a directory for a package, in which this tree's benchmarks can be imported, too."""
    root.mkdir()
    (root / "tests").symlink_to(REPOSITORY / "tests", target_is_directory=True)
    return root.resolve()


def git(*arguments: str) -> bytes:
    """Return what git says of this repository."""
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout
