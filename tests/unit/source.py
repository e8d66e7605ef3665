"""The package's own source, as the tests about its architecture read it: modules, imports, calls, strings."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "django_taskq"


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module: who imports it, where, and whether that happens at run time and at the top of the file."""

    importer: str
    imported: str
    line: int
    typing_only: bool
    inside_function: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module by its dotted name."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def part(self) -> str:
        """What the layers are made of: ``core`` of ``django_taskq.core.states``; "" of the package itself."""
        return part_of(self.name)


def part_of(name: str) -> str:
    """Return the second component of a dotted name of ours, or "" for the package itself."""
    return name.split(".")[1] if "." in name else ""


@functools.cache
def modules() -> dict[str, Module]:
    """Return every module of the package by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        components = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(components[:-1] if components[-1] == "__init__" else components)
        found[name] = Module(name=name, path=path, tree=ast.parse(path.read_text(), str(path)))
    return found


@functools.cache
def imports(module: str) -> tuple[Import, ...]:
    """Return what a module imports; of ``from package import name`` the module `name` if it is one."""
    return tuple(_imports(modules()[module]))


def _imports(module: Module) -> Iterator[Import]:
    for node, parents in walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _imported_from(module, node)
        else:
            continue
        for name in names:
            yield Import(
                importer=module.name,
                imported=name,
                line=node.lineno,
                typing_only=any(_is_typing_block(parent) for parent in parents),
                inside_function=any(isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef) for parent in parents),
            )


def _imported_from(module: Module, node: ast.ImportFrom) -> list[str]:
    source = node.module or ""
    if node.level:
        # "from . import x" in a package's __init__ is about that package, elsewhere about the package it is in.
        up = node.level - (module.path.name == "__init__.py")
        base = module.name.split(".")[: len(module.name.split(".")) - up]
        source = ".".join([*base, *([node.module] if node.module else [])])
    submodules = [f"{source}.{alias.name}" for alias in node.names]
    return sorted({name if name in modules() else source for name in submodules})


def _is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, parents: tuple[ast.AST, ...] = ()) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """Yield every node below `node`, with the nodes it is in."""
    for child in ast.iter_child_nodes(node):
        yield child, (*parents, node)
        yield from walk(child, (*parents, node))


def texts(module: Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every string that is not a docstring; of an f-string, "?" for what it puts in."""
    for node, parents in walk(module.tree):
        if parents and isinstance(parents[-1], ast.Expr | ast.JoinedStr):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values]
            yield node.lineno, "".join(parts)
