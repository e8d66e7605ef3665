"""``python -m tests.upstream``: have the suite before the tests need it."""

from tests.upstream.source import directory

if __name__ == "__main__":
    directory()
