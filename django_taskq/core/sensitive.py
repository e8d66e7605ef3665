"""Arguments as they may be shown: those a task calls ``sensitive`` are hidden."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import Parameter
from typing import Any
from urllib.parse import quote, quote_plus

from . import codec

#: what stands in the place of a hidden value
HIDDEN = "••••••"
#: characters; what is shorter is not looked for in other texts, where it would stand for itself
MIN_SECRET = 4
#: characters of a line of a secret that is looked for by itself
_LONG_LINE = 8

_BY_POSITION = frozenset({Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD})


def hide_sensitive(
    args: Sequence[object],
    kwargs: Mapping[str, object],
    sensitive: Collection[str],
    parameters: Sequence[Parameter],
) -> tuple[list[object], dict[str, object]]:
    """Arguments of a call with the values hidden that ``sensitive`` names.

    ``parameters``: those of the function, without the context. Naming ``*args`` or ``**kwargs`` hides
    all that they take. A positional argument that the function has no parameter for (any more) is
    hidden as soon as anything is sensitive: nobody knows what it was.
    """
    if not sensitive:
        return list(args), dict(kwargs)
    by_position = [one.name for one in parameters if one.kind in _BY_POSITION]
    by_keyword = {one.name for one in parameters if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)}
    rest = {one.kind: one.name in sensitive for one in parameters if one.name not in by_keyword}
    hides_extra_args = rest.get(Parameter.VAR_POSITIONAL, True)
    hides_extra_kwargs = rest.get(Parameter.VAR_KEYWORD, False)
    return (
        [
            HIDDEN if (by_position[index] in sensitive if index < len(by_position) else hides_extra_args) else value
            for index, value in enumerate(args)
        ],
        {
            name: HIDDEN if name in sensitive or (hides_extra_kwargs and name not in by_keyword) else value
            for name, value in kwargs.items()
        },
    )


def hide_all(args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
    """Arguments with every value hidden: for tasks of which nobody knows what is sensitive."""
    return [HIDDEN] * len(args), dict.fromkeys(kwargs, HIDDEN)


def hide_keys(value: object, is_hidden: Callable[[str], object]) -> object:
    """A JSON value with the values hidden of all keys in it for which ``is_hidden`` is true."""
    if isinstance(value, dict):
        return {key: HIDDEN if is_hidden(str(key)) else hide_keys(one, is_hidden) for key, one in value.items()}
    if isinstance(value, list):
        return [hide_keys(one, is_hidden) for one in value]
    return value


def has_hidden(value: object) -> bool:
    """Whether anything is hidden in a JSON value."""
    if isinstance(value, dict):
        return any(map(has_hidden, value.values()))
    if isinstance(value, list):
        return any(map(has_hidden, value))
    return value == HIDDEN


def uncover(shown: Any, value: object) -> Any:
    """A JSON value that somebody has edited as it was shown, with what is hidden in it as it is in ``value``.

    Hidden stays what is not where it was: in a list of another length, under another key.
    """
    if shown == HIDDEN:
        return value
    if isinstance(shown, dict) and isinstance(value, dict):
        return {key: uncover(one, value.get(key, HIDDEN)) for key, one in shown.items()}
    if isinstance(shown, list) and isinstance(value, list) and len(shown) == len(value):
        return [uncover(one, other) for one, other in zip(shown, value, strict=True)]
    return shown


def hidden_texts(value: object, shown: object) -> set[str]:
    """Texts and numbers in a JSON value that ``shown``, the same value as it may be shown, hides.

    Without those so short that they stand in every other text.
    """
    if shown == HIDDEN and value != HIDDEN:
        return {text for text in _leaves(value) if len(text) >= MIN_SECRET}
    if isinstance(value, dict) and isinstance(shown, dict):
        return set[str]().union(*(hidden_texts(one, shown.get(key)) for key, one in value.items()))
    if isinstance(value, list) and isinstance(shown, list):
        return set[str]().union(*(hidden_texts(one, other) for one, other in zip(value, shown, strict=False)))
    return set()


def hide_texts(text: str, secrets: Collection[str]) -> str:
    """``text`` with all that is in ``secrets`` hidden.

    Also as it stands in JSON, in Python, or in a URL; of a long one what is left where the text was cut.
    """
    shapes = sorted({shape for secret in secrets for shape in _shapes_of(secret)}, key=len, reverse=True)
    for shape in shapes:
        text = text.replace(shape, HIDDEN)
    pieces = codec.pieces(text)
    for index in range(0, len(pieces) - 1, 2):
        pieces[index] = _without_beginning(pieces[index], shapes)
        pieces[index + 2] = _without_end(pieces[index + 2], shapes)
    return "".join(pieces)


def _shapes_of(secret: str) -> Iterator[str]:
    yield secret
    yield codec.encode(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
    # A log or a group of exceptions may indent them.
    yield from (line for line in secret.splitlines() if len(line) >= _LONG_LINE)


def _without_beginning(text: str, shapes: Sequence[str]) -> str:
    """``text`` without the beginning of a secret at its end."""
    for shape in shapes:
        tail = text[-len(shape) :]
        at = tail.find(shape[:MIN_SECRET])
        while at >= 0:
            if shape.startswith(tail[at:]):
                return text[: len(text) - len(tail) + at] + HIDDEN
            at = tail.find(shape[:MIN_SECRET], at + 1)
    return text


def _without_end(text: str, shapes: Sequence[str]) -> str:
    """``text`` without the end of a secret at its beginning."""
    return _without_beginning(text[::-1], [shape[::-1] for shape in shapes])[::-1]


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield codec.encode(value)
