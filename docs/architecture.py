"""Read the imports of the three packages, print the figures, and draw docs/images/architecture.svg.

python docs/architecture.py                  # the figures as a table, and the picture
python docs/architecture.py --json           # the same figures for a script; no picture
python docs/architecture.py --root ../other  # of another checkout; the picture stays as it is

The source is parsed and never imported. A room is a folder directly below a package, with all its files, or a loose
module beside those folders. An arrow means that one room imports another at least once, at any place in a file: at the
top, in a function, or for type checking alone. Modules that the registries load at run time, by a computed name, have
no arrow. The exit code is 1 if a rule is broken.
"""

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).parent / "images/architecture.svg"

ORDER = {
    "tasks": (
        "support", "task", "collections", "windows", "sound", "tables", "manifest", "train_part", "subsets", "prepare",
        "own", "verify", "__init__",
    ),
    "leaderboard": ("records", "ranking", "database", "web", "api", "__init__"),
    "evaluator": (
        "backbone", "guard", "features", "backbones", "submission", "probes", "tracking", "results", "efficiency",
        "checks", "export", "pretraining", "evaluate", "studies", "api", "__init__", "cluster", "cli", "__main__",
    ),
}  # fmt: skip
"""The rooms and loose modules of each package, lowest first. Each may import only those before it."""

LOOSE = {"leaderboard": 5, "evaluator": 5}
"""Maximum number of loose modules per package, including ``__init__`` and ``__main__``."""

LONGEST = 450
"""Maximum number of lines per file."""

Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True)
class House:
    """The files of the packages, as read from their source.

    Attributes:
        lines: number of lines per file, by its path from the root, such as ``evaluator/features/store.py``.
        imports: pairs of files; the first imports the second.
        docstrings: first paragraph of each file's docstring, by path. Files without a docstring are left out.
    """

    lines: Mapping[str, int]
    imports: frozenset[tuple[str, str]]
    docstrings: Mapping[str, str]

    @property
    def rooms(self) -> list[str]:
        """Folders as ``evaluator/features`` and loose modules as ``evaluator/evaluate.py``."""
        return sorted({room_of(path) for path in self.lines})

    def arrows(self) -> Counter[tuple[str, str]]:
        """Number of imports per pair of rooms; the first room imports the second."""
        pairs = ((room_of(importing), room_of(imported)) for importing, imported in self.imports)
        return Counter(pair for pair in pairs if pair[0] != pair[1])

    def circles(self) -> list[list[str]]:
        """Groups of rooms that import each other, directly or through others; then such groups of files."""
        return [*strongly_connected(self.arrows()), *strongly_connected(self.imports)]

    def upward(self) -> list[tuple[str, str]]:
        """Imports that break `ORDER`, as pairs of files. Rooms that are not in `ORDER` are only in `unplaced`."""
        return sorted(pair for pair in self.imports if _is_upward(*map(room_of, pair)))

    def unplaced(self) -> list[str]:
        """Rooms that are not in `ORDER`."""
        return [room for room in self.rooms if place_of(room)[1] is None]

    def problems(self) -> list[str]:
        """One sentence per broken rule, with the action to take."""
        return [
            *(
                f"{importing} imports {imported}, which is above it: move the shared code down, or pass it as an"
                " argument."
                for importing, imported in self.upward()
            ),
            *(f"These import each other in a circle: {', '.join(circle)}." for circle in self.circles()),
            *(f"{room} has no place yet: add it to ORDER in docs/architecture.py." for room in self.unplaced()),
            *(
                f"{package}/ has {count} loose modules, more than {LOOSE[package]}: move some into a folder."
                for package, count in self.loose().items()
                if count > LOOSE.get(package, count)
            ),
            *(
                f"{path} has {count} lines, more than {LONGEST}: divide it."
                for path, count in sorted(self.lines.items())
                if count > LONGEST
            ),
        ]

    def loose(self) -> dict[str, int]:
        """Number of loose modules per package."""
        return {package: sum(is_loose(room) for room in self.rooms_of(package)) for package in ORDER}

    def rooms_of(self, package: str) -> list[str]:
        """The rooms of one package."""
        return [room for room in self.rooms if room.startswith(f"{package}/")]

    def figures(self) -> dict[str, Any]:
        """All figures as plain values, for ``--json`` and for the table."""
        arrows = self.arrows()
        packages = {}
        for package in ORDER:
            rooms, loose = self.rooms_of(package), self.loose()[package]
            lines = {path: count for path, count in self.lines.items() if path.startswith(f"{package}/")}
            longest = max(lines, key=lambda path: lines[path], default=None)
            packages[package] = {
                "rooms": len(rooms),
                "folders": len(rooms) - loose,
                "loose_modules": loose,
                "arrows": sum(all(room in rooms for room in arrow) for arrow in arrows),
                "files": len(lines),
                "lines": sum(lines.values()),
                "longest": {"file": longest, "lines": lines[longest] if longest else 0},
            }
        return {
            "packages": packages,
            "arrows": [
                {"from": importing, "to": imported, "imports": count}
                for (importing, imported), count in sorted(arrows.items())
            ],
            "circles_of_rooms": strongly_connected(arrows),
            "circles_of_files": strongly_connected(self.imports),
            "upward": [list(arrow) for arrow in self.upward()],
            "unplaced": self.unplaced(),
            "problems": self.problems(),
        }


def read(root: Path) -> House:
    """Parse every Python file of the packages that are below ``root``."""
    files = {
        path.relative_to(root).as_posix(): path for package in ORDER for path in sorted((root / package).rglob("*.py"))
    }
    names = {_module(file): file for file in files}
    lines, imports, docstrings = {}, set(), {}
    for file, path in files.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=file)
        lines[file] = len(text.splitlines())
        if docstring := ast.get_docstring(tree):
            docstrings[file] = " ".join(docstring.partition("\n\n")[0].replace("`", "").split())
        imports |= {(file, names[name]) for name in _imported(tree, file, names) if names[name] != file}
    return House(lines, frozenset(imports), docstrings)


def _module(file: str) -> str:
    """The module name: ``evaluator.features.store`` for its file; the folder's name for its ``__init__.py``."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(tree: ast.AST, file: str, names: Mapping[str, str]) -> Iterator[str]:
    """Names of the packages' modules that a file imports, at any place in the file."""
    folder = file.rpartition("/")[0].split("/")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # ``import evaluator`` alone locates the package and uses none of its modules.
            yield from (alias.name for alias in node.names if alias.name in names and alias.name not in ORDER)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                if submodule in names or source in names:
                    yield submodule if submodule in names else source


def room_of(path: str) -> str:
    """The room of a file: the folder below its package, or the file itself."""
    return "/".join(path.split("/")[:2])


def is_loose(room: str) -> bool:
    """Whether a room is a loose module."""
    return room.endswith(".py")


def place_of(room: str) -> tuple[int, int | None]:
    """Index of a room's package, and index of the room in the package, lowest first; None if not in `ORDER`."""
    package, _, name = room.removesuffix(".py").partition("/")
    places = ORDER[package]
    return list(ORDER).index(package), places.index(name) if name in places else None


def _is_upward(importing: str, imported: str) -> bool:
    """Whether the imported room is above the importing room."""
    (package, place), (other_package, other_place) = place_of(importing), place_of(imported)
    if package != other_package:
        return package < other_package
    return place is not None and other_place is not None and place < other_place


def strongly_connected(arrows: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Groups of two or more nodes that all reach each other along the arrows, sorted."""
    following: dict[Node, set[Node]] = {}
    for start, end in arrows:
        following.setdefault(start, set()).add(end)
        following.setdefault(end, set())
    ends = {node: reached(node, following) for node in following}
    groups = {frozenset({node, *(other for other in ends[node] if node in ends[other])}) for node in following}
    return sorted(sorted(group, key=str) for group in groups if len(group) > 1)


def reached(start: Node, following: Mapping[Node, set[Node]]) -> set[Node]:
    """Nodes that one or more arrows reach from ``start``; ``following`` holds the ends of each node's arrows."""
    seen: set[Node] = set()
    waiting = [start]
    while waiting:
        new = following.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def main() -> int:
    """Print the figures, draw the picture of this checkout, and return 1 if a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to read (default: this one)")
    parser.add_argument("--json", action="store_true", help="print JSON and draw nothing")
    parser.add_argument("--picture", type=Path, help="where to draw (default: docs/images/architecture.svg of this)")
    arguments = parser.parse_args()
    house = read(arguments.root)
    if arguments.json:
        print(json.dumps(house.figures(), indent=2))
    else:
        print(table(house))
        target = arguments.picture or (PICTURE if arguments.root.resolve() == ROOT.resolve() else None)
        if target:
            from architecture_picture import draw

            draw(house, target)
    return 1 if house.problems() else 0


def table(house: House) -> str:
    """The figures in columns, then the broken rules."""
    figures = house.figures()
    rows = [("package", "rooms", "folders", "loose modules", "arrows", "files", "lines", "longest file")]
    for package, of in figures["packages"].items():
        counts = (of[key] for key in ("rooms", "folders", "loose_modules", "arrows", "files", "lines"))
        rows.append((package, *map(str, counts), f"{of['longest']['lines']} {of['longest']['file']}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    between = Counter(
        (arrow["from"].partition("/")[0], arrow["to"].partition("/")[0])
        for arrow in figures["arrows"]
        if arrow["from"].partition("/")[0] != arrow["to"].partition("/")[0]
    )
    lines.append("")
    lines += [f"{first} -> {second}: {count} arrows" for (first, second), count in sorted(between.items())]
    counted = ("circles_of_rooms", "circles_of_files", "upward", "unplaced")
    lines.append(", ".join(f"{name.replace('_', ' ')}: {len(figures[name])}" for name in counted))
    return "\n".join([*lines, *(["", *figures["problems"]] if figures["problems"] else [])])


if __name__ == "__main__":
    sys.exit(main())
