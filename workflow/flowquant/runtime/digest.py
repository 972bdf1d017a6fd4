"""Which code a stage runs: a hash of the syntax of its module and of all it imports from here.

What changes no result changes no digest: comments, docstrings and the sentences under a field,
blank lines and layout. Not seen, too, are other packages (their versions are pinned), files that
are no Python, and a package's ``__init__``, which must therefore import nothing of what a stage
runs.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def commands() -> tuple[str, ...]:
    """What can be run: every stage by its name, and ``dataset`` with each kind of source."""
    stages, sources = (
        sorted(path.stem for path in (PACKAGE / folder).glob("[!_]*.py"))
        for folder in ("stages", "data/sources")
    )
    return (*(f"dataset {kind}" for kind in sources), *stages)


def module_of(command: str) -> str:
    """The module of this package that a command runs."""
    stage, _, kind = command.partition(" ")
    return f"data.sources.{kind}" if stage == "dataset" else f"stages.{stage}"


def source(module: str) -> Path:
    """The file that holds a module of this package."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def imported_modules(module: str) -> set[str]:
    """``module`` and every module of this package that it imports, directly or not.

    Names are relative to the package: ``stages.train``, ``data.sources.idx``.
    """
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(direct_imports(name))
    return found


@cache
def digest(command: str) -> str:
    """A short hash of the code that a command runs, for a rule's ``params``."""
    content = hashlib.sha256()
    for module in sorted(imported_modules(module_of(command))):
        content.update(f"{module} {_syntax_hash(module)}\n".encode())
    return content.hexdigest()[:16]


@cache
def direct_imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports itself.

    Imports inside functions and those for type checkers count.
    """
    names: set[str] = set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flowquant":
            base = (node.module or "").removeprefix("flowquant").lstrip(".")
            candidates = {f"{base}.{alias.name}".lstrip(".") for alias in node.names} | {base}
            names |= {name for name in candidates if name and source(name).is_file()}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("flowquant.")
                for alias in node.names
                if alias.name.startswith("flowquant.")
            }
    return frozenset(names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node, without a look into expressions, which are most of a tree."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


@cache
def _syntax_hash(module: str) -> str:
    return hashlib.sha256(_syntax(_tree(module)).encode()).hexdigest()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(source(module).read_text(encoding="utf-8"))


def _syntax(node: object) -> str:
    """A syntax tree as text, without positions and without statements that are mere strings.

    Absent and empty fields are left out: newer versions of Python only add such to older code.
    """
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        given = [f"{name}={_syntax(value)}" for name, value in fields if value not in (None, [])]
        return f"{type(node).__name__}({' '.join(given)})"
    if isinstance(node, list):
        return f"[{' '.join(_syntax(item) for item in node if not _is_mere_string(item))}]"
    return repr(node)


def _is_mere_string(node: object) -> bool:
    """Whether a node is a statement that is a string and nothing else."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
