"""`beans records verify`: a right record checks out, and every number that is not the predictions' is named."""

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consistent import PROTOCOL, write_consistent

from evaluator.results.verification import Verifier
from leaderboard.records.files import read_record
from leaderboard.records.predictions import PredictedScores, read_predictions, write_predictions
from tasks.manifest import read_manifest
from tasks.prepare.sources import SOURCES
from tasks.prepare.state import MARK
from tasks.subsets import limit, shots
from tasks.task import Manifest, load_task

Beans = Callable[..., tuple[int, str, str]]


def problems(path: Path) -> list[str]:
    return Verifier(path.parent / "data").problems(path)


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a record file; ``task__n_test`` is the field n_test of task, ``layers__2__valid`` of a list."""
    document = json.loads(path.read_text())
    for key, value in changes.items():
        *outer, last = key.split("__")
        place = document
        for step in outer:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value
    path.write_text(json.dumps(document))


def edit_predictions(path: Path, **changes: Any) -> None:
    """Change the predictions, and the sha256 in the record with them: a forgery, and no damage."""
    record = read_record(path)
    test = replace(read_predictions(path.parent, record), **changes)
    edit(path, predictions__sha256=write_predictions(path.parent, record.stem, test).sha256)


@pytest.mark.parametrize("kind", ["classification", "detection"])
@pytest.mark.parametrize("seed", range(3))
def test_record_whose_numbers_were_computed_by_hand_checks_out(tmp_path: Path, kind: str, seed: int) -> None:
    """Accuracy, mAP, deviation, bootstrap by recordings and secondary metrics, each as a few lines would compute it."""
    path = write_consistent(tmp_path, kind=kind, seed=seed)
    assert problems(path) == []


@pytest.mark.parametrize("kind", ["classification", "detection"])
@pytest.mark.parametrize("field", ["test", "test_std", "ci_low", "ci_high", "test_seeds__1", "secondary__macro_f1"])
def test_every_number_that_is_not_the_predictions_is_named(tmp_path: Path, kind: str, field: str) -> None:
    path = write_consistent(tmp_path, kind=kind)
    value = json.loads(path.read_text())
    for step in field.split("__"):
        value = value[int(step) if step.isdigit() else step]
    edit(path, **{field: value + 5e-7})
    assert problems(path) == [], "rounding is no lie"
    edit(path, **{field: value + 2e-6})
    name = field.replace("__1", "[1]").replace("__", ".")
    assert [problem.split(" is ")[0] for problem in problems(path)] == [name]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task__n_test": 25}, "have 24 items and the record 25"),
        ({"task__labels": ["a", "b", "c", "d"]}, "have 3 classes and the record 4"),
        ({"test_seeds": [0.5]}, "have 2 seeds and the record 1"),
        ({"protocol": "beans-probe/3"}, "protocol beans-probe/3 is not known"),
        ({"protocol": "beans-probe/2+colour=2"}, "there is no rule colour"),
        ({"protocol": "beans-probe/2+seeds=2+trials=3+bootstrap=200"}, "is written beans-probe/2+trials=3+seeds=2"),
        ({"protocol": PROTOCOL + "+train=most"}, "train cannot be most"),
        ({"protocol": "beans-probe/2+trials=3+seeds=5"}, "is written beans-probe/2+trials=3 "),
        ({"protocol": "beans-probe/2+trials=3+bootstrap=200"}, "2 test seeds, where the protocol has 5"),
        ({"protocol": "beans-probe/2+seeds=2+bootstrap=200"}, "3 trials, where the protocol has 16"),
        ({"protocol": "beans-probe/2+trials=3+seeds=2+bootstrap=10000000"}, "bootstrap is above"),
        ({"protocol": PROTOCOL + "+precision=bf16"}, "precision fp32, where the protocol has bf16"),
        ({"protocol": "beans-probe/2+epochs=20+trials=3+seeds=2+bootstrap=200"}, "more epochs"),
        ({"protocol": "beans-probe/2+grid=0.01,0.1,0.5+seeds=2+bootstrap=200"}, "learning rate 1,"),
        ({"trials__0__lr": 5.0}, "learning rate 5"),
        ({"lr": 0.05}, "validation chooses"),
        ({"valid": 0.99}, "validation chooses"),
        ({"layers__2__valid": 0.99}, "the curve at layer 2"),
        ({"layers__2__index": 3}, "not numbered"),
        ({"trials__1__valid": [0.1]}, "one score and one epoch"),
        ({"best_layer": 9}, "none of the 4 layers"),
        ({"best_layer_name": "another"}, "best_layer_name"),
        ({"metric": "map"}, "is not scored by map"),
        ({"seconds": {"test": -1}}, "seconds.test: Input should be greater than or equal to 0"),
        ({"task__group": "core"}, "has no task mine in the group core"),
        ({"id": "f" * 16}, "predictions file must be called"),
    ],
)
def test_record_that_contradicts_itself_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    path = write_consistent(tmp_path)
    edit(path, **changes)
    assert any(expected in problem for problem in problems(path)), problems(path)


# A grid with the rates of `consistent`.
STATED = "beans-probe/2+grid=0.01,0.1,1+seeds=2+bootstrap=200"


@pytest.mark.parametrize("seed", range(3))
def test_record_that_states_how_its_probe_was_chosen_checks_out(tmp_path: Path, seed: int) -> None:
    assert problems(write_consistent(tmp_path, seed=seed, protocol=STATED, stated=True)) == []


def counted(kind: str = "silent", train: int = 1, valid: int = 1, test: int = 0) -> dict[str, Any]:
    return {"kind": kind, "train": train, "valid": valid, "test": test, "example": "a.wav"}


@pytest.mark.parametrize(
    ("warnings", "expected"),
    [
        ([counted()], ""),
        ([counted("shared"), counted()], ""),
        (None, "the flag silent-sounds is set"),
        ([], "the flag silent-sounds is set"),
        ([counted("clipped")], "the flag clipped-sounds is missing"),
        ([counted(), counted()], "a kind twice"),
        ([counted(valid=11)], "counts 11 silent items of valid, which has 10"),
        ([counted(train=0, valid=0)], "counts no item"),
        ([counted("shared", valid=0), counted()], "in one split only"),
        ([counted("unheard")], "data_warnings.0.kind"),
    ],
)
def test_what_a_record_counts_of_the_sounds_must_be_possible(
    tmp_path: Path, warnings: list[dict[str, Any]] | None, expected: str
) -> None:
    """The flags of the board follow from the counts, and no split has more odd sounds than sounds."""
    path = write_consistent(tmp_path, protocol=STATED)
    shared = ["shared-sounds"] * any(one["kind"] == "shared" for one in warnings or [])
    edit(path, data_warnings=warnings, flags=["silent-sounds", *shared])
    found = problems(path)
    assert any(expected in problem for problem in found) if expected else found == [], found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"selection__alike": [3, 0, 1, 2]}, "not sorted, or has a layer twice"),
        ({"selection__alike": [0, 1, 2, 3, 3]}, "not sorted, or has a layer twice"),
        ({"selection__alike": []}, "selection.alike"),
        ({"selection__alike": [0, 1, 2, 3, 4]}, "one that is none of the 4 layers"),
        ({"selection__looks": 362}, "selection.looks is 362, and the trials have 363 together"),
        ({"selection__optimism": 0.5}, "not the difference of valid and test"),
        ({"selection__recordings": 11}, "11 recordings of validation, which has 10 items"),
        ({"flags": ["undertrained"]}, "the flag few-validation-recordings is missing"),
        ({"flags": ["few-validation-recordings"]}, "the flag undertrained is missing"),
        ({"reference__test": 0.0}, "the flag undertrained is set"),
        ({"reference": None}, "the flag undertrained is set"),
        ({"selection": None}, "the flag few-validation-recordings is set"),
        ({"trials__1__loss": [0.1]}, "one loss for each of the 4 layers"),
    ],
)
def test_record_that_contradicts_what_it_states_of_the_choice_is_named(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    """A submitter could hide how little the choice can be trusted."""
    path = write_consistent(tmp_path, protocol=STATED, stated=True)
    edit(path, **changes)
    assert any(expected in problem for problem in problems(path)), problems(path)


def test_layers_alike_without_the_best_layer_are_named(tmp_path: Path) -> None:
    path = write_consistent(tmp_path, protocol=STATED, stated=True)
    edit(path, selection__alike=[layer for layer in range(4) if layer != read_record(path).best_layer])
    assert any("lacks the best layer" in problem for problem in problems(path)), problems(path)


def test_number_of_recordings_is_that_of_the_prepared_task(tmp_path: Path, prepared: Manifest) -> None:
    """More recordings than there are would hide that validation is small."""
    found = problems(of_task(tmp_path, prepared, protocol=STATED, stated=True))
    assert found == ["7 recordings of validation, where mini-calls has 50"]


def test_optimism_may_differ_by_rounding(tmp_path: Path) -> None:
    path = write_consistent(tmp_path, protocol=STATED, stated=True)
    record = read_record(path)
    assert record.selection is not None
    edit(path, selection__optimism=record.selection.optimism + 5e-7)
    assert problems(path) == []


def test_grid_is_a_departure_like_any_other(tmp_path: Path) -> None:
    protocol = "beans-probe/2+grid=0.01,0.1,1+seeds=2+bootstrap=200"
    assert problems(write_consistent(tmp_path, protocol=protocol)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ids": ["x"] * 24}, "an item twice"),
        ({"ids": ["x" * 10_000, *map(str, range(23))]}, "longer than"),
        ({"scores": np.full((2, 24, 3), np.nan, np.float32)}, "not a finite number"),
        ({"scores": np.full((2, 24, 3), -np.inf, np.float32)}, "not a finite number"),
        ({"scores": np.zeros((2, 24, 3))}, "does not contain test scores"),
        ({"scores": np.zeros((2, 24), np.float32)}, "does not contain test scores"),
        ({"targets": np.full(24, 3)}, "none of the classes"),
        ({"targets": np.full(24, -1)}, "none of the classes"),
        ({"targets": np.zeros((24, 3), np.uint8)}, "of a detection task"),
        ({"targets": np.zeros(23, np.int64)}, "does not contain test scores"),
        ({"recordings": ["one"]}, "does not contain test scores"),
        ({"recordings": [7] * 24}, "does not contain test scores"),
        ({"recordings": ["one"] * 24}, "ci_"),
    ],
)
def test_predictions_that_cannot_be_are_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """The sha256 is right: whoever made the record made these."""
    path = write_consistent(tmp_path)
    edit_predictions(path, **changes)
    found = problems(path)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"]
)
def test_file_that_is_no_predictions_is_named(tmp_path: Path, content: bytes) -> None:
    path = write_consistent(tmp_path)
    (tmp_path / read_record(path).predictions.file).write_bytes(content)
    edit(path, predictions__sha256=hashlib.sha256(content).hexdigest())
    assert "does not contain test scores" in problems(path)[0]


def test_damaged_and_missing_predictions_are_named(tmp_path: Path) -> None:
    path = write_consistent(tmp_path)
    file = tmp_path / read_record(path).predictions.file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "its sha256 differs" in problems(path)[0]
    file.unlink()
    assert "is missing" in problems(path)[0]


@pytest.fixture
def prepared(tmp_path: Path) -> Manifest:
    """mini-calls as it is prepared, in everything but its sound."""
    task = load_task("mini-calls", data=tmp_path / "data")
    task.root.mkdir(parents=True)
    (task.root / MARK).write_text(json.dumps({"version": SOURCES.get("generated").version(task), "copy": "generated"}))
    assert task.labels is not None
    with (task.root / "clips.csv").open("w", newline="") as sink:
        rows = csv.writer(sink)
        rows.writerow(("path", "label", "split", "recording"))
        for split, count in task.published.items.items():
            for number in range(count):
                label = task.labels[number % len(task.labels)]
                rows.writerow((f"{split}-{number}.flac", label, split, f"{split}-{number // 2}"))
    return read_manifest(task)


def of_task(directory: Path, manifest: Manifest, **changes: Any) -> Path:
    """A record about a manifest."""
    items = manifest.items["test"]
    about: dict[str, Any] = {
        "task": manifest.task.name,
        "group": manifest.task.group,
        "labels": manifest.labels,
        "ids": [item.id for item in items],
        "recordings": [item.recording for item in items],
        "targets": np.array([item.labels[0] for item in items]),
        "counts": (len(manifest.items["train"]), len(manifest.items["valid"])),
        "split_hash": manifest.split_hash,
    }
    return write_consistent(directory, **{**about, **changes})


def test_record_of_a_prepared_task_is_held_to_its_items(tmp_path: Path, prepared: Manifest) -> None:
    assert problems(of_task(tmp_path, prepared)) == []
    smaller = shots(limit(prepared, 40), 3, 7)
    assert smaller.split_hash != prepared.split_hash
    path = of_task(tmp_path, smaller, limit=40, protocol=PROTOCOL + "+train=3-shot-seed7")
    assert problems(path) == [], "the same limit and the same draw"
    assert "split hash" in problems(of_task(tmp_path, smaller, limit=40, protocol=PROTOCOL + "+train=3-shot"))[0]
    assert "split hash" in problems(of_task(tmp_path, smaller, limit=41, protocol=PROTOCOL + "+train=3-shot-seed7"))[0]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split_hash": "1" * 64}, "the split hash differs"),
        ({"targets": np.zeros(100, np.int64)}, "90 test items another recording or other labels"),
        ({"recordings": ["one"] * 50 + ["two"] * 50}, "100 test items another recording"),
        ({"ids": [f"other-{number}" for number in range(100)]}, "100 test items another"),
        ({"labels": tuple("0123456789")}, "kind or labels"),
        ({"counts": (299, 100)}, "299 train items, where mini-calls has 300"),
        ({"group": "core"}, "in the group core"),
    ],
)
def test_record_of_other_data_than_the_prepared_task_is_named(
    tmp_path: Path, prepared: Manifest, changes: dict[str, Any], expected: str
) -> None:
    """Scores on labels of one's own making are perfect scores."""
    found = problems(of_task(tmp_path, prepared, **changes))
    assert any(expected in problem for problem in found), found


def test_task_that_is_not_prepared_is_held_to_what_is_published(tmp_path: Path, prepared: Manifest) -> None:
    (prepared.task.root / MARK).unlink()
    assert problems(of_task(tmp_path, prepared, split_hash="1" * 64)) == []
    assert "9 valid items" in problems(of_task(tmp_path, prepared, counts=(300, 9)))[0]


def test_command_names_what_does_not_check_out(own_home: Path, beans: Beans) -> None:
    records = own_home / "records"
    good, bad = write_consistent(records, "good"), write_consistent(records, "bad")
    code, out, err = beans("records", "verify", "--all")
    assert (code, out) == (0, "2 check out\n"), err
    edit(bad, test=0.99)
    (records / "zz.json").write_text("{")
    code, out, _ = beans("records", "verify", "--all")
    assert code == 2
    assert "test is 0.990000 in the record" in out
    assert "1 check out, 2 do not" in out
    code, out, _ = beans("records", "verify", "--all", "--json")
    assert code == 2
    found = json.loads(out)
    assert found["verified"] == [str(good)]
    assert [Path(row["record"]).name for row in found["wrong"]] == [bad.name, "zz.json"]
    assert beans("records", "verify", read_record(good).id)[0] == 0
    assert beans("records", "verify", good)[0] == 0
    assert beans("records", "verify", good, read_record(bad).id)[0] == 2


def test_command_says_what_it_needs(beans: Beans) -> None:
    assert "or --all" in beans("records", "verify")[2]
    code, _, err = beans("records", "verify", "0" * 16)
    assert (code, err) == (2, err)
    assert "has the id '0000000000000000'" in err


def test_scores_are_kept_by_reading_and_writing(tmp_path: Path) -> None:
    """What is verified is what was written, to the last bit."""
    path = write_consistent(tmp_path, kind="detection")
    record = read_record(path)
    test = read_predictions(tmp_path, record)
    assert isinstance(test, PredictedScores)
    assert write_predictions(tmp_path, record.stem, test) == record.predictions
