"""The house keeps its rules: imports point one way, no circles, few loose modules, no long files."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import architecture
import pytest
from architecture import House, read
from architecture_picture import draw

ROOT = Path(__file__).parents[2]

# A small house that keeps every rule, with each kind of import.
SOUND = {
    "tasks/__init__.py": "",
    "tasks/support/__init__.py": "",
    "tasks/support/errors.py": "",
    "tasks/task.py": "from tasks.support import errors\n",
    "leaderboard/__init__.py": "",
    "leaderboard/records/__init__.py": "import tasks.task\n",
    "leaderboard/database/__init__.py": "def connect():\n    from ..records import Record\n",
    "evaluator/__init__.py": "",
    "evaluator/features/__init__.py": "from evaluator.features.store import Store\n",
    "evaluator/features/store.py": "from tasks.task import Task\n",
    "evaluator/probes/__init__.py": "import evaluator\nfrom evaluator import features\n",
    "evaluator/probes/trainer.py": "from leaderboard.records import Record\n",
    "evaluator/cli/__init__.py": "from evaluator.probes import fit\n",
}


@pytest.fixture(scope="module")
def house() -> House:
    return read(ROOT)


def planted(root: Path, more: Mapping[str, str] | None = None) -> House:
    """The small house with further files."""
    for name, text in {**SOUND, **(more or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return read(root)


def test_imports_point_one_way_without_circles(house: House) -> None:
    assert not house.upward()
    assert not house.circles()


def test_every_rule_is_kept(house: House) -> None:
    assert not house.problems(), "\n".join(house.problems())


def test_a_sound_house_has_no_problems_and_every_kind_of_import_is_seen(tmp_path: Path) -> None:
    house = planted(tmp_path)
    assert not house.problems()
    assert set(house.arrows()) == {
        ("tasks/task.py", "tasks/support"),
        ("leaderboard/records", "tasks/task.py"),
        ("leaderboard/database", "leaderboard/records"),
        ("evaluator/features", "tasks/task.py"),
        ("evaluator/probes", "evaluator/features"),
        ("evaluator/probes", "leaderboard/records"),
        ("evaluator/cli", "evaluator/probes"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "from evaluator.probes import fit\n",
        "import evaluator.probes\n",
        "from evaluator import probes\n",
        "from ..probes import fit\n",
        "def late():\n    from evaluator.probes import fit\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from evaluator.probes import Fit\n",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(text: str, tmp_path: Path) -> None:
    house = planted(tmp_path, {"evaluator/features/late.py": text})
    assert house.upward() == [("evaluator/features/late.py", "evaluator/probes/__init__.py")]
    # Probes already use features.
    assert house.circles() == [["evaluator/features", "evaluator/probes"]]


def test_an_upward_import_between_packages_is_found(tmp_path: Path) -> None:
    house = planted(
        tmp_path, {"tasks/support/board.py": "import leaderboard.records\n", "tasks/new.py": "import evaluator.cli\n"}
    )
    assert house.upward() == [
        ("tasks/new.py", "evaluator/cli/__init__.py"),
        ("tasks/support/board.py", "leaderboard/records/__init__.py"),
    ]


def test_a_circle_of_three_rooms_is_found_once(tmp_path: Path) -> None:
    house = planted(
        tmp_path,
        {
            "evaluator/results/a.py": "import evaluator.tracking.b\n",
            "evaluator/tracking/b.py": "import evaluator.export.c\n",
            "evaluator/export/c.py": "import evaluator.results.d\n",
            "evaluator/results/d.py": "",
        },
    )
    assert house.circles() == [["evaluator/export", "evaluator/results", "evaluator/tracking"]]


def test_a_circle_of_files_within_a_room_is_found(tmp_path: Path) -> None:
    house = planted(
        tmp_path,
        {
            "evaluator/probes/one.py": "from evaluator.probes.two import two\n",
            "evaluator/probes/two.py": "from evaluator.probes.one import one\n",
        },
    )
    assert house.circles() == [["evaluator/probes/one.py", "evaluator/probes/two.py"]]


def test_a_room_that_nobody_placed_is_found(tmp_path: Path) -> None:
    (problem,) = planted(tmp_path, {"evaluator/misc/things.py": ""}).problems()
    assert problem == "evaluator/misc has no place yet: add it to ORDER in docs/architecture.py."


def test_too_many_loose_modules_are_found(tmp_path: Path) -> None:
    names = ("backbone", "submission", "evaluate", "__main__")
    assert not planted(tmp_path, {f"evaluator/{name}.py": "" for name in names}).problems()
    (problem,) = planted(tmp_path, {"evaluator/studies.py": ""}).problems()
    assert problem == "evaluator/ has 6 loose modules, more than 5: move some into a folder."


def test_a_file_that_is_too_long_is_found(tmp_path: Path) -> None:
    assert not planted(tmp_path, {"evaluator/probes/long.py": "x = 1\n" * 450}).problems()
    (problem,) = planted(tmp_path, {"evaluator/probes/long.py": "x = 1\n" * 451}).problems()
    assert problem == "evaluator/probes/long.py has 451 lines, more than 450: divide it."


def test_the_command_prints_the_figures_and_fails_on_a_problem(tmp_path: Path) -> None:
    planted(tmp_path)
    command = [sys.executable, ROOT / "docs/architecture.py", "--json", "--root", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["packages"]["evaluator"] == {
        "rooms": 4,
        "folders": 3,
        "loose_modules": 1,
        "arrows": 2,
        "files": 6,
        "lines": 6,
        "longest": {"file": "evaluator/probes/__init__.py", "lines": 2},
    }
    planted(tmp_path, {"tasks/support/up.py": "import tasks.task\n"})
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["circles_of_rooms"] == [["tasks/support", "tasks/task.py"]]


def drawn(picture: Path) -> set[str]:
    """Rooms and arrows of a picture."""
    return {mark for node in ElementTree.parse(picture).iter() if "/" in (mark := node.get("id", ""))}


def test_the_picture_shows_every_room_and_arrow(house: House, tmp_path: Path) -> None:
    draw(house, tmp_path / "now.svg")
    now = drawn(tmp_path / "now.svg")
    assert {"evaluator/cli", "evaluator/cli -> evaluator/checks"} <= now
    assert now >= {
        " -> ".join(arrow) for arrow in house.arrows() if arrow[0].partition("/")[0] == arrow[1].partition("/")[0]
    }
    assert drawn(architecture.PICTURE) == now, "run python docs/architecture.py, which draws it again"
