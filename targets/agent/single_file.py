"""The agent as the one file that devices get: the text of its modules, joined. It is made whenever it is needed.

Joined text, unlike a zip archive, starts from stdin as well as from a file, and its tracebacks show source lines.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PACKAGE = "edgecnn.targets.agent"
MAIN = "main"
"""The module that starts the agent. It comes last in the file, after all that it imports, directly or indirectly."""

OLDEST_AGENT_PYTHON = (3, 9)
"""The oldest Python that the agent runs under."""

_TITLE = f'"""The agent of edgecnn, joined from the modules of {PACKAGE}. Change those and not this file."""'


@functools.cache
def agent_source() -> str:
    """Return the source of the agent. The same modules always give the same text."""
    return join_modules(MAIN, lambda name: Path(__file__).with_name(f"{name}.py").read_text("utf-8"))


def join_modules(main: str, read: Callable[[str], str]) -> str:
    """Return one file that does what a module of the agent does.

    Args:
        main: The module's name.
        read: Returns the source of a module by its name.

    Raises:
        ValueError: A module breaks a rule of `edgecnn.targets.agent`.
    """
    modules = _dependencies_first(main, read, {}, ())
    _check_names(modules)
    imports = sorted({item for module in modules for item in module.imports if item.name != "TYPE_CHECKING"})
    head = [_TITLE, "", "from __future__ import annotations", "", *(item.statement for item in imports)]
    sections = [f"\n\n# {f'--- {module.name} ':-<118}\n\n\n{module.body}" for module in modules]
    return "\n".join([*head, *sections, ""])


class _Import(NamedTuple):
    """One imported name, the statement that imports it, and what it then means."""

    statement: str
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _Module:
    """A module of the agent, taken apart.

    Attributes:
        name: Its name in the package.
        needs: The modules of the agent that it imports.
        imports: Its other imports.
        defined: The names that it defines.
        body: Its text after the imports.
    """

    name: str
    needs: tuple[str, ...]
    imports: tuple[_Import, ...]
    defined: tuple[str, ...]
    body: str


def _dependencies_first(
    name: str, read: Callable[[str], str], done: dict[str, _Module], importers: tuple[str, ...]
) -> list[_Module]:
    """Add a module to `done`, after all that it needs; return all of `done`."""
    if name in importers:
        raise ValueError(f"{PACKAGE}: modules import each other: {', '.join((*importers, name))}")
    if name not in done:
        module = _take_apart(name, read(name))
        for needed in module.needs:
            _dependencies_first(needed, read, done, (*importers, name))
        done[name] = module
    return list(done.values())


def _take_apart(name: str, text: str) -> _Module:
    statements = ast.parse(text, name, feature_version=OLDEST_AGENT_PYTHON).body
    count = next((index for index, node in enumerate(statements) if not _is_head(node)), len(statements))
    head, rest = statements[:count], statements[count:]
    late = [node.lineno for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
    if late:
        raise ValueError(f"{PACKAGE}.{name}, line {late[0]}: an import after other code")
    imports = [item for node in head for item in _imports(node)]
    own = [item for item in imports if item.meaning.startswith("edgecnn.")]
    for item in own:
        if not item.meaning.startswith(f"{PACKAGE}.") or item.meaning.count(".") != 4 or " as " in item.statement:
            raise ValueError(f"{PACKAGE}.{name}: not `from {PACKAGE}.x import name`: {item.statement}")
    return _Module(
        name=name,
        needs=tuple(item.meaning.split(".")[3] for item in own),
        imports=tuple(item for item in imports if item not in own),
        defined=tuple(_defined(rest)),
        body="\n".join(text.splitlines()[head[-1].end_lineno if head else 0 :]).strip("\n"),
    )


def _is_head(node: ast.stmt) -> bool:
    """Whether a statement is an import, one for type checkers, or a docstring: the file leaves those out."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _imports(node: ast.stmt) -> Iterator[_Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.name.partition(".")[0]
            yield _Import(ast.unparse(ast.Import([alias])), alias.asname or name, alias.name if alias.asname else name)
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        for alias in node.names:
            statement = ast.unparse(ast.ImportFrom(node.module, [alias], node.level))
            yield _Import(statement, alias.asname or alias.name, f"{node.module}.{alias.name}")


def _defined(statements: Sequence[ast.stmt]) -> Iterator[str]:
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _check_names(modules: Sequence[_Module]) -> None:
    """Refuse modules that need two meanings of one name: in the file they share a namespace."""
    meanings: dict[str, str] = {}
    for module in modules:
        defined = [(name, f"{PACKAGE}.{module.name}.{name}") for name in module.defined]
        for name, meaning in [*((item.name, item.meaning) for item in module.imports), *defined]:
            if meanings.setdefault(name, meaning) != meaning:
                raise ValueError(f"{PACKAGE}.{module.name}: {name} stands for {meanings[name]} elsewhere in the agent")
