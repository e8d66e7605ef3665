"""``python -m tests.report directory exit-code``: one summary of all of pytest's runs that left a JUnit file there.

The suite runs once for each database and each Django; pytest's own last line tells of the last of these runs only. The
exit code is that of whatever ran them.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import timedelta
from pathlib import Path


def read(file: Path) -> tuple[Counter[str], float]:
    """Return how many tests ended how, and the seconds that took."""
    suite = ET.parse(file).getroot().find("testsuite")
    if suite is None:
        raise ValueError(f"{file} is not a report of pytest's")
    ended = Counter({word: int(suite.get(key, "0")) for word, key in _ENDS.items()})
    ended["passed"] = int(suite.get("tests", "0")) - ended.total()
    return ended, float(suite.get("time", "0"))


#: pytest's word for an end, and the name of its number in the file.
_ENDS = {"failed": "failures", "skipped": "skipped", "errors": "errors"}


def summary(ended: Counter[str], seconds: float) -> str:
    """Return what pytest would print: ``2 failed, 40 passed in 12.30s``."""
    words = [f"{ended[word]} {word}" for word in ("failed", "passed", "skipped", "errors") if ended[word]]
    long = f" ({timedelta(seconds=round(seconds))})" if seconds >= 60 else ""
    return f"{', '.join(words) or 'no tests ran'} in {seconds:.2f}s{long}"


def main() -> int:
    """Print a line for each run and, last, the sum, also into summary.txt; return 1 unless all is well."""
    directory, exit_code = Path(sys.argv[1]), int(sys.argv[2])
    runs = {file.stem: read(file) for file in sorted(directory.glob("*.xml"))}
    for name, run in runs.items():
        print(f"{name:<44} {summary(*run)}")
    total = Counter[str]()
    for ended, _ in runs.values():
        total.update(ended)
    if exit_code and not total["failed"] + total["errors"]:
        # A run that ended without a report, a package that did not install, a server that did not start.
        total["errors"] += 1
    last = f" {summary(total, sum(seconds for _, seconds in runs.values()))} ".center(80, "=")
    directory.mkdir(exist_ok=True)
    (directory / "summary.txt").write_text(f"{last}\n")
    print(last)
    return 0 if total["passed"] and not total["failed"] + total["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
