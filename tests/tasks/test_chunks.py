"""Chunks are BEANS': a departure would move windows and labels of three detection tasks."""

import math
from pathlib import Path

import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from tasks.prepare.chunks import (
    Span,
    chunk_lengths,
    cut,
    divide,
    find_audio,
    read_table,
    split_by_position,
)
from tasks.sound import resampled_length
from tasks.support.errors import UserError
from tasks.windows import count_windows

# Eighths of a second are exact as floats, also after a border's 60 s are taken off. Borders are drawn often.
times = st.one_of(st.integers(-80, 2200).map(lambda n: n / 8), st.sampled_from([0.0, 60.0, 120.0, 180.0, 240.0]))
spans = st.tuples(times, times, st.sampled_from("ab"))


@given(annotations=st.lists(spans), count=st.integers(0, 5))
def test_annotations_are_divided_as_a_direct_reading_of_the_rule_says(annotations: list[Span], count: int) -> None:
    expected: list[list[Span]] = []
    for chunk in range(count):
        left, right = 60 * chunk, 60 * (chunk + 1)
        expected.append([])
        for start, end, label in annotations:
            # A chunk owns the times from its left border up to, without it, its right one.
            if start < right and left <= end:
                first = start - left if left <= start else 0
                last = end - left if end < right else 60
                expected[-1].append((first, last, label))
    assert divide(annotations, count) == expected


@given(annotations=st.lists(spans.map(lambda s: (min(s[:2]), max(s[:2]), s[2])), max_size=4), count=st.integers(1, 4))
def test_every_eighth_of_a_second_keeps_its_labels(annotations: list[Span], count: int) -> None:
    def sounding(pieces: list[Span], time: float) -> list[str]:
        return sorted(label for start, end, label in pieces if start <= time < end)

    chunks = divide(annotations, count)
    for tick in range(count * 60 * 8):
        chunk, within = divmod(tick, 60 * 8)
        assert sounding(chunks[chunk], within / 8) == sounding(annotations, tick / 8)


@pytest.mark.parametrize(
    ("span", "expected", "why"),
    [
        ((58.5, 61.25), [[(58.5, 60, "x")], [(0, 1.25, "x")], []], "clipped at the border it crosses"),
        ((50.0, 60.0), [[(50, 60, "x")], [(0, 0, "x")], []], "one without length where it ends at a border"),
        ((60.0, 61.0), [[], [(0, 1, "x")], []], "nothing before the border where it starts at one"),
        ((10.0, 170.0), [[(10, 60, "x")], [(0, 60, "x")], [(0, 50, "x")]], "all of a chunk it covers"),
        ((30.0, 30.0), [[(30, 30, "x")], [], []], "one without length is kept"),
        ((40.0, 30.0), [[(40, 30, "x")], [], []], "one that ends before it starts is kept within a chunk"),
        ((61.0, 59.0), [[], [], []], "and lost across chunks"),
        ((-5.0, 2.0), [[(0, 2, "x")], [], []], "what lies before the recording is cut off"),
        ((170.0, 1e15), [[], [], [(50, 60, "x")]], "what lies behind it costs neither memory nor time"),
        ((200.0, 201.0), [[], [], []], "beyond the last chunk"),
    ],
)
def test_division(span: tuple[float, float], expected: list[list[Span]], why: str) -> None:
    assert divide([(*span, "x")], 3) == expected, why


@given(samples=st.integers(1, 40_000), rate=st.integers(1, 90))
def test_chunks_are_slices_of_a_minute(samples: int, rate: int) -> None:
    sound = range(samples)
    count = math.ceil(samples / rate / 60)
    slices = [sound[chunk * 60 * rate : (chunk + 1) * 60 * rate] for chunk in range(count)]
    assert chunk_lengths(samples, rate) == [len(piece) / rate for piece in slices]


@pytest.mark.parametrize("native", [6_000, 8_000, 22_050, 24_000, 44_100, 48_000, 16_000])
@pytest.mark.parametrize("frames", [1, 2, 3, 440, 441, 442, 1000, 22_049, 48_001])
def test_samples_are_those_that_beans_counts(native: int, frames: int) -> None:
    """BEANS resamples with torchaudio. Another length of a chunk would be another number of windows."""
    expected = torchaudio.transforms.Resample(native, 16_000)(torch.zeros(1, frames)).shape[-1]
    assert resampled_length(frames, native, 16_000) == expected


def test_five_minutes_give_three_minutes_to_train_and_one_to_valid_and_test() -> None:
    lengths = chunk_lengths(300 * 32_000, 32_000)
    assert [split_by_position(minute, len(lengths)) for minute in range(5)] == [
        ("train", True),
        ("train", False),
        ("train", False),
        ("valid", False),
        ("test", False),
    ]
    assert [count_windows(length, 2, 1) for length in lengths] == [59] * 5


@pytest.mark.parametrize(("width", "shift", "windows"), [(2, 1, 59), (4, 2, 29), (10, 5, 11)])
@pytest.mark.parametrize("rate", [9_600, 16_000, 22_050, 32_000, 48_000])
def test_a_minute_has_as_many_windows_as_beans_counts(rate: int, width: float, shift: float, windows: int) -> None:
    assert [count_windows(length, width, shift) for length in chunk_lengths(60 * rate, rate)] == [windows]


def test_low_chunks_are_the_first_twelfth_and_not_the_first_chunk_only() -> None:
    assert [chunk for chunk in range(20) if split_by_position(chunk, 20)[1]] == [0, 1, 2]
    assert [chunk for chunk in range(8) if split_by_position(chunk, 8)[1]] == [0]
    assert split_by_position(0, 1) == ("train", True)


def test_a_chunk_says_where_its_sound_lies_in_the_recording(tmp_path: Path) -> None:
    file = tmp_path / "a.b.wav"
    soundfile.write(file, [0.0] * (61 * 11_025 + 1), 11_025)
    first, last = cut("dcase", file, 16_000, [(59.0, 60.5, "Q")])
    assert (first.id, first.recording) == ("a.b.000", "a.b")
    assert (first.sound.file, first.sound.start, first.sound.seconds) == (file, 0.0, 60.0)
    assert (last.id, last.sound.start, last.sound.seconds) == ("a.b.001", 60.0, 1 + 1 / 11_025)
    assert (first.length, last.length) == (60.0, 16_002 / 16_000)
    assert (first.annotations, last.annotations) == (((59.0, 60.0, "Q"),), ((0.0, 0.5, "Q"),))


def test_audio_is_sorted_by_name_at_any_depth_and_litter_is_left_out(tmp_path: Path) -> None:
    for name in ("z/Train/b.wav", "a/Train/c.wav", "Train/a.wav", "Train/a-b.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for litter in ("__MACOSX/Train/x.wav", "Train/._a.wav", "Test/d.wav", "Train/e.txt", "Train/deeper/f.wav"):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / litter).touch()
    assert [file.name for file in find_audio(tmp_path, "Train/*.wav")] == ["a-b.wav", "a.wav", "b.wav", "c.wav"]
    assert [file.name for file in find_audio(tmp_path / "Train", "Train/*.wav")] == ["a-b.wav", "a.wav"]


def test_the_folder_is_found_however_the_way_to_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "Train" / "a.wav").touch()
    monkeypatch.chdir(tmp_path / "Train")
    assert [file.name for file in find_audio(Path(), "Train/*.wav")] == ["a.wav"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read as a table"),
        ('Start,End\n"1,2\n', "cannot be read as a table"),
        ("Start,Stop\n1,2\n", "has no column 'End' but 'Start', 'Stop'"),
        ("Start,End\n1,2\n\n3,\n", "annotation 2: 'End' is nan"),
        ("Start,End\n1,2\nsoon,4\n", "annotation 2: 'Start' is soon"),
        ("Start,End\n1,inf\n", "annotation 1: 'End' is inf"),
    ],
)
def test_a_broken_table_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(content)
    with pytest.raises(UserError, match="table") as caught:
        read_table(file, ("Start", "End"))
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_annotations_is_none(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("Start,End\n")
    assert len(read_table(file, ("Start", "End"))) == 0
