"""``python -m tests.servers.emulators install``: what npm has to bring, before the tests need it."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.servers.emulators.packages import install
from tests.servers.programs import MissingProgram
from tests.servers.server import ServerFailed


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.emulators", description=__doc__)
    commands = parser.add_subparsers(dest="action", required=True)
    commands.add_parser("install", help="install the emulators; does nothing when they are there")
    parser.parse_args()
    try:
        install()
    except (MissingProgram, ServerFailed, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
