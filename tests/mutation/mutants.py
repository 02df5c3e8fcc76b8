"""Find every limit and check in a module's source, and make the sources in which one of them is taken away.

A mutant is one small change:
- REMOVED: a `raise` that a stranger's bytes can cause is left out (the same as its condition being False), or the
  condition of an `if` that compares against a limit is False;
- OPERAND: one part of such an `and`/`or` condition is left out;
- BOUNDARY: one `<`, `<=`, `>`, `>=` in such a condition lets one more, or one less, through;
- UNTRANSLATED: an error of a library is let through instead of becoming BadWire;
- LIFTED: a limit that has a name (with MAX, MOST or SHOWN in it) is 16 times what it was.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

REMOVED = "removed"
OPERAND = "operand"
BOUNDARY = "boundary"
UNTRANSLATED = "untranslated"
LIFTED = "lifted"
KINDS = (REMOVED, OPERAND, BOUNDARY, UNTRANSLATED, LIFTED)

_ORDERED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Mutant:
    """One change. To notice it, a test must run at least one of `lines`; where there are none, any test may."""

    kind: str
    line: int
    text: str  # the line of source that is changed
    lines: frozenset[int]
    _source: str
    _path: tuple
    _change: Callable[[ast.AST], None]

    def mutated(self) -> ast.Module:
        """Return the module with the change made."""
        tree = ast.parse(self._source)
        self._change(_at(tree, self._path))
        return ast.fix_missing_locations(tree)

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}: {self.text}"


def mutants_of(source: str) -> list[Mutant]:
    """Return the mutants of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    lines = source.splitlines()
    found = []
    for path, node in _walk(tree, ()):
        for kind, line, covering, change in _changes(node):
            text = lines[line - 1].strip()
            found.append(Mutant(kind, line, text, frozenset(covering), source, path, change))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.kind))


def _changes(node: ast.AST) -> Iterator[tuple]:
    """Yield (kind, line, covering lines, change) for what can be taken away right at this node."""
    for field in ("body", "orelse", "finalbody"):
        for index, statement in enumerate(getattr(node, field, []) if isinstance(node, ast.stmt) else []):
            if isinstance(statement, ast.Raise) and statement.exc is not None:
                yield REMOVED, statement.lineno, [statement.lineno], _leave_out(field, index)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _names_a_limit(node.targets[0].id):
        # The value stands at module level, which no test runs: every test may be the one that notices.
        yield LIFTED, node.lineno, [], _sixteen_times
    if isinstance(node, ast.ExceptHandler) and any(isinstance(s, ast.Raise) and s.exc for s in node.body):
        raising = next(s for s in node.body if isinstance(s, ast.Raise))
        yield UNTRANSLATED, raising.lineno, [raising.lineno], _let_through
    if isinstance(node, ast.If) and (_raises(node) or _compares_with_a_limit(node.test)):
        covering = range(node.lineno, node.body[0].lineno)
        if not _raises(node):
            yield REMOVED, node.lineno, covering, _never
        for path, part in _walk(node.test, ()):
            if isinstance(part, ast.BoolOp):
                for index in range(len(part.values)):
                    yield OPERAND, part.values[index].lineno, covering, _without_operand(path, index)
            if isinstance(part, ast.Compare):
                for index, operator in enumerate(part.ops):
                    if type(operator) in _ORDERED:
                        yield BOUNDARY, part.lineno, covering, _at_the_boundary(path, index)


def _raises(node: ast.If) -> bool:
    return any(isinstance(statement, ast.Raise) for statement in node.body)


def _compares_with_a_limit(test: ast.expr) -> bool:
    """Tell whether a condition compares sizes: with <, <=, >, >=, or the length of something."""
    for part in ast.walk(test):
        if isinstance(part, ast.Compare):
            sides = [part.left, *part.comparators]
            names = [side.func.id for side in sides if isinstance(side, ast.Call) and isinstance(side.func, ast.Name)]
            if "len" in names or any(type(operator) in _ORDERED for operator in part.ops):
                return True
    return False


def _names_a_limit(name: str) -> bool:
    return name.isupper() and any(word in name.split("_") for word in ("MAX", "MOST", "SHOWN"))


def _sixteen_times(node: ast.AST) -> None:
    node.value = ast.BinOp(node.value, ast.Mult(), ast.Constant(16))


def _leave_out(field: str, index: int):
    def change(node: ast.AST) -> None:
        getattr(node, field)[index] = ast.Pass()

    return change


def _let_through(node: ast.AST) -> None:
    node.body = [ast.Raise()]


def _never(node: ast.AST) -> None:
    node.test = ast.Constant(False)


def _without_operand(path: tuple, index: int):
    def change(node: ast.AST) -> None:
        operation = _at(node.test, path)
        operation.values[index] = ast.Constant(isinstance(operation.op, ast.And))

    return change


def _at_the_boundary(path: tuple, index: int):
    def change(node: ast.AST) -> None:
        comparison = _at(node.test, path)
        comparison.ops[index] = _ORDERED[type(comparison.ops[index])]()

    return change


def _walk(node: ast.AST, path: tuple) -> Iterator[tuple]:
    """Yield (path, node) for the node and all below it; a path is a tuple of (field, index or None)."""
    yield path, node
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _walk(item, (*path, (field, index)))
        elif isinstance(value, ast.AST):
            yield from _walk(value, (*path, (field, None)))


def _at(node: ast.AST, path: tuple) -> ast.AST:
    for field, index in path:
        node = getattr(node, field) if index is None else getattr(node, field)[index]
    return node
