"""Arguments as they may be shown: those a task calls ``sensitive`` are hidden."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import Parameter

from . import codec

#: what stands in the place of a hidden value
HIDDEN = "••••••"
#: characters; what is shorter is not looked for in other texts, where it would stand for itself
MIN_SECRET = 4

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
    """``text`` with all that is in ``secrets`` hidden, also as it stands in JSON."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
        escaped = codec.encode(secret)[1:-1]
        if escaped != secret:
            text = text.replace(escaped, HIDDEN)
    return text


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
