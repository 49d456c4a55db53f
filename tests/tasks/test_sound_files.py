"""Sound files are read to their end, or the user is told in a sentence why they are not."""

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tasks.sound import Content, Header, decode, read_header
from tasks.sound.mp3 import count_frames
from tasks.support.errors import UserError

RATE = 16_000


def music(seconds: float = 6.0, channels: int = 1) -> np.ndarray:
    """A soft start and a loud end, so that a variable bit rate rises: (samples, channels)."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    return (0.02 * np.sin(2 * np.pi * 440 * time) + 0.1 * noise.T * (time > seconds / 3)).T


def encoded(form: str, subtype: str | None = None, samples: np.ndarray | None = None, **how: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, music() if samples is None else samples, RATE, format=form, subtype=subtype, **how)
    return file.getvalue()


def mp3(samples: np.ndarray | None = None, mode: str = "VARIABLE") -> bytes:
    return encoded("MP3", None, samples, bitrate_mode=mode, compression_level=0.3)


def without_xing(data: bytes) -> bytes:
    frames = count_frames(data)
    assert frames is not None and frames.place is not None and frames.audio > frames.start
    return data[: frames.start] + data[frames.audio :]


def heard(data: bytes) -> tuple[Header, torch.Tensor]:
    content = Content("song", data)
    header = read_header(content)
    return header, decode(content, header, header.frames)


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        heard(data)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
@pytest.mark.parametrize("before", [b"", b"ID3\x03\0\0\0\0\x01\0" + b"\xff" * 128], ids=["", "tagged"])
def test_an_mp3_without_a_xing_frame_is_read_to_its_end(channels: int, mode: str, before: bytes) -> None:
    """libsndfile estimates its length: half of a file of variable bit rate would be missing."""
    whole = mp3(music(channels=channels), mode)
    header, sound = heard(before + without_xing(whole) + b"TAG" + bytes(125))
    _, right = heard(whole)
    assert header.frames >= len(right) and not header.cut
    # A file without a Xing frame does not state the delay of its encoder either.
    delays = range(0, header.frames - len(right) + 1)
    probe = right[60_000:64_000]
    found = max(delays, key=lambda delay: float(sound[60_000 + delay : 64_000 + delay] @ probe))
    torch.testing.assert_close(sound[found : found + len(right)], right, atol=1e-5, rtol=0)


def test_a_window_at_the_end_of_such_an_mp3_is_read() -> None:
    content = Content("song", without_xing(mp3()))
    header = read_header(content)
    whole = decode(content, header, header.frames)
    start = header.frames - RATE
    torch.testing.assert_close(decode(content, header, header.frames, start), whole[start:], atol=1e-6, rtol=0)


def test_what_follows_the_frames_that_an_mp3_states_is_read() -> None:
    """Two files that were appended state the length of the first."""
    data = mp3()
    header, sound = heard(data + data)
    assert header.frames > 2 * 6 * RATE - RATE // 2
    assert float(sound[-2 * RATE :].square().mean()) > 1e-3


def test_a_truncated_mp3_is_refused_or_marked() -> None:
    """Without a Xing frame nothing states how much is missing, but the last frame is cut."""
    data = mp3()
    assert "truncated" in refused(data[: len(data) // 2])
    bare = without_xing(data)
    header, sound = heard(bare[: len(bare) // 2 + 7])
    assert header.cut and len(sound) == header.frames > 0
    assert not heard(bare)[0].cut and not heard(data)[0].cut


def unknown_length(flac: bytes) -> bytes:
    fields = int.from_bytes(flac[18:26], "big") & ~((1 << 36) - 1)
    return flac[:18] + fields.to_bytes(8, "big") + flac[26:]


def test_a_flac_file_of_unknown_length_is_decoded_to_its_end() -> None:
    """ffmpeg writes such files into a pipe. The number of samples in the header is 0."""
    flac = encoded("FLAC", "PCM_16")
    header, sound = heard(unknown_length(flac))
    _, right = heard(flac)
    assert header.frames == 6 * RATE
    assert torch.equal(sound, right)
    content = Content("song", unknown_length(flac))
    assert torch.equal(decode(content, header, header.frames, 5 * RATE), right[5 * RATE :])


@pytest.mark.parametrize("change", [lambda data: data, unknown_length], ids=["", "unknown length"])
def test_a_truncated_flac_file_is_refused(change: Callable[[bytes], bytes]) -> None:
    flac = encoded("FLAC", "PCM_16")
    assert "truncated" in refused(change(flac)[: len(flac) // 2])


def pages(ogg: bytes) -> list[int]:
    """Where each page ends."""
    ends, place = [], 0
    while place < len(ogg):
        table = ogg[place + 27 : place + 27 + ogg[place + 26]]
        place += 27 + len(table) + sum(table)
        ends.append(place)
    return ends


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda ogg, ends: ogg[: len(ogg) // 2], "truncated"),
        (lambda ogg, ends: ogg[: ends[-2]], "ends without its last page"),
        (lambda ogg, ends: ogg[:-5], "truncated"),
        (lambda ogg, ends: ogg[: ends[3]] + ogg[ends[4] :], "missing"),
        (lambda ogg, ends: ogg + ogg, "only the first"),
    ],
    ids=["in a page", "between pages", "in the last page", "a page is missing", "two streams"],
)
def test_an_ogg_file_that_would_lose_sound_is_refused(
    subtype: str, damage: Callable[[bytes, list[int]], bytes], words: str
) -> None:
    """libsndfile takes the last page that it finds for the end of the stream."""
    ogg = encoded("OGG", subtype)
    header, _ = heard(ogg)
    assert header.frames == 6 * RATE
    assert words in refused(damage(ogg, pages(ogg)))


def test_a_tag_after_the_last_page_of_an_ogg_file_is_no_damage() -> None:
    assert heard(encoded("OGG", "VORBIS") + b"TAG" + bytes(125))[0].frames == 6 * RATE


TRUNCATED = ["WAV", "WAVEX", "AIFF", "AU", "CAF", "W64", "RF64", "SVX", "MAT4"]


@pytest.mark.parametrize("form", TRUNCATED)
def test_a_file_that_promises_more_than_it_holds_is_refused(form: str) -> None:
    data = encoded(form, "PCM_16")
    assert heard(data)[0].frames == 6 * RATE
    assert "truncated" in refused(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("form", "order", "extra", "size"),
    [
        ("WAV", "<", 0, 0xFFFFFFFF), ("WAV", "<", 0, 0x7FFFF000), ("AIFF", ">", 8, 0x7F000008),
        ("AIFF", ">", 8, 0xFFFFFFFF), ("AU", ">", 0, 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_file_that_was_written_as_a_stream_is_read(form: str, order: str, extra: int, size: int) -> None:
    """sox and ffmpeg cannot know the size when they write into a pipe."""
    data = encoded(form, "PCM_16")
    field = struct.pack(f"{order}I", 2 * 6 * RATE + extra)
    assert data.count(field) == 1
    assert heard(data.replace(field, struct.pack(f"{order}I", size)))[0].frames == 6 * RATE


@contextmanager
def ordinary_user() -> Iterator[None]:
    """The superuser may read every file."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_without_permission_is_not_said_to_be_no_audio(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(encoded("WAV"))
    path.chmod(0)
    with ordinary_user(), pytest.raises(UserError, match=re.escape(f"{path} may not be read (permission denied)")):
        read_header(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 300 + ".wav", "longer name than the system allows"), ("nul\0.wav", "cannot be read"), ("", "a directory"),
     ("none.wav", "is missing"), ("none.wav/inside.wav", "is missing")],
)  # fmt: skip
def test_a_name_that_cannot_be_opened_gives_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_header(tmp_path / name)


def test_raw_samples_are_refused_and_a_wav_file_of_that_name_is_read(tmp_path: Path) -> None:
    """soundfile asks the programmer for a sample rate: a traceback."""
    path = tmp_path / "song.raw"
    path.write_bytes(b"\1\2" * RATE)
    with pytest.raises(UserError, match=r"audio without a header \(.raw\)"):
        read_header(path)
    path.write_bytes(encoded("WAV"))
    header = read_header(path)
    assert len(decode(path, header, header.frames)) == 6 * RATE


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_decoding_in_blocks_changes_no_sample(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    """A long recording must not sound otherwise because its blocks are joined."""
    flac = encoded("FLAC", "PCM_16", music(channels=channels))
    _, at_once = heard(flac)
    monkeypatch.setattr("tasks.sound.stream._BLOCK_VALUES", 1_000)
    assert torch.equal(heard(flac)[1], at_once)
