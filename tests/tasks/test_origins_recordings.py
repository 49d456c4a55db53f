"""The detection tasks, read as their sources publish them, are what BEANS makes of them; else one sentence says why."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replicas_recordings as replicas
import soundfile
import torch
import torchaudio

from tasks.prepare.entries import Entry, RecordingEntry
from tasks.prepare.origins import origin
from tasks.support.errors import UserError
from tasks.task import SPLITS, Facts, Split, load_task
from tasks.windows import count_windows

Facets = tuple[Split, float, tuple[tuple[float, float, str], ...], bool]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Of a task, a folder with ``origin`` and ``beans`` in it, made when it is asked for first."""
    made: dict[str, Path] = {}

    def source(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp(task)
            replicas.origin(task, made[task] / "origin")
            replicas.beans(task, made[task] / "origin", made[task] / "beans")
        return made[task]

    return source


def copy(source: Path, target: Path) -> Path:
    """A copy whose files can be replaced and removed without touching the source's."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def replace(file: Path, content: str) -> None:
    file.unlink()
    file.write_text(content)


def facets(entries: list[Entry]) -> dict[str, Facets]:
    """What every copy of a task must agree on, by id."""
    assert all(isinstance(entry, RecordingEntry) for entry in entries)
    return {e.id: (e.split, e.length, e.annotations, e.low) for e in entries if isinstance(e, RecordingEntry)}


def text(label: object) -> str:
    # BEANS' labels as its evaluation compares them: 1 and 1.0 are equal.
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def of_beans(folder: Path) -> dict[str, Facets]:
    """The same of a finished BEANS folder, read with nothing but json."""

    def lines(split: str) -> list[dict[str, Any]]:
        file = folder / f"{split}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    low = {line["path"] for line in lines("train-low")}
    found: dict[str, Facets] = {}
    for split in SPLITS:
        for line in lines(split):
            name = line["path"].rpartition("/")[2].removesuffix(".wav")
            spans = tuple((span["st"], span["ed"], text(span["label"])) for span in line["annotations"])
            assert name not in found
            found[name] = (split, line["length"], spans, line["path"] in low)
    return found


def beans_folder(source: Path, task: str) -> Path:
    return source / "beans" / "data" / task.replace("-", "_")


@pytest.mark.parametrize("task", replicas.TASKS)
def test_entries_are_those_of_beans_own_preparation(task: str, sources: Callable[[str], Path]) -> None:
    entries = origin(task).read(sources(task) / "origin")
    expected = of_beans(beans_folder(sources(task), task))
    assert facets(entries) == expected
    assert [entry.id for entry in entries] == sorted(expected), "not in the order that every copy has"
    # A replica that left a split or the low part empty would show nothing.
    assert {split for split, *_ in expected.values()} == set(SPLITS)
    assert any(low for *_, low in expected.values()) is (task != "hiceas")


@pytest.mark.parametrize("task", replicas.TASKS)
def test_the_sound_of_an_entry_is_that_of_beans_wav(task: str, sources: Callable[[str], Path]) -> None:
    """Apart from the edges of a chunk, where BEANS resampled the whole recording before it cut it."""
    rate = origin(task).rate
    for entry in origin(task).read(sources(task) / "origin"):
        assert isinstance(entry.sound.file, Path)
        expected, expected_rate = soundfile.read(beans_folder(sources(task), task) / "wav" / f"{entry.id}.wav")
        with soundfile.SoundFile(entry.sound.file) as file:
            file.seek(round(entry.sound.start * file.samplerate))
            frames = -1 if entry.sound.seconds is None else round(entry.sound.seconds * file.samplerate)
            native, samples = file.samplerate, torch.from_numpy(file.read(frames, dtype="float32", always_2d=True).T)
        assert expected_rate == (rate or native)
        found = torchaudio.transforms.Resample(native, expected_rate)(samples.mean(dim=0)).numpy()
        expected = expected.mean(axis=1) if expected.ndim == 2 else expected
        assert len(found) == len(expected)
        edge = 0 if native == expected_rate else 200
        np.testing.assert_allclose(found[edge : len(found) - edge], expected[edge : len(found) - edge], atol=1e-6)


@pytest.mark.parametrize("task", replicas.TASKS)
def test_files_are_found_wherever_they_were_extracted(
    task: str, sources: Callable[[str], Path], tmp_path: Path
) -> None:
    deeper = copy(sources(task) / "origin", tmp_path / "one" / "two")
    expected = facets(origin(task).read(sources(task) / "origin"))
    assert facets(origin(task).read(tmp_path)) == expected
    # As BEANS itself extracts: every archive into one folder, which then holds BEANS' own chunks as well.
    flat = beans_folder(sources(task), task)
    if task == "hiceas":
        assert facets(origin(task).read(flat)) == expected
        return
    beside = copy(flat, tmp_path / "beside")
    for archive in [folder for folder in deeper.iterdir() if folder.is_dir() and folder.name != "__MACOSX"]:
        inside = beside / archive.name if archive.name == "Train" else beside
        shutil.copytree(archive, inside, copy_function=os.link, dirs_exist_ok=True)
    assert facets(origin(task).read(beside)) == expected


@pytest.mark.parametrize("task", replicas.TASKS)
def test_an_empty_folder_is_one_sentence_that_says_what_belongs_there(task: str, tmp_path: Path) -> None:
    archive = {
        "dcase": "Development_Set.zip",
        "enabirds": "Recording_",
        "hiceas": "hiceas_1-20_minke-detection.zip",
        "rfcx": "rfcx-species-audio-detection",
        "hainan-gibbons": "Train.zip",
    }
    assert archive[task] in sentence(task, tmp_path, str(tmp_path))


def sentence(task: str, root: Path, *said: str) -> str:
    """The message of a failed read: one line that holds every part of ``said``."""
    with pytest.raises(UserError) as caught:
        origin(task).read(root)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message
    assert message.endswith("."), message
    return message


@pytest.fixture
def broken(sources: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a task's source to break."""
    return lambda task: copy(sources(task) / "origin", tmp_path / task)


def find(root: Path, name: str) -> Path:
    (file,) = root.rglob(name)
    return file


def test_dcase_takes_only_what_is_positive(sources: Callable[[str], Path]) -> None:
    labels = {a[2] for entry in origin("dcase").read(sources("dcase") / "origin") for a in entry.annotations}
    assert not labels & {"AGGM", "SOCM"}
    assert labels <= set(load_task("dcase", data=Path()).labels or ())


def test_broken_dcase(broken: Callable[[str], Path]) -> None:
    root = broken("dcase")
    for file in list(root.rglob("*.csv"))[:5]:
        file.rename(file.with_suffix(".moved"))
    sentence("dcase", root, "5 of 6 recordings", ".wav", "and 2 more", "Development_Set.zip")
    for file in root.rglob("*.moved"):
        file.rename(file.with_suffix(".csv"))
    table = find(root, "dcase_MK1.csv")
    replace(table, "Audiofilename,Starttime,Endtime,GIG\ndcase_MK1.wav,1.0,2.0,POS\ndcase_MK1.wav,,2.0,NEG\n")
    sentence("dcase", root, str(table), "annotation 2", "'Starttime' is nan")
    replace(table, "Audiofilename,Start,Endtime,GIG\ndcase_MK1.wav,1.0,2.0,POS\n")
    sentence("dcase", root, str(table), "no column 'Starttime'")
    replace(table, "")
    sentence("dcase", root, str(table), "cannot be read as a table")


@pytest.mark.parametrize(("kept", "said"), [(0, "is empty"), (200_000, "is truncated"), (9, "is not audio")])
def test_broken_audio_is_named(kept: int, said: str, broken: Callable[[str], Path]) -> None:
    root = broken("dcase")
    recording = find(root, "HV_b1.wav")
    content = recording.read_bytes()[:kept]
    recording.unlink()
    recording.write_bytes(content)
    sentence("dcase", root, str(recording), said, "download")


def test_broken_enabirds(broken: Callable[[str], Path]) -> None:
    root = broken("enabirds")
    table = find(root, "Recording_2_Segment_05.Table.1.selections.txt")
    content = table.read_text()
    replace(table, content.replace("Species", "Kind"))
    sentence("enabirds", root, str(table), "no column 'Species'")
    replace(table, content.replace("50.25", "noon"))
    sentence("enabirds", root, str(table), "annotation 3", "'Begin Time (s)' is noon")
    table.unlink()
    sentence("enabirds", root, "1 of 3 recordings", "Recording_2_Segment_05.wav")


def test_gibbons_are_split_by_thirteen_recordings_or_not_at_all(broken: Callable[[str], Path]) -> None:
    root = broken("hainan-gibbons")
    label = find(root, "g_HGSM3D_0+1_20160429_051600.data")
    label.rename(label.with_suffix(".moved"))
    sentence("hainan-gibbons", root, "1 of 13 recordings", "HGSM3D_0+1_20160429_051600.wav", "Train_Labels.zip")
    label.with_suffix(".moved").rename(label)
    # A recording less would move every later one up a place, and some of them into another split.
    find(root, "HGSM3AA_0+1_20160303_054500.wav").unlink()
    sentence("hainan-gibbons", root, "12 recordings", "13", "Train.zip")


def test_the_order_of_the_gibbon_recordings_is_that_of_their_full_names(sources: Callable[[str], Path]) -> None:
    splits = {entry.recording: entry.split for entry in origin("hainan-gibbons").read(sources("hainan-gibbons"))}
    pair = ("HGSM3B_0+1_20160308_055700-2", "HGSM3B_0+1_20160308_055700")
    assert [splits[name] for name in pair] == ["train", "valid"]


def test_rfcx_counts_true_positives_of_the_train_folder_only(broken: Callable[[str], Path]) -> None:
    root = broken("rfcx")
    before = facets(origin("rfcx").read(root))
    assert len(before) == 16
    assert sum(not spans for _, _, spans, _ in before.values()) == 10, "recordings without annotation must be kept"
    replace(find(root, "train_fp.csv"), "not even a table")
    shutil.rmtree(find(root, "test"))
    assert facets(origin("rfcx").read(root)) == before


def test_broken_rfcx(broken: Callable[[str], Path]) -> None:
    root = broken("rfcx")
    first = find(root, "train_tp.csv").read_text().splitlines()[1].partition(",")[0]
    find(root, f"{first}.flac").unlink()
    sentence("rfcx", root, "1 recordings", "train_tp.csv", first)
    table = find(root, "train_tp.csv")
    content = table.read_text()
    replace(table, content.replace("species_id", "species"))
    sentence("rfcx", root, "no column 'species_id'")
    table.unlink()
    sentence("rfcx", root, "train_tp.csv", "rfcx-species-audio-detection")
    table.write_text(content)
    for file in list(root.rglob("train/*.flac"))[4:]:
        file.unlink()
    sentence("rfcx", root, "(4 found)")


def test_hiceas_marks_the_low_recordings_where_the_archive_ships_them(broken: Callable[[str], Path]) -> None:
    root = broken("hiceas")
    lines = find(root, "train.jsonl").read_text().splitlines(keepends=True)
    find(root, "train.jsonl").with_name("train-low.jsonl").write_text(lines[1])
    low = [entry.id for entry in origin("hiceas").read(root) if entry.low]
    assert low == [Path(json.loads(lines[1])["path"]).stem]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": 0}, "length"),
        ({"length": "long"}, "length"),
        ({"annotations": [{"st": float("nan"), "ed": 1, "label": 1}]}, "annotations.0.st"),
        ({"annotations": [{"st": 0, "label": 1}]}, "annotations.0.ed"),
        ({"path": ""}, "path"),
    ],
)
def test_a_broken_hiceas_line_is_named(changes: dict[str, object], said: str, broken: Callable[[str], Path]) -> None:
    root = broken("hiceas")
    file = find(root, "train.jsonl")
    lines = file.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **changes})
    replace(file, "\n".join(lines))
    sentence("hiceas", root, f"{file}, line 2", said)


def test_broken_hiceas(broken: Callable[[str], Path]) -> None:
    root = broken("hiceas")
    find(root, "1706_20170710_000000_000.wav").unlink()
    sentence("hiceas", root, "1 of 5 recordings", "1706_20170710_000000_000.wav")
    copy(find(root, "train.jsonl").parent, root / "again")
    sentence("hiceas", root, "2 folders", "again")
    shutil.rmtree(root / "again")
    replace(find(root, "valid.jsonl"), "{\n")
    sentence("hiceas", root, "valid.jsonl, line 1")
    find(root, "test.jsonl").unlink()
    sentence("hiceas", root, "no folder with train.jsonl, valid.jsonl and test.jsonl")


@pytest.mark.parametrize("task", replicas.TASKS)
def test_the_catalogue_says_everything_a_reader_wants_to_know(task: str) -> None:
    found = load_task(task, data=Path())
    assert found.group == "core"
    assert [name for name in Facts.model_fields if getattr(found.facts, name) in ("", None)] == []
    assert found.facts.citation.startswith("@")
    assert found.facts.citation.count("{") == found.facts.citation.count("}")
    # All published recordings are whole minutes, so windows follow from chunks.
    assert found.window_width and found.window_shift
    windows = count_windows(60, found.window_width, found.window_shift)
    assert found.published.items == {split: windows * found.published.recordings[split] for split in SPLITS}


def test_where_the_sources_lie() -> None:
    remotes = {task: {remote.file: remote.url for remote in origin(task).remotes} for task in replicas.TASKS}
    zenodo, bucket = "https://zenodo.org/records", "https://storage.googleapis.com/ml-bioacoustics-datasets"
    hiceas = "hiceas_1-20_minke-detection.zip"
    assert remotes == {
        "dcase": {"Development_Set.zip": f"{zenodo}/5412896/files/Development_Set.zip"},
        "enabirds": {name: f"{bucket}/{name}" for name in ("enabirds_wav.zip", "enabirds_annotation.zip")},
        "hiceas": {hiceas: f"{bucket}/{hiceas}"},
        "rfcx": {},
        "hainan-gibbons": {name: f"{zenodo}/3991714/files/{name}" for name in ("Train.zip", "Train_Labels.zip")},
    }
    assert origin("hiceas").remotes[0].md5 == "0b596ecabd9dda254c2c2c72545592f0"
    assert origin("rfcx").kaggle == "rfcx-species-audio-detection"
    rates = {task: origin(task).rate for task in replicas.TASKS}
    assert rates == {"dcase": 16000, "enabirds": 32000, "hiceas": None, "rfcx": 48000, "hainan-gibbons": 9600}
