"""What the backbone hears must be what the file holds, and a bad file must be named."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from builders import tone

from evaluator.features.cuts import Cut, load
from tasks.sound import read_header
from tasks.support.errors import UserError


def save(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    soundfile.write(path, samples, rate)
    return path


def test_channels_are_averaged_and_the_clip_is_cropped_then_resampled(tmp_path: Path) -> None:
    stereo = np.stack([tone(440, 2.0, 44_100, 0), tone(880, 2.0, 44_100, 1)], axis=1) * 0.3
    path = save(tmp_path / "a.wav", stereo, 44_100)
    header = read_header(path)
    (heard,) = load(path, header, [Cut.whole(header, 1.5)], 16_000)
    raw, _ = soundfile.read(path, dtype="float32")
    expected = soxr.resample(raw.mean(1)[: int(1.5 * 44_100)], 44_100, 16_000)
    torch.testing.assert_close(heard, torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_a_window_never_holds_sound_from_outside_it(tmp_path: Path) -> None:
    """Resampling before cutting would let a neighbouring call ring into the window."""
    silence_then_noise = np.concatenate([np.zeros(32_000), np.random.default_rng(0).standard_normal(32_000) * 0.3])
    path = save(tmp_path / "a.wav", silence_then_noise, 32_000)
    header = read_header(path)
    first, second = load(path, header, [Cut.window(header, 0, 1), Cut.window(header, 1, 2)], 16_000)
    assert len(first) == len(second) == 16_000
    assert float(first.abs().max()) == 0.0
    assert float(second.abs().max()) > 0.1


def test_a_last_window_that_reaches_past_the_end_is_padded_to_its_width(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(440, 1.4, 16_000, 0) * 0.3)
    header = read_header(path)
    (heard,) = load(path, header, [Cut.window(header, 1, 2)], 16_000)
    assert len(heard) == 16_000
    assert float(heard[6_400:].abs().max()) == 0.0
    assert float(heard[:6_400].abs().max()) > 0.1


@pytest.mark.parametrize("native", [8_000, 11_127, 16_000, 22_050, 22_257, 44_100, 48_000])
def test_the_predicted_length_is_the_length_after_resampling(tmp_path: Path, native: int) -> None:
    """Clips are batched by predicted length; a wrong one would pad a clip that must not be padded."""
    for samples in (native // 3, native + 1, 2 * native - 7):
        path = save(tmp_path / "a.wav", np.random.default_rng(samples).standard_normal(samples) * 0.1, native)
        header = read_header(path)
        cut = Cut.whole(header, None)
        (heard,) = load(path, header, [cut], 16_000)
        assert len(heard) == cut.resampled(native, 16_000)


def broken(directory: Path, what: str) -> Path:
    good = save(directory / "good.flac", tone(440, 2.0, 16_000, 0) * 0.3)
    path = directory / f"{what}.{'flac' if 'flac' in what else 'wav'}"
    if what == "missing":
        return path
    if what == "truncated-wav":
        whole = save(directory / "whole.wav", tone(440, 2.0, 16_000, 0) * 0.3).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes({
            "empty": b"",
            "text": b"this is no audio\n" * 50,
            "truncated-flac": good.read_bytes()[: good.stat().st_size // 2],
        }[what])  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("what", "said"),
    [("missing", "missing"), ("empty", "empty"), ("text", "not audio"), ("truncated-wav", "truncated"),
     ("truncated-flac", "truncated")],
)  # fmt: skip
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, what: str, said: str) -> None:
    path = broken(tmp_path, what)
    with pytest.raises(UserError, match=said) as caught:
        header = read_header(path)
        load(path, header, [Cut.whole(header, None)], 16_000)
    assert str(path) in str(caught.value)


def test_what_lies_between_two_windows_is_not_decoded(tmp_path: Path) -> None:
    """A batch of windows from recordings of a night would decode the whole night, and hold it in memory."""
    path = save(tmp_path / "night.flac", np.random.default_rng(0).standard_normal(600 * 16_000) * 0.1)
    header = read_header(path)
    # Out of order, two that overlap, and one far away.
    cuts = [Cut.window(header, start, start + 1) for start in (599.5, 0.5, 0.0)]
    tracemalloc.start()
    pieces = load(path, header, cuts, 16_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for piece, cut in zip(pieces, cuts, strict=True):
        raw, _ = soundfile.read(path, start=cut.start, stop=cut.stop, dtype="float32")
        assert torch.equal(piece[: len(raw)], torch.from_numpy(raw))
    assert peak < 60 * 16_000 * 4, "more than a minute of ten was decoded"
