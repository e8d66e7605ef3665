"""What one Python source file holds."""

import ast
import hashlib
import io
import stat
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from example_project.census.text import printable

#: The name the compiler is given for every file, so that its warnings on them can be told from warnings on our code.
FILENAME = "counted-source"
#: Bytes. A larger file is hashed and its lines are counted, but it is not parsed: a tree takes some 100 times the
#: memory of its text. The largest file of the standard library has 1 MB.
PARSE_LIMIT = 8 * 1024 * 1024

Verdict = Literal["parsed", "bad encoding", "bad syntax", "too large", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was found in a file, or why it could not be parsed.

    `size` is in bytes. Lines end as Python's own do: at LF, CR or CR LF. `imports` counts statements, `modules` names
    the top-level modules they import, each once. What `verdict` makes unknowable is 0 or empty.
    """

    path: str
    verdict: Verdict
    problem: str = ""
    size: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0
    modules: list[str] = field(default_factory=list)
    sha256: str = ""


def measure(path: str) -> Measurement:
    """Count a file; never raises for what is in it, or for its being gone."""
    try:
        data = _read(Path(path))
    except OSError as error:
        return Measurement(path=path, verdict="unreadable", problem=error.strerror or type(error).__name__)
    verdict, problem, contents = _parse(data)
    return Measurement(
        path=path,
        verdict=verdict,
        problem=problem,
        size=len(data),
        lines=len(data.splitlines()),
        functions=contents.functions,
        classes=contents.classes,
        imports=contents.imports,
        modules=sorted(contents.modules),
        sha256=hashlib.sha256(data).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class _Contents:
    functions: int = 0
    classes: int = 0
    imports: int = 0
    modules: frozenset[str] = frozenset()


def _read(path: Path) -> bytes:
    """The bytes of a regular file: opening a pipe would wait for somebody to write into it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "not a regular file")
    return path.read_bytes()


def _parse(data: bytes) -> tuple[Verdict, str, _Contents]:
    if len(data) > PARSE_LIMIT:
        return "too large", f"{len(data):,} bytes", _Contents()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as error:
        return "bad encoding", _describe(error), _Contents()
    try:
        tree = ast.parse(text, filename=FILENAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "bad syntax", _describe(error), _Contents()
    return "parsed", "", _count(tree)


def _count(tree: ast.Module) -> _Contents:
    functions = classes = imports = 0
    modules: set[str] = set()
    for statement in _statements(tree):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions += 1
            case ast.ClassDef():
                classes += 1
            case ast.Import(names=names):
                imports += 1
                modules.update(alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=module, level=level):
                imports += 1
                if module and not level:
                    modules.add(module.partition(".")[0])
    return _Contents(functions=functions, classes=classes, imports=imports, modules=frozenset(modules))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement of a module, however deeply nested, with the `except` and `case` clauses that hold some.

    Expressions are not entered, for no statement is inside one: that makes it ten times faster than `ast.walk`.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, name, ())
            pending.extend(children)
            yield from children


def _describe(error: Exception) -> str:
    """The error in a line. A SyntaxError's text may quote the source, so it is made printable."""
    if isinstance(error, SyntaxError):
        place = f" (line {error.lineno})" if error.lineno else ""
        return printable(f"{error.msg}{place}")
    return printable(str(error) or type(error).__name__)
