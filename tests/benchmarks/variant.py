"""The code under measurement: this tree's package, or that of another commit."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """``name``: for people. ``root``: where ``django_taskq`` and ``tests`` are imported from."""

    name: str
    root: Path

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


def _beside_tests(root: Path) -> Path:
    """Make a directory for a package, in which this tree's benchmarks can be imported, too."""
    root.mkdir()
    (root / "tests").symlink_to(REPOSITORY / "tests", target_is_directory=True)
    return root.resolve()


def git(*arguments: str) -> bytes:
    """Return what git says of this repository."""
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout
