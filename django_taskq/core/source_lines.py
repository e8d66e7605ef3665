"""Lines of source, as stacks and tracebacks show them, without the literals that are secrets by their name."""

from __future__ import annotations

import re
from collections.abc import Callable

from .sensitive import HIDDEN

#: a name, or a text that is a key; what stands between; a text, which may end with the line, or a number
_GIVEN = re.compile(
    r"""
    (?P<before> \b (?P<name>[A-Za-z_]\w{0,200}) ["']? \s{0,8} \]? \s{0,8}
        (?: : [^\n="'#]{0,80} = | = | : ) \s{0,8} [rbfuRBFU]{0,2} )
    (?P<value> "[^"\n]*"? | '[^'\n]*'? | \d[\w.]* )
    """,
    re.VERBOSE,
)


def hide_literals(text: str, is_hidden: Callable[[str], object]) -> str:
    """``text`` with the literals hidden that are given to a name for which ``is_hidden`` is true.

    What is given to a name elsewhere is not in the text, and what is computed cannot be seen in it.
    """

    def shown(found: re.Match[str]) -> str:
        return f"{found['before']}{HIDDEN}" if is_hidden(found["name"]) else found[0]

    return _GIVEN.sub(shown, text)
