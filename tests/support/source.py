"""Files of Python, read as trees: which names they use, whatever they call them."""

from __future__ import annotations

import ast
from typing import Any

from tests.support.processes import ROOT

PACKAGES = ("chassis", "userservice")
SHELL = sorted(ROOT.glob("*.py"))
INSIDE = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
PRODUCT = [*SHELL, *INSIDE]
# Methods that change a container.
CHANGES = {
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"),
    *("setdefault", "update"),
}


def path_of(file):
    """Return a file's path in the repository."""
    return str(file.relative_to(ROOT))


def used_names(source):
    """Return the names that a source imports, and those that it reads from what it imports.

    An imported name keeps its own: `e.get` after `from os import environ as e` is os.environ.get.
    """
    tree = ast.parse(source)
    known = {"__import__": "__import__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            known |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            known |= {each.asname: each.name for each in node.names if each.asname}
            roots = [each.name.partition(".")[0] for each in node.names if not each.asname]
            known |= dict(zip(roots, roots, strict=True))
    read = {_dotted(node, known) for node in ast.walk(tree)}
    imported = {
        each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names
    }
    return (read | imported | set(known.values()) - {"__import__"}) - {""}


def _dotted(node, known):
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    base = _dotted(node.value, known) if isinstance(node, ast.Attribute) else ""
    return f"{base}.{node.attr}" if base else ""


def shared_changes(source):
    """Return the names of a module's own values that its functions change, or set anew."""
    tree = ast.parse(source)
    own = {name for statement in tree.body for name in _assigned(statement)}
    changed = set()
    for function in _functions(tree):
        local = _locals(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                changed |= set(node.names)
            changed |= {_root(each) for each in _changed(node)} & own - local
    return changed


def first_uses(source):
    """Return the attributes and items that a source sets where they are missing."""
    return {
        ast.unparse(target)
        for test in ast.walk(ast.parse(source))
        if isinstance(test, ast.If) and (looked_at := _missing(test.test))
        for statement in test.body
        for node in ast.walk(statement)
        for target in _targets(node)
        if looked_at in {ast.unparse(target), ast.unparse(getattr(target, "value", target))}
        and not isinstance(target, ast.Name)
    }


def _functions(tree):
    return (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))


def _targets(node):
    if isinstance(node, ast.Assign | ast.Delete):
        return node.targets
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def _assigned(statement):
    return [each.id for each in _targets(statement) if isinstance(each, ast.Name)]


def _locals(function):
    nodes = list(ast.walk(function))
    names = [each for each in nodes if isinstance(each, ast.Name)]
    stored = {each.id for each in names if isinstance(each.ctx, ast.Store)}
    return stored | {each.arg for each in nodes if isinstance(each, ast.arg)}


def _changed(node):
    """Return the expressions whose value a node changes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return [node.func.value] if node.func.attr in CHANGES else []
    return [each for each in _targets(node) if isinstance(each, ast.Subscript | ast.Attribute)]


def _root(node: Any):
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _missing(test):
    """Return what a condition finds missing: `a.b` of `a.b is None` and of `k not in a.b`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return ast.unparse(test.operand)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is):
        return ast.unparse(test.left)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotIn):
        return ast.unparse(test.comparators[0])
    return ""
