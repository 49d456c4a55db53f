"""Manifests: what is read is what was written, and every mistake is one sentence that says where it is."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_tables import CLIPS, GOOD_LINES, GOOD_ROWS, clips_task, recording, scapes_task

from tasks.manifest import read_manifest
from tasks.subsets import limit
from tasks.support.errors import UserError
from tasks.task import SPLITS, Item, Manifest, Split, Task

# --- reading what is right ---


def test_an_id_names_a_clip_wherever_its_file_lies(tmp_path: Path) -> None:
    def read(folder: str) -> Manifest:
        header = "id,path,label,split,low"
        rows = [f"{name},{folder}/{name}.wav,{label},{split},1" for name, label, split in CLIPS]
        return read_manifest(clips_task(tmp_path, "\n".join([header, *rows])))

    here, there = read("here"), read("/somewhere/else")
    assert [item.id for item in here.items["train"]] == ["a", "b"]
    assert here.items["train"][0].path != there.items["train"][0].path
    assert here.split_hash == there.split_hash, "results on two machines could not be compared"
    assert all(item.low and item.recording == item.id for items in here.items.values() for item in items)


def test_one_file_may_hold_several_recordings_at_their_offsets(tmp_path: Path) -> None:
    first = {**json.loads(recording("long.wav", (1, 3, "cat"), (1, 3, "dog"), length=4)), "id": "minute 0", "offset": 0}
    second = {**json.loads(recording("long.wav", (1, 3, "dog"), length=4)), "id": "minute 1", "offset": 60, "low": True}
    train = read_manifest(scapes_task(tmp_path, train=f"{json.dumps(first)}\n{json.dumps(second)}")).items["train"]
    assert [item.window for item in train] == [(0, 2), (1, 3), (2, 4), (60, 62), (61, 63), (62, 64)]
    assert [item.id for item in train[2:4]] == ["minute 0@2-4", "minute 1@0-2"], (
        "an id depends on where in a file it lies"
    )
    assert [item.low for item in train] == [False] * 3 + [True] * 3
    assert {item.path for item in train} == {tmp_path / "long.wav"}


def test_a_label_nobody_listed_counts_as_the_unknown_one(tmp_path: Path) -> None:
    task = scapes_task(tmp_path, labels=["cat", "other"]).model_copy(update={"unknown_label": "other"})
    manifest = read_manifest(task)
    heard = [[manifest.labels[label] for label in item.labels] for item in manifest.items["train"]]
    assert heard[1:4] == [["cat", "other"], ["cat", "other"], ["other"]]
    clips = clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=["cat", "rest"], unknown_label="rest")
    assert [item.labels for item in read_manifest(clips).items["train"]] == [(0,), (1,)]


def test_an_unknown_label_must_be_one_of_the_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown_label 'rest' is not among labels: add it there"):
        clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=["cat", "dog"], unknown_label="rest")


def test_annotations_of_beans_are_taken_with_their_mistakes_and_yours_are_not(tmp_path: Path) -> None:
    task = scapes_task(tmp_path, labels=["cat"], train=recording("a.wav", (4, 3.5, "cat"), (-1, 0.5, "cat")))
    with pytest.raises(UserError, match=r"ends \(3.5 s\) before it starts|'st' is -1"):
        read_manifest(task)
    items = read_manifest(task.model_copy(update={"group": "core"})).items["train"]
    # BEANS' arithmetic, by hand: (min(end, 3.5) - max(start, 4)) / min(2, -0.5) is 1 in all three.
    assert [item.window for item in items if item.labels] == [(0, 2), (2, 4), (3, 5), (4, 6)]


def test_clips_keep_their_order_labels_and_paths(tmp_path: Path) -> None:
    manifest = read_manifest(clips_task(tmp_path, "\n".join([*GOOD_ROWS, "/abs/e.wav,dog,train", ""])))
    assert manifest.labels == ("cat", "dog")
    assert manifest.items["train"] == (
        Item("a.wav", tmp_path / "a.wav", (0,), "a.wav"),
        Item("b.wav", tmp_path / "b.wav", (1,), "b.wav"),
        Item("/abs/e.wav", Path("/abs/e.wav"), (1,), "/abs/e.wav"),
    )


def test_labels_are_text_even_when_they_look_like_numbers_or_hold_commas(tmp_path: Path) -> None:
    rows = ["path,label,split", "a,001,train", "b,1,train", 'c,"Grampus,_Rissos_Dolphin",train', "d,NA,train"]
    manifest = read_manifest(clips_task(tmp_path, "\n".join([*rows, "e,001,valid", "f,NA,test"])))
    assert manifest.labels == ("001", "1", "Grampus,_Rissos_Dolphin", "NA")


def test_spreadsheet_files_with_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + "\r\n".join(GOOD_ROWS).replace("cat", "châ").encode()
    assert read_manifest(clips_task(tmp_path, text)).labels == ("châ", "dog")


def test_the_recording_column_groups_clips_and_other_columns_are_ignored(tmp_path: Path) -> None:
    rows = ["note,path,label,split,recording"] + [
        f"x,{path},{label},{split},{group}"
        for path, label, split, group in [
            ("a", "cat", "train", "tape 1"),
            ("b", "dog", "train", "tape 1"),
            ("c", "cat", "valid", ""),
            ("d", "dog", "test", "tape 2"),
        ]
    ]
    items = read_manifest(clips_task(tmp_path, "\n".join(rows))).items
    assert [item.recording for split in SPLITS for item in items[split]] == ["tape 1", "tape 1", "c", "tape 2"]


def test_the_order_of_listed_labels_is_kept_and_absent_ones_stay(tmp_path: Path) -> None:
    manifest = read_manifest(clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=("dog", "owl", "cat")))
    assert manifest.labels == ("dog", "owl", "cat")
    assert manifest.items["train"][0].labels == (2,)


def test_windows_carry_labels_recording_and_times(tmp_path: Path) -> None:
    manifest = read_manifest(scapes_task(tmp_path))
    assert manifest.labels == ("cat", "dog")
    assert [item.labels for item in manifest.items["train"][:6]] == [(0,), (0, 1), (0, 1), (1,), (), ()]
    assert manifest.items["train"][1] == Item("a.wav@1-3", tmp_path / "a.wav", (0, 1), "a.wav", (1.0, 3.0))
    assert {split: len(items) for split, items in manifest.items.items()} == {"train": 9, "valid": 9, "test": 9}


def test_integer_labels_become_text(tmp_path: Path) -> None:
    lines = {"valid": recording("b", (0, 1, "10")), "test": recording("c", (0, 1, 2))}
    task = scapes_task(tmp_path, train=recording("a", (0, 1, 2), (0, 1, 10)), **lines)
    assert read_manifest(task).labels == ("10", "2")


@pytest.mark.parametrize(("shift", "length"), [(0.1, 10_500), (0.05, 1_000), (0.001, 20)])
def test_window_ids_stay_unique_in_long_recordings(tmp_path: Path, shift: float, length: float) -> None:
    task = scapes_task(tmp_path, 0.5, shift, train=recording("a", (0, 1, "cat"), length=length))
    ids = [item.id for item in read_manifest(task).items["train"]]
    assert len(set(ids)) == len(ids), "two windows share an id, so one would overwrite the other's features"
    assert ids[0] == "a@0-0.5"
    assert all(re.fullmatch(r"a@[0-9.]{1,9}-[0-9.]{1,9}", name) for name in ids), "rounding noise in an id"


def test_the_split_hash_sees_labels_and_splits_but_not_places(tmp_path: Path) -> None:
    def digest(rows: list[str], place: str) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        return read_manifest(clips_task(tmp_path / place, "\n".join(rows))).split_hash

    assert digest(GOOD_ROWS, "here") == digest([GOOD_ROWS[0], *GOOD_ROWS[:0:-1]], "there")
    assert digest(GOOD_ROWS, "here") != digest([*GOOD_ROWS[:-1], "d.wav,cat,test"], "here")


# --- what is wrong ---

BAD_CLIPS = {
    "empty file": ("", r"clips\.csv is empty"),
    "header only": ("path,label,split\n", r"clips\.csv names no clip"),
    "missing column": ("path,species,split\na,cat,train\n", r"no column 'label' but 'path', 'species', 'split'"),
    "bars": ("path|label|split\na|cat|train\n", r"no column 'path' but 'path\|label\|split'"),
    "unknown split": ([*GOOD_ROWS, "e,cat,eval"], r"line 6: unknown split 'eval'; use one of train, valid"),
    "empty label": ([*GOOD_ROWS, "e,,train"], r"line 6: the label is empty"),
    "empty path": ([*GOOD_ROWS, ",cat,train"], r"line 6: path '' is not the name of a file"),
    "path twice": ([*GOOD_ROWS, "a.wav,cat,test"], r"line 6: a\.wav was named before \(.*clips\.csv, line 2\)"),
    "path twice, otherwise spelt": ([*GOOD_ROWS, "./x/../a.wav,cat,test"], r"line 6: .* was named before"),
    "no valid split": ([row for row in GOOD_ROWS if "valid" not in row], r"no clip in the valid split"),
    "no test split": (GOOD_ROWS[:-1], r"no clip in the test split"),
    "no train split": ([GOOD_ROWS[0], *GOOD_ROWS[3:]], r"no clip in the train split"),
    "label not in train": ([*GOOD_ROWS, "e,owl,test"], r"line 6: label 'owl' is not among the labels of the train"),
    "unquoted comma": ([*GOOD_ROWS, "e,Dolphin, common,train"], r"line 6: the number of fields.*double quotes"),
    "field missing": ([*GOOD_ROWS, "e,cat"], r"line 6: the number of fields"),
    "open quote": ([*GOOD_ROWS, 'e,"cat,train'], r"line 6: not valid CSV"),
    "one label": (["path,label,split", "a,cat,train", "b,cat,valid", "c,cat,test"], r"only the label 'cat'"),
    "latin-1": ("\n".join(GOOD_ROWS).replace("cat", "châ").encode("latin-1"), r"clips\.csv is not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_a_wrong_csv_is_one_sentence_that_says_where(tmp_path: Path, name: str) -> None:
    text, message = BAD_CLIPS[name]
    text = "\n".join(text) if isinstance(text, list) else text
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(clips_task(tmp_path, text))
    assert str(tmp_path / "clips.csv") in str(caught.value), "the message does not name the file"


def test_a_label_outside_the_listed_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: label 'cat' is not among the labels of the task file"):
        read_manifest(clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=("dog", "owl")))


BAD_LINES = {
    "malformed JSON": ("{'path': 'a'}", r"line 1: not valid JSON"),
    "not an object": ("[1, 2]", r"line 1: not a JSON object"),
    "second line": (GOOD_LINES["train"] + "\n\n{", r"line 3: not valid JSON"),
    "no path": (
        '{"length": 3, "annotations": []}',
        r"line 1: the key 'path' is missing; it has 'length', 'annotations'",
    ),
    "no length": ('{"path": "x", "annotations": []}', r"line 1: the key 'length' is missing"),
    "no annotations": ('{"path": "x", "length": 3}', r"line 1: the key 'annotations' is missing"),
    "annotations null": ('{"path": "x", "length": 3, "annotations": null}', r"line 1: 'annotations' is not a list"),
    "annotation is text": ('{"path": "x", "length": 3, "annotations": ["cat"]}', r"annotation 1: not an object"),
    "path is a number": ('{"path": 3, "length": 3, "annotations": []}', r"path 3 is not the name of a file"),
    "length is text": (recording("x", length="60"), r"line 1: 'length' is '60'; write a time in seconds"),
    "length is true": (recording("x", length=True), r"'length' is True"),
    "length is zero": (recording("x", length=0), r"'length' is 0"),
    "length is huge": ('{"path": "x", "length": 1' + "0" * 400 + ', "annotations": []}', r"'length' is 1"),
    "st is missing": (
        '{"path": "x", "length": 3, "annotations": [{"ed": 1, "label": "cat"}]}',
        r"the key 'st' is missing",
    ),
    "st is negative": (recording("x", (1, 2, "cat"), (-1, 2, "cat")), r"line 1, annotation 2: 'st' is -1"),
    "st is NaN": (recording("x", (float("nan"), 2, "cat")), r"annotation 1: 'st' is nan"),
    "ed is infinite": (recording("x", (1, float("inf"), "cat")), r"annotation 1: 'ed' is inf"),
    "ends first": (recording("x", (3, 2, "cat")), r"annotation 1: ends \(2 s\) before it starts \(3 s\)"),
    "label is null": (recording("x", (1, 2, None)), r"label None is neither text nor a whole number"),
    "label is true": (recording("x", (1, 2, True)), r"label True is neither"),
    "label is a fraction": (recording("x", (1, 2, 1.5)), r"label 1\.5 is neither"),
    "label is empty": (recording("x", (1, 2, "")), r"label '' is neither"),
    "path twice": (recording("x") + "\n" + recording("x"), r"line 2: x was named before \(.*line 1\)"),
    "path of another split": (recording("c.wav"), r"c\.wav was named before"),
    "empty file": ("", r"valid split empty|leaves the train split empty|no annotation"),
    "no annotation": (recording("x"), r"train\.jsonl has no annotation"),
    "latin-1": ('{"path": "châ"}'.encode("latin-1"), r"train\.jsonl is not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_wrong_json_lines_are_one_sentence_that_says_where(tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(scapes_task(tmp_path, train=line))
    assert str(tmp_path) in str(caught.value), "the message does not name the file"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("text", ["", "\n\n", recording("short", (0, 1, "cat"), length=0.5)])
def test_an_empty_split_of_windows_is_named(tmp_path: Path, split: Split, text: str) -> None:
    with pytest.raises(UserError, match=rf"{split}\.jsonl leaves the {split} split empty.*2 s"):
        read_manifest(scapes_task(tmp_path, labels=["cat", "dog"], **{split: text}))


def test_an_annotation_outside_the_listed_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"train\.jsonl, line 1, annotation 2: label 'dog' is not among the labels of the task file"
    ):
        read_manifest(scapes_task(tmp_path, labels=["cat"]))


@pytest.mark.parametrize(("group", "remedy"), [("own", "--data-dir"), ("builtin", "beans tasks prepare own")])
def test_a_missing_manifest_says_what_to_do(tmp_path: Path, group: str, remedy: str) -> None:
    task = clips_task(tmp_path, "").model_copy(update={"group": group})
    (tmp_path / "clips.csv").unlink()
    with pytest.raises(UserError, match=rf"clips\.csv, which does not exist.*{remedy}"):
        read_manifest(task)


# --- limit ---


def classified(labels: list[int]) -> Manifest:
    task = Task(name="t", kind="classification", metric="accuracy", clips=Path("c"))
    items = tuple(Item(str(n), Path(str(n)), (label,), str(n)) for n, label in enumerate(labels))
    return Manifest(task, tuple("abcdef"), dict.fromkeys(SPLITS, items))


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), n=st.integers(1, 70))
def test_a_limited_classification_task_keeps_n_items_over_all_labels_that_fit(labels: list[int], n: int) -> None:
    manifest = classified(labels)
    kept = limit(manifest, n).items["train"]
    assert len(kept) == min(n, len(labels))
    assert [item for item in manifest.items["train"] if item in kept] == list(kept), "order lost or an item doubled"
    assert len({item.labels for item in kept}) == min(n, len(set(labels))), "a label that fits is gone"
    assert limit(manifest, n).items == limit(manifest, n).items


def test_a_limited_label_is_spread_over_its_items_and_not_over_one_individual() -> None:
    kept = limit(classified([0] * 30), 3).items["train"]
    assert [int(item.id) for item in kept] == [0, 10, 20]


def detected(labels: list[tuple[int, ...]], windows: int) -> Manifest:
    task = Task(
        name="t",
        kind="detection",
        metric="map",
        window_width=2,
        window_shift=1,
        train=Path("a"),
        valid=Path("b"),
        test=Path("c"),
    )
    items = tuple(
        Item(f"{n}@{w}", Path(str(n)), own if w == 0 else (), str(n), (w, w + 2.0))
        for n, own in enumerate(labels)
        for w in range(windows)
    )
    return Manifest(task, tuple("abcdef"), dict.fromkeys(SPLITS, items))


def test_a_limited_detection_task_keeps_whole_recordings_with_unseen_labels_first() -> None:
    manifest = detected([(0,), (0,), (), (1, 2), (3,)], windows=10)
    kept = limit(manifest, 39).items["train"]
    assert [item.recording for item in kept[::10]] == ["0", "3", "4"], "a label that fits is gone"
    assert len(kept) == 30
    assert len(limit(manifest, 1).items["test"]) == 10, "even one recording must be whole"
    assert limit(manifest, 1000).items == manifest.items


@pytest.mark.parametrize("n", [0, -1])
def test_a_limit_below_one_is_refused(n: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        limit(classified([0, 1]), n)
