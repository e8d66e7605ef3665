"""Text that is safe to store and to print."""

#: Characters; what is longer is cut.
LENGTH_LIMIT = 200


def printable(text: str) -> str:
    """The text with control characters, lone surrogates and the like written as escapes, cut to a line's length."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= LENGTH_LIMIT else shown[: LENGTH_LIMIT - 1] + "…"
