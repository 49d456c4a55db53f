"""Class balance, the choice of examples, what may be played, and how a sound becomes a player and a picture."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from numpy.typing import NDArray

from leaderboard.database.standings import catalogue
from leaderboard.web.charts.tasks import class_balance, spectrogram
from leaderboard.web.examples import Example, Overview, make_clip, mel, mel_decibels, overview, why_not_played
from tasks.manifest import read_manifest
from tasks.support.errors import UserError
from tasks.task import SPLITS, Facts, Task, load_task


def classification(directory: Path) -> Overview:
    """Three classes, one of which the train split does not have; two clips of ``a`` are of one recording."""
    rows = [
        *(("a", "train", f"{number // 2}") for number in range(5)),
        *(("b", "train", f"b{number}") for number in range(7)),
        *((label, split, f"{label}{split}") for label in "abc" for split in ("valid", "test")),
        ("b", "test", "more"),
    ]
    with (directory / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split", "recording"])
        table.writerows((f"{number}.wav", label, split, of) for number, (label, split, of) in enumerate(rows))
    task = 'name = "mine"\nkind = "classification"\nclips = "clips.csv"\nlabels = ["c", "a", "b"]\n'
    (directory / "mine.toml").write_text(task, encoding="utf-8")
    return overview(read_manifest(load_task(str(directory / "mine.toml"), data=directory)))


def test_balance_counts_what_the_table_says(tmp_path: Path) -> None:
    found = classification(tmp_path)
    with (tmp_path / "clips.csv").open(encoding="utf-8", newline="") as file:
        expected = Counter((row["split"], row["label"]) for row in csv.DictReader(file))
    assert {
        (split, label): found.counts[split][index]
        for split in SPLITS
        for index, label in enumerate(found.labels)
        if found.counts[split][index]
    } == expected
    assert found.unlabelled == {"train": 0, "valid": 0, "test": 0}
    assert found.items == {"train": 12, "valid": 3, "test": 4}


def test_windows_without_a_label_are_counted_and_one_with_two_counts_twice(tmp_path: Path) -> None:
    calls = [
        {"st": 0.0, "ed": 1.0, "label": "trill"},
        {"st": 0.0, "ed": 3.0, "label": "song"},
        {"st": 9.0, "ed": 10.0, "label": "song"},
    ]
    for split, length in (("train", 10.0), ("valid", 4.0), ("test", 12.0)):
        line = {"path": f"{split}.wav", "length": length, "annotations": [one for one in calls if one["ed"] <= length]}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nkind = "detection"\nwindow_width = 2.0\nwindow_shift = 2.0\ntrain = "train.jsonl"\n'
        'valid = "valid.jsonl"\ntest = "test.jsonl"\n',
        encoding="utf-8",
    )
    found = overview(read_manifest(load_task(str(tmp_path / "mine.toml"), data=tmp_path)))
    assert found.labels == ("song", "trill")
    # Windows of two seconds: song in the first, second and fifth, trill in the first.
    assert found.counts == {"train": (3, 1), "valid": (2, 1), "test": (3, 1)}
    assert found.unlabelled == {"train": 2, "valid": 0, "test": 3}
    assert found.items == {"train": 5, "valid": 2, "test": 6}
    song, trill = found.examples
    assert [one.window for one in song] == [(2.0, 4.0)], "a window with nothing but the class is a better example"
    assert [(one.window, one.labels) for one in trill] == [((0.0, 2.0), ("song", "trill"))]


def test_examples_are_of_train_and_of_different_recordings(tmp_path: Path) -> None:
    """Nobody is invited to listen to the test split."""
    found = classification(tmp_path)
    names = {label: [one.path.name for one in some] for label, some in zip(found.labels, found.examples, strict=True)}
    assert names == {"c": [], "a": ["0.wav", "2.wav", "4.wav"], "b": ["5.wav", "6.wav", "7.wav"]}
    assert classification(tmp_path) == found, "two visitors see different examples"


def test_most_common_classes_that_can_be_heard(tmp_path: Path) -> None:
    found = classification(tmp_path)
    assert [found.labels[index] for index in found.most_common(1)] == ["b"]
    assert [found.labels[index] for index in found.most_common(6)] == ["a", "b"], "c has nothing to hear"


# --- what may be played ---


def test_which_tasks_of_the_catalogue_are_played() -> None:
    """To play a sound on a public page is to publish it."""
    played = {task.name for task in catalogue() if why_not_played(task) is None}
    assert played == {
        *("mini-calls", "mini-soundscape"),
        *("dcase", "enabirds", "hiceas", "humbugdb", "speech-commands"),
    }
    told = next(why_not_played(task) for task in catalogue() if task.name == "esc50")
    assert told == "The licence (CC BY-NC) does not let every public page play the sounds."


@pytest.mark.parametrize(
    ("licence", "commercial", "played"),
    [
        ("CC0", None, True),
        ("CC0-1.0", True, True),
        ("cc-by-4.0", None, True),
        ("CC BY-SA 3.0", True, True),
        ("Public domain", None, True),
        ("CC BY", False, False),
        ("CC BY", "unknown", False),
        ("CC BY-NC 4.0", True, False),
        ("CC-BY-NC-SA", None, False),
        ("CC BY-ND 4.0", True, False),
        ("CC BY 4.0, and the rules of the competition", True, False),
        ("CC BY 4.0 for the labels; sounds: ask", None, False),
        ("CC", True, False),
        ("unknown", True, False),
        ("", True, False),
        ("", None, False),
    ],
)
def test_licence_decides_what_is_played(licence: str, commercial: bool | str | None, played: bool) -> None:
    task = Task(
        name="mine",
        kind="classification",
        clips=Path("clips.csv"),
        facts=Facts(licence=licence, commercial_use=commercial),
    )
    reason = why_not_played(task)
    assert (reason is None) is played
    assert played or (licence or "No licence is stated") in str(reason)


# --- sounds ---


def write(path: Path, samples: NDArray[np.floating], rate: int) -> Example:
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return Example("one", path, None, ("a",))


def tone(frequency: float, seconds: float, rate: int) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def heard(audio: bytes) -> tuple[NDArray[np.float64], int]:
    samples, rate = soundfile.read(io.BytesIO(audio))
    return samples, rate


def loudest(samples: NDArray[np.float64], rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def test_player_has_the_first_ten_seconds_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, size=(12 * 22_050, 2))
    clip = make_clip(write(tmp_path / "long.wav", stereo, 22_050))
    samples, rate = heard(clip.audio)
    assert (rate, len(samples)) == (22_050, 220_500)
    assert np.abs(samples - stereo[:220_500].mean(axis=1)).max() < 2**-14, "it plays something else than the file"
    assert (clip.seconds, clip.whole, clip.slowed, clip.top) == (10.0, 12.0, 1, 11_025.0)


def test_player_has_what_the_task_hears(tmp_path: Path) -> None:
    """A window is cut from its recording, a clip is cropped as the task crops it."""
    ramp = np.linspace(-0.9, 0.9, 8 * 16_000)
    whole = write(tmp_path / "ramp.wav", ramp, 16_000)
    cropped, rate = heard(make_clip(whole, max_duration=3.0).audio)
    assert len(cropped) == 3 * rate
    window = Example("one", whole.path, (2.5, 4.5), ())
    cut, rate = heard(make_clip(window, max_duration=3.0).audio)
    assert np.abs(cut - ramp[40_000:72_000]).max() < 2**-14
    # The last window of a recording may reach past its end.
    late, rate = heard(make_clip(Example("one", whole.path, (7.0, 9.0), ())).audio)
    assert np.abs(late - ramp[112_000:]).max() < 2**-14


def test_ultrasound_is_played_ten_times_slower(tmp_path: Path) -> None:
    """At its own rate a bat's call of 40 kHz is silence to everybody who visits the page."""
    clip = make_clip(write(tmp_path / "bat.wav", tone(40_000, 2.5, 250_000), 250_000))
    samples, rate = heard(clip.audio)
    assert (clip.slowed, clip.seconds, clip.whole, clip.top) == (10, 1.0, 2.5, 125_000.0)
    assert (rate, len(samples)) == (25_000, 250_000), "a second of it lasts ten"
    assert loudest(samples, rate) == pytest.approx(4_000, abs=1)


def test_rate_that_no_browser_plays_is_raised(tmp_path: Path) -> None:
    clip = make_clip(write(tmp_path / "whale.wav", tone(100, 4, 640), 640))
    samples, rate = heard(clip.audio)
    assert (rate, len(samples), clip.slowed) == (8_000, 32_000, 1)
    assert loudest(samples, rate) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("frames", [1, 30, 500])
def test_shortest_sounds_and_silence_are_drawn(tmp_path: Path, frames: int) -> None:
    """HumBugDB has clips of 5 ms."""
    clip = make_clip(write(tmp_path / "short.wav", np.zeros(frames), 8_000))
    assert len(heard(clip.audio)[0]) == frames
    assert imread(io.BytesIO(clip.picture))[..., :3].max() < 0.1, "silence is drawn as if it were loud"


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "window"])
def test_damaged_file_is_a_sentence_without_its_directory(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "call.flac"
    soundfile.write(path, tone(1000, 3, 16_000), 16_000)
    window = None
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("no sound")
    else:
        window = (5.0, 7.0)
    with pytest.raises(UserError, match=r"^call\.flac ") as caught:
        make_clip(Example("one", path, window, ()))
    assert str(tmp_path) not in str(caught.value), "a visitor reads where the data lie on the server"


# --- pictures ---


def plain_mel(samples: NDArray[np.float64], rate: int, width: int, hop: int, bands: int) -> NDArray[np.float64]:
    """Hann window, FFT, triangles on the mel scale, decibels: line by line."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    padded = np.concatenate([np.zeros(width // 2), samples, np.zeros(width // 2)])
    frames = [padded[start : start + width] * window for start in range(0, len(padded) - width + 1, hop)]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / (window**2).sum()
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    lines = np.fft.rfftfreq(width, 1 / rate)
    found = np.empty((bands, len(frames)))
    for band in range(bands):
        low, middle, high = edges[band : band + 3]
        triangle = np.minimum((lines - low) / (middle - low), (high - lines) / (high - middle)).clip(min=0)
        found[band] = power @ triangle
    return 10 * np.log10(np.maximum(found, 1e-10))


@pytest.mark.parametrize(("rate", "width", "bands"), [(16_000, 1024, 80), (44_100, 2048, 80), (8_000, 512, 80)])
def test_spectrogram_is_that_of_the_formula(rate: int, width: int, bands: int) -> None:
    rng = np.random.default_rng(1)
    samples = (tone(1_500, 1.5, rate) + rng.normal(0, 0.01, int(1.5 * rate))).astype(np.float32)
    found = mel_decibels(samples, rate)
    expected = plain_mel(samples.astype(np.float64), rate, width, -(-len(samples) // 640), bands)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05


@pytest.mark.parametrize("rate", [320, 2_000, 4_000, 11_025, 96_000])
def test_no_band_of_the_picture_is_empty(rate: int) -> None:
    """A band between two lines of the FFT would be drawn as a black stripe in every sound."""
    noise = np.random.default_rng(2).normal(0, 0.1, 3 * rate).astype(np.float32)
    assert mel_decibels(noise, rate).min(axis=1).min() > -90


@pytest.mark.parametrize(("rate", "frequency"), [(16_000, 1_000), (16_000, 4_000), (250_000, 32_000)])
def test_tone_lies_where_the_axis_says(tmp_path: Path, rate: int, frequency: int) -> None:
    """The picture and its labels come from two programs; a sound must lie at the label of its frequency."""
    clip = make_clip(write(tmp_path / "tone.wav", tone(frequency, 1.0, rate), rate))
    picture = imread(io.BytesIO(clip.picture))[..., :3].sum(axis=2)
    row = picture[:, 100:-100].mean(axis=1).argmax()
    height = 1 - (row + 0.5) / len(picture)  # rows count from the top
    y = spectrogram(clip, "tone").to_dict()["encoding"]["y"]
    expression = y["axis"]["labelExpr"].replace("datum.value", "value")
    labels = {
        eval(expression, {"format": lambda number, digits: number, "pow": pow, "value": value}): value
        for value in y["axis"]["values"]
    }
    place = next(value for label, value in labels.items() if label == pytest.approx(frequency / 1000))
    assert y["scale"]["domain"] == pytest.approx([0, mel(clip.top / clip.slowed)])
    assert height == pytest.approx(place / y["scale"]["domain"][1], abs=1 / len(picture))


def test_chart_of_classes_holds_every_count_in_the_order_of_size(tmp_path: Path) -> None:
    found = classification(tmp_path)
    chart = class_balance(found.labels, found.counts, "clips").to_dict()
    values = chart["datasets"][chart["data"]["name"]]
    assert list(dict.fromkeys(value["class"] for value in values)) == ["b", "a", "c"]
    assert {(value["class"], value["split"]): value["items"] for value in values} == {
        (label, split): found.counts[split][index] for index, label in enumerate(found.labels) for split in SPLITS
    }
