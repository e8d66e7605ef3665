"""Arguments as they may be shown: those a task calls ``sensitive`` are hidden."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from inspect import Parameter

#: what stands in the place of a hidden value
HIDDEN = "••••••"

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
