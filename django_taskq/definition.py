"""The task: a function with options, and the verbs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from . import registry
from .compat import (
    DEFAULT_TASK_BACKEND_ALIAS,
    DEFAULT_TASK_PRIORITY,
    DEFAULT_TASK_QUEUE_NAME,
    BaseTaskBackend,
    InvalidTask,
    UpstreamTask,
    task_backends,
)
from .core import codec
from .core.options import OPTION_NAMES, Exceptions, TaskOptions, nearest, parse_options
from .core.retry import DEFAULT_BACKOFF, Schedule, seconds_of
from .exceptions import OptionError

if TYPE_CHECKING:
    from .result import TaskResult

#: the width of the name's column
MAX_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(UpstreamTask):
    """A task of this backend: upstream's ``Task`` with more options and verbs.

    ``name``: the function's, unless given; ``registered_name``: what rows and messages say.
    ``run_after``: an aware datetime, or a ``timedelta`` or seconds counted from the enqueue.
    ``soft_time_limit``, ``time_limit``: how long an attempt may run, in seconds or as a ``timedelta``, until
    ``SoftTimeLimitExceeded`` is raised in it, and until it is ended, by force if need be.
    ``store_result``: whether the return value is kept, ``store_errors``: whether errors are, ``keep_logs``: whether lines
    that the task logs are; ``result_ttl``,
    ``failure_ttl``: how long, in seconds or as a ``timedelta``, up to 100 years. None leaves each to ``OPTIONS``; what a
    task says wins over the alias, and what a call says over its task. A row goes by what the code of its task says; a
    store of keys and values by what the call said.
    ``options``: the run options in their parsed form.
    """

    # Django 6.0 leaves these three to its decorator.
    priority: int = DEFAULT_TASK_PRIORITY
    backend: str = DEFAULT_TASK_BACKEND_ALIAS
    queue_name: str = DEFAULT_TASK_QUEUE_NAME
    name: str = ""  # upstream: a property; a field here, since it can be given
    run_after: datetime | timedelta | float | None = None  # type: ignore[assignment]  # wider than upstream's
    aliases: tuple[str, ...] = ()
    expires: datetime | timedelta | float | None = field(default=None, compare=False)
    soft_time_limit: timedelta | float | None = None
    time_limit: timedelta | float | None = None
    max_attempts: int | None = None
    backoff: Schedule | float | timedelta | Sequence[float | timedelta] = DEFAULT_BACKOFF
    retry_on: Exceptions = ()
    give_up_on: Exceptions = ()
    acks_late: bool = True
    max_deliveries: int = 3
    record: bool = True
    store_result: bool | None = None
    store_errors: bool | None = None
    keep_logs: bool | None = None
    result_ttl: timedelta | float | None = None
    failure_ttl: timedelta | float | None = None
    sensitive: Iterable[str] = ()
    metadata: Mapping[str, codec.JSON] = field(default_factory=dict, compare=False)
    registered_name: str = field(default="", compare=False)
    options: TaskOptions = field(default=TaskOptions(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            self._settle()
            UpstreamTask.__post_init__(self)
            registry.register(self)
        except OptionError as error:
            raise InvalidTask(str(error)) from error

    def _settle(self) -> None:
        """Bring every option into its one form, so that equal tasks compare equal."""
        func_name = getattr(self.func, "__name__", repr(self.func))
        if not self.registered_name:
            path = f"{getattr(self.func, '__module__', '')}.{getattr(self.func, '__qualname__', func_name)}"
            self._set("registered_name", self.name or path)
            self._set("name", self.name or func_name)
        self._set("aliases", (self.aliases,) if isinstance(self.aliases, str) else tuple(self.aliases))
        for name in (self.registered_name, *self.aliases):
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or codec.clean(name) != name:
                raise OptionError(f"name={name!r}: a task's name is text of 1 to {MAX_NAME} characters.")
        if self.registered_name.endswith("<lambda>"):
            # All lambdas of a module have this one path: the worker would run the last.
            raise OptionError("A lambda has no name to find it by: define the function with def, or give name=...")
        options = parse_options({name: getattr(self, name) for name in OPTION_NAMES})
        self._set("options", options)
        self._set("backoff", options.backoff)
        self._set("soft_time_limit", options.soft_time_limit)
        self._set("time_limit", options.time_limit)
        self._set("result_ttl", options.result_ttl)
        self._set("failure_ttl", options.failure_ttl)
        self._set("metadata", options.metadata)
        if isinstance(options.expires, datetime) and settings.USE_TZ and timezone.is_naive(options.expires):
            raise OptionError("expires must be an aware datetime.")
        for name in ("retry_on", "give_up_on", "sensitive"):
            self._set(name, tuple(sorted(getattr(options, name))))
        if self.run_after is not None and not isinstance(self.run_after, datetime):
            delay = seconds_of(self.run_after, "run_after")
            if not hasattr(self.get_backend(), "enqueue_many"):
                # Upstream's own backends know moments only.
                self._set("run_after", timezone.now() + timedelta(seconds=delay))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    if TYPE_CHECKING:
        # Said here is only that the results are ours. At run time these must stay upstream's own: tools that
        # trace patch them there.
        def enqueue(self, *args: Any, **kwargs: Any) -> TaskResult: ...  # noqa: D102  # upstream's says it
        async def aenqueue(self, *args: Any, **kwargs: Any) -> TaskResult: ...  # noqa: D102  # as above
        def get_result(self, result_id: str) -> TaskResult: ...  # noqa: D102  # as above
        async def aget_result(self, result_id: str) -> TaskResult: ...  # noqa: D102  # as above

    @classmethod
    def _reconstruct(cls, kwargs: dict[str, Any]) -> Self:
        """Upstream's way to unpickle, which 5.2 and 6.0 don't have yet."""
        func_path = kwargs["func"]
        try:
            func = import_string(func_path).func
        except (ImportError, AttributeError) as error:
            raise ValueError(f"Expected {func_path!r} to point to a Task instance.") from error
        return cls(**{**kwargs, "func": func})

    def __reduce__(self) -> tuple[Any, ...]:
        kwargs = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return type(self)._reconstruct, ({**kwargs, "func": self.module_path},)  # noqa: SLF001  # of this class

    def get_backend(self) -> BaseTaskBackend:
        """The backend of this alias; upstream's looks up the module where backends are, too, which takes as long again."""
        return task_backends[self.backend]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here and now, as if it were not a task."""
        return self.func(*args, **kwargs)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | float | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Self:
        """The same task with other options; ``None`` leaves upstream's four as they are.

        Raises ``TypeError`` for an option that does not exist and ``InvalidTask`` for a value that
        cannot be.
        """
        given = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in options:
            if name not in OPTION_NAMES:
                raise _unknown_option("using()", name, (*given, *OPTION_NAMES))
        return replace(self, **changes, **options)

    def enqueue_many(self, calls: Iterable[Any]) -> list[TaskResult]:
        """Enqueue one task per call, in one burst, all or none.

        A call is a sequence of positional arguments, ``(1,)``, or a pair of these and keyword
        arguments, ``((1,), {"kw": 2})``.
        """
        pairs = [_call(call) for call in calls]
        backend = self.get_backend()
        many = getattr(backend, "enqueue_many", None)
        if many is None:
            return [backend.enqueue(self, args, kwargs) for args, kwargs in pairs]  # type: ignore[misc]  # upstream's own
        return many(self, pairs)  # type: ignore[no-any-return]

    async def aenqueue_many(self, calls: Iterable[Any]) -> list[TaskResult]:
        """See :meth:`enqueue_many`."""
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(calls)


@overload
def task(function: Callable[..., Any], /) -> Task: ...


@overload
def task(
    *,
    name: str = "",
    aliases: Sequence[str] = (),
    queue_name: str = DEFAULT_TASK_QUEUE_NAME,
    priority: int = DEFAULT_TASK_PRIORITY,
    backend: str = DEFAULT_TASK_BACKEND_ALIAS,
    takes_context: bool = False,
    expires: datetime | timedelta | float | None = None,
    soft_time_limit: timedelta | float | None = None,
    time_limit: timedelta | float | None = None,
    max_attempts: int | None = None,
    backoff: Schedule | float | timedelta | Sequence[float | timedelta] = DEFAULT_BACKOFF,
    retry_on: Exceptions = (),
    give_up_on: Exceptions = (),
    acks_late: bool = True,
    max_deliveries: int = 3,
    record: bool = True,
    store_result: bool | None = None,
    store_errors: bool | None = None,
    result_ttl: timedelta | float | None = None,
    failure_ttl: timedelta | float | None = None,
    sensitive: Iterable[str] = (),
    metadata: Mapping[str, codec.JSON] | None = None,
) -> Callable[[Callable[..., Any]], Task]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a module-level function a task: ``@task`` or ``@task(queue_name="mail", max_attempts=5)``.

    Raises ``TypeError`` for an option that does not exist and ``InvalidTask`` for a value or a
    function that cannot be.
    """
    if "run_after" in options:
        raise TypeError(
            "run_after cannot be defined statically with the @task decorator. "
            "Use .using(run_after=...) to set it dynamically."
        )
    for option in options:
        if option not in _DECORATOR_OPTIONS:
            raise _unknown_option("@task", option, _DECORATOR_OPTIONS)
    if options.get("metadata", ...) is None:
        del options["metadata"]

    def wrap(func: Callable[..., Any]) -> Task:
        return Task(func=func, **options)

    return wrap if function is None else wrap(function)


_DECORATOR_OPTIONS = ("name", "aliases", "queue_name", "priority", "backend", "takes_context", *OPTION_NAMES)


def _unknown_option(where: str, option: str, known: Iterable[str]) -> TypeError:
    return TypeError(f"{where} has no option {option!r}{nearest(option, known) or '.'}")


def _call(call: Any) -> tuple[list[Any], dict[str, Any]]:
    """One item of ``enqueue_many`` as positional and keyword arguments."""
    if isinstance(call, Sequence) and not isinstance(call, str | bytes):
        if len(call) == 2 and isinstance(call[0], list | tuple) and isinstance(call[1], Mapping):
            return list(call[0]), dict(call[1])
        return list(call), {}
    raise TypeError(
        f"enqueue_many() takes a sequence of arguments per call, such as (1,) or ((1,), {{'kw': 2}}), not {call!r}."
    )
