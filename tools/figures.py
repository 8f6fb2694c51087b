"""Prints how large the product's files and functions are, and which rooms import which.

Run it with `make figures`, or for another checkout: python tools/figures.py FOLDER
"""  # noqa: INP001 - a program of its own

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = ("chassis", "userservice")


def product_files(root: Path) -> list[Path]:
    """Return the files that a process runs: those at the root, and the packages."""
    inside = (file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return sorted([*root.glob("*.py"), *inside])


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length in lines, docstring and decorators included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def room(root: Path, file: Path) -> str:
    """Return the room that a file lies in: a folder of a package, or the file itself."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] in PACKAGES else "root"


def arrows(root: Path, files: Sequence[Path]) -> Counter[tuple[str, str]]:
    """Count the imports that lead from one room into another."""
    found: Counter[tuple[str, str]] = Counter()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[0] in PACKAGES:
                    names = [each.name for each in node.names] if len(parts) == 1 else [parts[1]]
                    for name in names:
                        found[room(root, file), f"{parts[0]}.{name}"] += 1
    return Counter({pair: number for pair, number in found.items() if pair[0] != pair[1]})


def quantiles(values: Sequence[int]) -> str:
    """Return the spread of values as text."""
    ordered = sorted(values)
    at = {name: ordered[int(share * (len(ordered) - 1))] for name, share in SHARES.items()}
    return ", ".join(f"{name} {value}" for name, value in at.items())


SHARES = {"median": 0.5, "p90": 0.9, "largest": 1.0}


def main(root: Path) -> None:
    """Print the figures of a checkout."""
    files = product_files(root)
    lengths = [len(file.read_text(encoding="utf-8").splitlines()) for file in files]
    sizes = [size for file in files for _, size in functions(file)]
    between = arrows(root, files)
    lines = [
        f"files      {len(files)}, {sum(lengths)} lines: {quantiles(lengths)}",
        f"functions  {len(sizes)}: {quantiles(sizes)}",
        f"rooms      {len({room(root, file) for file in files})}, {len(between)} arrows between",
        *(
            f"  {source} -> {target}  {number}"
            for (source, target), number in between.most_common()
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else Path(__file__).resolve().parent.parent))
