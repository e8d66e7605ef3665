"""The tasks of a census."""

import asyncio
import sys
from dataclasses import asdict
from typing import Any

from django_taskq import State, TaskContext, fixed, task
from example_project.census import source, summary
from example_project.census.source import Measurement

#: All tasks of a census wait here, so that a worker can serve them and nothing else.
QUEUE = "census"

#: What `describe_python` asks the interpreter.
QUESTION = (
    "import platform, sys; print(platform.python_implementation(), platform.python_version(),"
    " sys.maxsize.bit_length() + 1, len(sys.stdlib_module_names), sep='\\n')"
)


class StumbleError(Exception):
    """Raised on purpose, to show how a failed attempt is retried."""


@task(queue_name=QUEUE)
def measure_file(path: str) -> dict[str, Any]:
    """Count one file; returns the fields of a `Measurement`."""
    return asdict(source.measure(path))


@task(queue_name=QUEUE, priority=50, takes_context=True, max_attempts=3, backoff=fixed(0.2), retry_on=StumbleError)
def stumble(context: TaskContext, failures: int) -> int:
    """Fail at the first `failures` attempts; returns the number of the attempt that succeeded."""
    if context.attempt <= failures:
        raise StumbleError(f"attempt {context.attempt} fails on purpose")
    return context.attempt


@task(queue_name=QUEUE, priority=50)
async def describe_python() -> dict[str, Any]:
    """Ask the interpreter what it is; while it answers, the event loop is free for other tasks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", QUESTION, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    implementation, version, bits, modules = answer.decode().split()
    return {"implementation": implementation, "version": version, "bits": int(bits), "modules": int(modules)}


@task(queue_name=QUEUE)
def summarise(directory: str, ids: list[str]) -> dict[str, Any]:
    """Read back what the tasks with these ids returned and add it up; returns the fields of a `Summary`."""
    return asdict(summary.summarise(directory, (_measurement(each) for each in ids)))


def _measurement(task_id: str) -> Measurement | None:
    result = measure_file.get_result(task_id)
    return Measurement(**result.get()) if result.state is State.SUCCESSFUL else None
