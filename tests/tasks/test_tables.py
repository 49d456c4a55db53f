"""Tables as people really write them: what is meant is read, and what would give a wrong score is one sentence."""

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from written_tables import GOOD_LINES, GOOD_ROWS, clips_task, recording, scapes_task

from tasks import manifest as manifest_module
from tasks.manifest import places, read_manifest
from tasks.prepare import why_not_prepared
from tasks.support.errors import UserError
from tasks.tables import labels as label_module
from tasks.task import SPLITS, Manifest, Task

EXPECTED = {"train": ["a.wav", "b.wav"], "valid": ["c.wav"], "test": ["d.wav"]}


def ids(manifest: Manifest) -> dict[str, list[str]]:
    return {split: [item.id for item in manifest.items[split]] for split in SPLITS}


def line(path: str, *annotations: dict[str, Any], **keys: Any) -> str:
    return json.dumps({"path": path, "length": 10, "annotations": annotations, **keys})


# --- tables that are read as they are meant ---

SAME = {
    "semicolons": [row.replace(",", ";") for row in GOOD_ROWS],
    "tabs": [row.replace(",", "\t") for row in GOOD_ROWS],
    "capitals and spaces in the first line": ["Path, Label ,SPLIT", *GOOD_ROWS[1:]],
    "validation": [row.replace("valid", "validation") for row in GOOD_ROWS],
    "val": [row.replace("valid", "val") for row in GOOD_ROWS],
    "dev": [row.replace("valid", "dev") for row in GOOD_ROWS],
    "training and testing": [row.replace(",train", ",training").replace(",test", ",testing") for row in GOOD_ROWS],
    "capitals and spaces in splits": [*GOOD_ROWS[:2], "b.wav,dog, Train ", "c.wav,cat,VALID", "d.wav,dog,Test"],
    "spaces around paths": ["path,label,split", *(f" {row.replace(',', ' ,', 1)}" for row in GOOD_ROWS[1:])],
    "rows without text": [*GOOD_ROWS[:3], ",,", "", *GOOD_ROWS[3:], " ,,"],
    "unnamed columns": [f"{row},," for row in GOOD_ROWS],
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_a_spreadsheet_exports_is_read_as_the_same_task(tmp_path: Path, name: str, end: str) -> None:
    """A table that differs in nothing but its form was refused, or read as other classes or splits."""
    manifest = read_manifest(clips_task(tmp_path, end.join(SAME[name])))
    assert ids(manifest) == EXPECTED and manifest.labels == ("cat", "dog")
    assert {item.path for item in manifest.items["valid"]} == {tmp_path / "c.wav"}


def test_text_in_quotes_does_not_decide_the_separator(tmp_path: Path) -> None:
    rows = ['path,label,split,"note; with, both\tof them"', *(f'{row},"x;y;z"' for row in GOOD_ROWS[1:])]
    assert ids(read_manifest(clips_task(tmp_path, "\n".join(rows)))) == EXPECTED
    rows = ["path;label;split", "a.wav;low, deep;train", "b.wav;dog;train", "c.wav;dog;val", "d.wav;dog;test"]
    assert read_manifest(clips_task(tmp_path, "\n".join(rows))).labels == ("dog", "low, deep")


def test_a_file_whose_name_begins_with_a_space_or_holds_a_backslash_is_used(tmp_path: Path) -> None:
    for name in (" a.wav", "b\\c.wav"):
        (tmp_path / name).touch()
    rows = ["path,label,split", " a.wav,cat,train", "b\\c.wav,dog,train", *GOOD_ROWS[3:]]
    train = read_manifest(clips_task(tmp_path, "\n".join(rows))).items["train"]
    assert [item.path.name for item in train] == [" a.wav", "b\\c.wav"]


@pytest.mark.parametrize(("text", "low"), [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("", False)])
def test_the_few_label_mark_is_read_as_spreadsheets_write_it(tmp_path: Path, text: str, low: bool) -> None:
    """TRUE counted as no mark, so a split of few labels was empty or too small."""
    rows = [f"{row},{'low' if row == GOOD_ROWS[0] else text}" for row in GOOD_ROWS]
    assert read_manifest(clips_task(tmp_path, "\n".join(rows))).items["train"][0].low is low


# --- labels that look the same ---

ALIKE = {
    "space after": ("cat ", "cat", "spaces or invisible"),
    "no-break space before": ("\xa0cat", "cat", "spaces or invisible"),
    "zero-width space": ("cat\u200b", "cat", "spaces or invisible"),
    "zero-width space inside": ("c\u200bat", "cat", "spaces or invisible"),
    "zero-width space for a space": ("grey\u200bseal", "grey seal", "spaces or invisible"),
    "byte-order mark": ("\ufeffcat", "cat", "spaces or invisible"),
    "soft hyphen": ("c\xadat", "cat", "spaces or invisible"),
    "two spaces": ("grey  seal", "grey seal", "spaces or invisible"),
    "tab": ("grey\xa0seal", "grey seal", "spaces or invisible"),
    "capitals": ("Cat", "cat", "capital letters"),
    "sharp s": ("STRAUSS", "strauß", "capital letters"),
    "accents": (unicodedata.normalize("NFD", "Pinzón"), "Pinzón", "accents are encoded"),
    "accents and capitals": (unicodedata.normalize("NFD", "PINZÓN"), "pinzón", "capital letters"),
    "all of it": (" " + unicodedata.normalize("NFD", "PINZÓN"), "pinzón", "spaces or invisible"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_labels_that_a_reader_cannot_tell_apart_are_refused(tmp_path: Path, name: str) -> None:
    """They were two classes, and the score was that of another task."""
    one, other, said = ALIKE[name]
    rows = ["path,label,split", f'a.wav,"{one}",train', "b.wav,dog,train", f"c.wav,{other},valid", "d.wav,dog,test"]
    with pytest.raises(UserError) as caught:
        read_manifest(clips_task(tmp_path, "\n".join(rows)))
    sentence = str(caught.value)
    assert f"{tmp_path / 'clips.csv'}, line 4: label" in sentence and f"({tmp_path / 'clips.csv'}, line 2)" in sentence
    assert said in sentence and sentence.isprintable()
    named = sentence.split(" label ")[1].split(" differs from ")
    assert named[0] != named[1].split(" (")[0], "the two labels look the same in the sentence"


@pytest.mark.parametrize("labels", [["1", "01"], ["a b", "ab"], ["x²", "x2"], ["é", "e"], ["cat", "cats"]])
def test_different_labels_stay_different(tmp_path: Path, labels: list[str]) -> None:
    rows = ["path,label,split", *(f"{label}.wav,{label},train" for label in labels), *GOOD_ROWS[3:]]
    task = clips_task(tmp_path, "\n".join(rows), labels=(*labels, "cat!", "dog"), unknown_label="cat!")
    assert set(labels) < set(read_manifest(task).labels)


def test_near_labels_of_the_task_file_and_of_annotations_are_refused(tmp_path: Path) -> None:
    """With `unknown_label` a row of "Cat" counted as unknown."""
    task = clips_task(tmp_path, "\n".join([*GOOD_ROWS, "e.wav,Cat,test"]), labels=["cat", "dog"], unknown_label="dog")
    with pytest.raises(
        UserError, match=r"line 6: label 'Cat' differs from 'cat' \(`labels` in the task file\) only in"
    ):
        read_manifest(task)
    with pytest.raises(UserError, match="label 'Cat ' differs from 'Cat'"):
        read_manifest(clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=["Cat", "Cat ", "dog"]))
    where = (
        r"test\.jsonl, line 1, annotation 1: label 'Cat' differs from 'cat' \(.*train\.jsonl, line 1, annotation 1\)"
    )
    with pytest.raises(UserError, match=where):
        read_manifest(scapes_task(tmp_path, test=recording("c.wav", (1, 3, "Cat"))))


def test_labels_of_beans_are_read_as_beans_reads_them(tmp_path: Path) -> None:
    lines = {split: recording(split, (1, 3, "Cat"), (2, 4, "cat")) for split in SPLITS}
    task = scapes_task(tmp_path, labels=["Cat", "cat"], **lines).model_copy(update={"group": "core"})
    assert read_manifest(task).labels == ("Cat", "cat")


def test_too_many_labels_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of file names as labels, 100,000 of them, filled the memory after hours."""
    monkeypatch.setattr(label_module, "MOST_LABELS", 3)
    rows = [GOOD_ROWS[0], *(f"{n}.wav,{n},train" for n in range(4)), "v.wav,0,valid", "t.wav,1,test"]
    with pytest.raises(UserError, match=r"Task own has 4 labels, and 3 are the most: a label names a class"):
        read_manifest(clips_task(tmp_path, "\n".join(rows)))


# --- tables that are wrong ---

WRONG_CSV = {
    "column twice": (["path,label,Label ,split", "a,x,y,train"], "the column 'label' twice, as columns 2 and 3"),
    "id twice": (["id,path,label,split,id", "1,a,x,train,2"], "the column 'id' twice, as columns 1 and 5"),
    "eval": ([*GOOD_ROWS, "e.wav,cat,eval"], "line 6: unknown split 'eval'; use one of train, valid, test"),
    "no split": ([*GOOD_ROWS, "e.wav,cat,"], "line 6: unknown split ''"),
    "two names of valid": ([*GOOD_ROWS, "e.wav,cat,dev"], "line 6: the split 'dev' means valid, which is"),
    "low": ([f"{GOOD_ROWS[0]},low", "a,cat,train,maybe"], "line 2: low is 'maybe'; write 1"),
    "blank label": ([*GOOD_ROWS, "e.wav,\xa0 ,train"], "line 6: the label is empty"),
    "escape code": ([*GOOD_ROWS, "e.wav,\x1b[31mred,train"], r"line 6: label '\x1b[31mred' holds control characters"),
    "line break": ([*GOOD_ROWS, 'e.wav,"two\nlines",train'], r"line 7: label 'two\nlines' holds control characters"),
    "turned text": ([*GOOD_ROWS, "e\u202ewav,cat,train"], r"line 6: path 'e\u202ewav' holds control characters"),
    "long label": ([*GOOD_ROWS, f"e.wav,{'x' * 2001},train"], "has 2001 characters; 2000 are the most"),
    "long name": ([*GOOD_ROWS, f"{'x' * 300}.wav,cat,train"], "is longer than the system allows"),
    "drive": ([*GOOD_ROWS, r"C:\me\e.wav,cat,train"], "is a path of Windows, which this system does not have"),
    "drive with slashes": ([*GOOD_ROWS, "D:/me/e.wav,cat,train"], "with / between the names, such as audio/e.wav"),
    "share": ([*GOOD_ROWS, r"\\server\me\e.wav,cat,train"], "is a path of Windows"),
    "backslash": ([*GOOD_ROWS, r"audio\e.wav,cat,train"], "write / between the names: audio/e.wav"),
    "address": ([*GOOD_ROWS, "https://x.org/e.wav,cat,train"], "is an address; download the file"),
    "semicolon in text": (
        ["path;label;split", "a.wav;low; deep;train"],
        "between double quotes, \"like; this\"",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CSV)
def test_a_table_that_is_not_what_it_seems_is_one_sentence(tmp_path: Path, name: str) -> None:
    rows, said = WRONG_CSV[name]
    with pytest.raises(UserError) as caught:
        read_manifest(clips_task(tmp_path, "\n".join(rows)))
    assert said in str(caught.value) and str(tmp_path / "clips.csv") in str(caught.value)
    assert str(caught.value).isprintable()


WRONG_LINES = {
    "key twice": ('{"path": "x", "length": 3, "length": 4, "annotations": []}', "the key 'length' is there twice"),
    "deep": ('{"path": ' + "[" * 100_000, "line 1: not valid JSON (nested too deeply)"),
    "half a character": (line("x", {"st": 1, "ed": 2, "label": "\ud800"}), r"annotation 1: label '\ud800' holds"),
    "half a character in a path": (line("x\ud800"), r"line 1: path 'x\ud800' holds control characters or half"),
    "escape code in an id": (line("x", id="\x1b]0;x\x07"), r"line 1: id '\x1b]0;x\x07' holds control characters"),
    "blank label": (line("x", {"st": 1, "ed": 2, "label": "  "}), "label '  ' is neither text nor"),
    "id is null": (line("x", id=None), "'id' is None; write text, or leave the key out"),
    "recording is a list": (line("x", recording=[1]), "'recording' is [1]; write text"),
    "low is text": (line("x", low="no"), "'low' is 'no'; write true for a recording of the few-label split"),
    "offset is huge": (line("x", offset=1e300), "'offset' is 1e+300; write a time in seconds"),
    "length has many digits": ('{"path": "x", "length": 1' + "0" * 5000 + ', "annotations": []}', "not valid JSON"),
    "milliseconds": (
        recording("x", (1000, 2000, "cat")),
        "annotation 1: starts at 1000 s, but the recording ends at 10 s (its 'length'); are these milliseconds",
    ),
    "at the end": (recording("x", (10, 11, "cat")), "starts at 10 s, but the recording ends at 10 s"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_LINES)
def test_lines_that_would_give_a_wrong_score_are_one_sentence(tmp_path: Path, name: str) -> None:
    text, said = WRONG_LINES[name]
    with pytest.raises(UserError) as caught:
        read_manifest(scapes_task(tmp_path, train=text))
    assert said in str(caught.value) and str(tmp_path / "train.jsonl, line 1") in str(caught.value)
    assert len(str(caught.value)) < 500


NOT_TEXT = {
    "UTF-16 of a spreadsheet": ("\n".join(GOOD_ROWS).encode("utf-16"), "is UTF-16 text: save it as plain text"),
    "UTF-16 without a mark": ("\n".join(GOOD_ROWS).encode("utf-16-le"), "is UTF-16 text"),
    "UTF-16 with the other order": ("\n".join(GOOD_ROWS).encode("utf-16-be"), "is UTF-16 text"),
    "UTF-32": ("\n".join(GOOD_ROWS).encode("utf-32"), "is UTF-32 text"),
    "Latin-1": ("\n".join(GOOD_ROWS).replace("b.wav", "bé.wav").encode("latin-1"),
                "Latin-1 or Windows-1252: line 3 holds the byte 0xe9, which is 'é' there"),
    "Windows-1252": ("\n".join(GOOD_ROWS).replace("cat", "“cat”").encode("cp1252"), "line 2 holds the byte 0x93"),
    "zero bytes": ("\n".join(GOOD_ROWS).replace("dog", "d\0g").encode(), "is not text: line 3 holds a byte"),
    "zero bytes late": (("\n".join(GOOD_ROWS) + "\n" * 5000 + "\0").encode(), "is not text: line 5005"),
    "workbook": (b"PK\x03\x04" + bytes(100), "is an Excel workbook or another zip archive"),
    "gzip": (b"\x1f\x8b" + bytes(100), "is compressed with gzip"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_TEXT)
def test_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    content, said = NOT_TEXT[name]
    with pytest.raises(UserError) as caught:
        read_manifest(clips_task(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "clips.csv")) and said in str(caught.value)


@pytest.mark.parametrize("read", [read_manifest, lambda task: why_not_prepared(task) and read_manifest(task)])
def test_a_directory_in_place_of_a_table_is_said(tmp_path: Path, read: Any) -> None:
    task = clips_task(tmp_path, "").model_copy(update={"clips": Path("folder")})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder, which is a directory: check the paths"):
        read(task)
    assert "folder is a directory: check the paths" in str(why_not_prepared(task))
    long = task.model_copy(update={"clips": Path("x" * 300)})
    with pytest.raises(UserError, match=r"cannot be reached \(File name too long\)"):
        read(long)


def test_a_table_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, opened = clips_task(tmp_path, "\n".join(GOOD_ROWS)), Path.open

    def refuse(path: Path, *arguments: Any, **keys: Any) -> io.IOBase:
        if path.name == "clips.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **keys)  # type: ignore[no-any-return]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"clips\.csv cannot be read \(Permission denied\): check its permissions"):
        read_manifest(task)


# --- annotations and windows ---


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("annotations", [[], [(1, 1, "cat")]], ids=["none", "all of length 0"])
def test_a_split_without_a_positive_is_refused(tmp_path: Path, split: str, annotations: Any) -> None:
    """Its score was 0, or layer and rate were chosen from nothing, without a word."""
    task = scapes_task(tmp_path, labels=["cat", "dog"], **{split: recording(f"{split}.wav", *annotations)})
    with pytest.raises(UserError, match=rf"{split}\.jsonl gives the {split} split no window with a label"):
        read_manifest(task)
    read_manifest(task.model_copy(update={"group": "core"}))


def test_what_is_probably_a_mistake_is_a_warning(tmp_path: Path) -> None:
    train = [
        recording("a.wav", (1, 3, "cat"), (2, 14, "dog"), (4, 4, "dog")),
        recording("b.wav", (9.2, 9.9, "dog"), length=9.95),
        recording("c.wav", (0, 0.5, "cat"), length=0.6),
    ]
    test = recording("e.wav", (1, 3, "cat"), (9, 10.05, "cat"))
    manifest = read_manifest(
        scapes_task(tmp_path, train="\n".join(train), test=test, valid=recording("d", (1, 2, "cat")))
    )
    where = tmp_path / "train.jsonl"
    late, idle, brief, *absent = manifest.warnings
    assert late == f"1 annotation ends after its recording ({where}, line 1, annotation 2)"
    assert idle.startswith(f"3 annotations make no window positive (the first: {where}, line 1, annotation 3): its")
    assert brief == f"1 recording is too short for a window and not used ({where}, line 3)"
    assert [sentence[:41] for sentence in absent] == [
        "the valid split has nothing with the labe", "the test split has nothing with the label"
    ]  # fmt: skip
    assert "'dog': it counts with an average precision of 0 in the test score" in absent[1]
    core = scapes_task(tmp_path, labels=["cat", "dog"], test=test).model_copy(update={"group": "core"})
    assert read_manifest(core).warnings == (), "BEANS' data are as they are"


def test_labels_that_a_split_of_clips_lacks_are_named(tmp_path: Path) -> None:
    manifest = read_manifest(clips_task(tmp_path, "\n".join(GOOD_ROWS), labels=["cat", "dog", "owl"]))
    assert manifest.warnings == (
        "the train split has nothing with the label 'owl': no probe can learn it",
        "the valid split has nothing with the label 'dog', 'owl': the valid score says nothing about it",
        "the test split has nothing with the label 'cat', 'owl': the test score says nothing about it",
    )


def test_a_number_of_windows_that_fills_the_memory_is_refused_before_they_are_cut(tmp_path: Path) -> None:
    """`length` in samples gave gigabytes of windows before the first file was opened."""
    with pytest.raises(UserError) as caught:
        read_manifest(scapes_task(tmp_path, train=recording("a.wav", (1, 2, "cat"), length=1e9)))
    assert "train.jsonl, line 1: there are more than 1000000 windows" in str(caught.value)
    assert "choose a larger window_shift than 1 s, or correct 'length'" in str(caught.value)
    with pytest.raises(UserError, match=r"choose a larger window_shift than 0\.0001 s"):
        read_manifest(scapes_task(tmp_path, shift=1e-4, train=recording("a.wav", (1, 2, "cat"), length=200)))


def test_a_length_is_compared_with_the_file_before_many_windows_are_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 1_000)
    for length in (200_000, 1e9):
        with pytest.raises(UserError) as caught:
            read_manifest(scapes_task(tmp_path, train=recording("a.wav", (1, 2, "cat"), length=length)))
        assert f"line 1: 'length' is {length:g} s, but {tmp_path / 'a.wav'} ends after 8 s" in str(caught.value)


def test_too_many_clips_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "MOST_ITEMS", 3)
    with pytest.raises(UserError, match=r"clips\.csv names 4 clips, and 3 are the most of a task"):
        read_manifest(clips_task(tmp_path, "\n".join(GOOD_ROWS)))


def test_bad_audio_is_found_in_a_table_of_any_form(tmp_path: Path) -> None:
    """The line of a missing file is looked up in the table again, which may have semicolons."""
    task = clips_task(tmp_path, "\r\n".join(SAME["semicolons"]))
    assert places(task, {tmp_path / "c.wav"}) == {tmp_path / "c.wav": f"{tmp_path / 'clips.csv'}, line 4"}
    lines: Task = scapes_task(tmp_path, valid="\n\n" + GOOD_LINES["valid"])
    assert places(lines, {tmp_path / "b.wav"}) == {tmp_path / "b.wav": f"{tmp_path / 'valid.jsonl'}, line 3"}
