"""The picture of docs/architecture.py: a column per package, a box per room, an arrow per import between rooms."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from architecture import ORDER, House, is_loose, place_of, reached
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Inches. A column holds its arrows to the left of its boxes; the highest room stands at the top.
_COLUMN, _BOX, _STEP, _HEIGHT, _TOP = 4.4, 3.1, 0.9, 0.8, 0.9
_BOTTOM = 0.3
# Letters of the small text that fit a box.
_LETTERS = 62
_LEGEND = (
    "An arrow: one room imports another of its package. A light arrow: it also reaches that room through a third one."
    " Coloured words in a box: what it imports of other packages."
)
_FILL = {"tasks": "#e8f3ec", "leaderboard": "#fdf1e0", "evaluator": "#e6eef9"}
_INK = {"tasks": "#2c6e49", "leaderboard": "#9a5b00", "evaluator": "#1f4e8c"}
_TEXT, _LIGHT = "#222222", "#c9c9c9"


def draw(house: House, target: Path) -> None:
    """Write the picture as SVG.

    The rooms of a package are sorted so that every arrow points down, except in a circle. An arrow that follows from
    two or more others is light. What a room uses of another package is named in its box, since such arrows would
    cross the whole picture.
    """
    columns = {package: _from_the_top(house, package) for package in reversed(ORDER) if house.rooms_of(package)}
    height = _TOP + _STEP * max(map(len, columns.values())) + _BOTTOM
    width = _COLUMN * len(columns)
    # The same imports give the same bytes; a browser draws the letters, so that they can be searched and copied.
    with mpl.rc_context({"svg.hashsalt": "architecture", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for column, (package, rooms) in enumerate(columns.items()):
            _column(axes, house, package, rooms, left=column * _COLUMN + _COLUMN - _BOX - 0.15, top=height - _TOP)
        axes.text(0.15, 0.12, _LEGEND, size=8, color=_TEXT)
        figure.savefig(target, format="svg", metadata={"Date": None, "Title": "Rooms and imports"})


def _column(axes: Axes, house: House, package: str, rooms: list[str], *, left: float, top: float) -> None:
    arrows = [arrow for arrow in house.arrows() if set(arrow) <= set(rooms)]
    middle = {room: top - _STEP * row - _STEP / 2 for row, room in enumerate(rooms)}
    axes.text(left, top + 0.55, f"{package}/", size=15, weight="bold", color=_INK[package])
    says = house.docstrings.get(f"{package}/__init__.py", "")
    axes.text(left, top + 0.43, "\n".join(_wrapped(says)), size=6.6, color=_TEXT, va="top")
    axes.text(left, top + 0.06, _counts(house, package), size=6.6, color=_INK[package])
    followed = _following(arrows)
    for importing, imported in sorted(arrows, key=lambda arrow: arrow in followed):
        distance = abs(middle[importing] - middle[imported]) / _STEP
        light = (importing, imported) in followed
        # Downward arrows stand to the left of the boxes. One that points up belongs to a circle.
        bend = 0.9 / max(distance, 1) ** 0.62
        patch = FancyArrowPatch(
            (left, middle[importing] - 0.06),
            (left, middle[imported] + 0.08),
            connectionstyle=f"arc3,rad={bend if middle[importing] > middle[imported] else -bend}",
            arrowstyle="-|>",
            mutation_scale=8,
            linewidth=0.7 if light else 1.1,
            color=_LIGHT if light else _INK[package],
            shrinkA=0,
            shrinkB=0,
        )
        patch.set_gid(f"{importing} -> {imported}")
        axes.add_patch(patch)
    for room in rooms:
        _box(axes, house, room, left, middle[room] - _HEIGHT / 2)


def _box(axes: Axes, house: House, room: str, left: float, bottom: float) -> None:
    package, _, name = room.partition("/")
    box = FancyBboxPatch(
        (left, bottom), _BOX, _HEIGHT, "round,pad=0,rounding_size=0.06", fc=_FILL[package], ec=_INK[package], lw=0.8
    )
    box.set_gid(room)
    axes.add_patch(box)
    top = bottom + _HEIGHT - 0.06
    label = name if is_loose(room) else f"{name}/"
    axes.text(left + 0.07, top, label, size=9, weight="bold", color=_INK[package], va="top")
    says = house.docstrings.get(room if is_loose(room) else f"{room}/__init__.py", "")
    lines = _wrapped(says)
    for number, line in enumerate(lines):
        axes.text(left + 0.07, top - 0.17 - 0.14 * number, line, size=6.6, color=_TEXT, va="top")
    for number, (other, used) in enumerate(_used(house, room).items(), len(lines)):
        line = textwrap.shorten(f"{other}: {', '.join(used)}", _LETTERS, placeholder=" …")
        text = axes.text(left + 0.07, top - 0.17 - 0.14 * number, line, size=6.6, color=_INK[other], va="top")
        text.set_gid(f"{room} -> {other}/: {' '.join(used)}")


def _wrapped(says: str) -> list[str]:
    return textwrap.wrap(says, _LETTERS, max_lines=2, placeholder=" …", break_on_hyphens=False)


def _used(house: House, room: str) -> dict[str, list[str]]:
    """By package, the names of rooms of other packages that a room imports."""
    found: dict[str, list[str]] = {}
    for importing, imported in sorted(house.arrows()):
        package, _, name = imported.partition("/")
        if importing == room and package != room.partition("/")[0]:
            found.setdefault(package, []).append(name.removesuffix(".py"))
    return found


def _counts(house: House, package: str) -> str:
    of = house.figures()["packages"][package]
    return f"{of['folders']} folders, {of['loose_modules']} loose modules, {of['arrows']} arrows"


def _from_the_top(house: House, package: str) -> list[str]:
    """Rooms so that each stands above those it imports; a package's ``__init__`` only where it has arrows."""
    drawn = {room for arrow in house.arrows() for room in arrow}
    rooms = [room for room in house.rooms_of(package) if room in drawn or not room.endswith("/__init__.py")]
    below: dict[str, set[str]] = {room: set() for room in rooms}
    for importing, imported in house.arrows():
        if importing in below and imported in below:
            below[importing].add(imported)
    sorted_rooms: list[str] = []
    while below:
        free = [room for room, used in below.items() if not used & below.keys()]
        # Where there is a circle no room is free: the one that needs the fewest goes first.
        room = min(free or below, key=lambda name: (len(below[name] & below.keys()), _rank(name)))
        sorted_rooms.append(room)
        del below[room]
    return sorted_rooms[::-1]


def _rank(room: str) -> tuple[float, str]:
    """Rooms without a place come last, by name."""
    _, place = place_of(room)
    return (len(ORDER[room.partition("/")[0]]) if place is None else place), room


def _following(arrows: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows whose end is also reached through a third room."""
    direct: dict[str, set[str]] = {}
    for importing, imported in arrows:
        direct.setdefault(importing, set()).add(imported)
    return {
        (importing, imported)
        for importing, ends in direct.items()
        for imported in ends
        if any(imported in reached(other, direct) for other in ends - {imported})
    }
