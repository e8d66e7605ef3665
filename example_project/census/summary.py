"""What many measured files come to."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from example_project.census.source import Measurement

#: Files that could not be parsed and are named in a summary; the others are only counted.
NAMED_PROBLEMS = 20
#: Modules named as the most imported ones.
NAMED_MODULES = 5


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The census of a directory. All of it survives JSON, so that a task can return it.

    `missing` counts files whose task brought no measurement. `longest` is a path and its number of lines;
    `most_imported` holds modules and the number of files that import them; `problems` holds a path, a verdict and
    the reason of each file that was not parsed. `fingerprint` is the SHA-256 over each file's relative path and own
    SHA-256, in the order of the paths: equal directories have equal fingerprints, wherever they are.
    """

    files: int
    missing: int
    parsed: int
    size: int
    lines: int
    functions: int
    classes: int
    imports: int
    longest: tuple[str, int]
    most_imported: Sequence[tuple[str, int]]
    problems: Sequence[tuple[str, str, str]]
    fingerprint: str


def summarise(directory: str, measurements: Iterable[Measurement | None]) -> Summary:
    """Add up measurements of files under a directory; None stands for a file whose measurement is missing."""
    asked = list(measurements)
    found = sorted((each for each in asked if each is not None), key=lambda each: each.path)
    importers = Counter(module for each in found for module in each.modules)
    problems = [
        (os.path.relpath(each.path, directory), each.verdict, each.problem)
        for each in found
        if each.verdict != "parsed"
    ]
    longest = max(found, key=lambda each: each.lines, default=None)
    return Summary(
        files=len(asked),
        missing=len(asked) - len(found),
        parsed=len(found) - len(problems),
        size=sum(each.size for each in found),
        lines=sum(each.lines for each in found),
        functions=sum(each.functions for each in found),
        classes=sum(each.classes for each in found),
        imports=sum(each.imports for each in found),
        longest=(os.path.relpath(longest.path, directory), longest.lines) if longest else ("", 0),
        most_imported=sorted(importers.items(), key=lambda pair: (-pair[1], pair[0]))[:NAMED_MODULES],
        problems=problems[:NAMED_PROBLEMS],
        fingerprint=_fingerprint(directory, found),
    )


def _fingerprint(directory: str, measurements: list[Measurement]) -> str:
    total = hashlib.sha256()
    for each in measurements:
        total.update(f"{os.path.relpath(each.path, directory)}\0{each.sha256}\n".encode())
    return total.hexdigest()
