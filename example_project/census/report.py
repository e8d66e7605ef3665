"""A census in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from example_project.census.display import Line
from example_project.census.summary import Summary

#: Bytes in one MiB.
MIB = 1024 * 1024


def summary_lines(summary: Summary) -> list[Line]:
    """The facts of a summary, most general first."""
    lines = [
        ("files", f"{summary.files:,}"),
        ("size", f"{summary.size / MIB:,.1f} MiB ({summary.size:,} bytes)"),
        ("lines", f"{summary.lines:,}"),
        ("functions", f"{summary.functions:,}"),
        ("classes", f"{summary.classes:,}"),
        ("imports", f"{summary.imports:,}"),
    ]
    path, length = summary.longest
    if length:
        lines.append(("longest file", f"{path}, {length:,} lines"))
    if summary.most_imported:
        named = ", ".join(f"{module} ({files:,})" for module, files in summary.most_imported)
        lines.append(("most imported", named))
    return [*lines, ("fingerprint", summary.fingerprint)]


def problem_lines(summary: Summary) -> list[Line]:
    """The files that could not be parsed, and why."""
    lines: list[Line] = [(verdict, f"{path}: {problem}") for path, verdict, problem in summary.problems]
    unnamed = summary.files - summary.missing - summary.parsed - len(lines)
    return [*lines, ("", f"and {unnamed:,} more")] if unnamed else lines


def retry_lines(errors: Sequence[str], attempt: int) -> list[Line]:
    """What became of a task that failed on purpose: `errors` of its failed attempts, and the one that succeeded."""
    failed = [(f"attempt {number}", message) for number, message in enumerate(errors, start=1)]
    return [*failed, (f"attempt {attempt}", "succeeded")]


def python_lines(answer: Mapping[str, Any]) -> list[Line]:
    """What `describe_python` returned."""
    return [
        ("python", f"{answer['implementation']} {answer['version']}, {answer['bits']} bit"),
        ("library", f"{answer['modules']:,} top-level modules"),
    ]
