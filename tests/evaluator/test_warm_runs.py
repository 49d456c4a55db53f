"""A second run on the same audio: it opens and reads only what changed, and still notices all that did."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from builders import tone
from torch import Tensor

import evaluator.features.headers
import evaluator.features.shards
import evaluator.features.store
from evaluator.backbone import Layer, ready
from evaluator.features.extraction import Extractor
from evaluator.features.store import Features, FeatureStore
from evaluator.probes.heads import needs_frames
from tasks.manifest import read_manifest
from tasks.support.errors import UserError
from tasks.task import load_task

CPU = torch.device("cpu")
BOTH = ("ta", "twa")


class Encoder(torch.nn.Module):
    """Two layers; counts the clips it hears."""

    sample_rate, min_samples = 16_000, 800
    layers = (Layer("linear", 6), Layer("tanh", 6))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv1d(1, 6, 400, 160)
        self.heard = 0

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        self.heard += len(waveforms)
        output = self.convolution(waveforms[:, None]).mT
        return [output, output.tanh()], (lengths - 400) // 160 + 1


class Counter:
    """Calls a function and counts; ``calls`` holds the first argument of each."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, list[Any]()

    def __call__(self, first: Any, *others: Any, **named: Any) -> Any:
        self.calls.append(first)
        return self.function(first, *others, **named)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The audio files whose headers are read."""
    counter = Counter(evaluator.features.headers.read_header)
    monkeypatch.setattr(evaluator.features.headers, "read_header", counter)
    return counter.calls


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for every feature file that is read to its end and compared with its checksum."""
    counter = Counter(evaluator.features.shards._checksum)
    monkeypatch.setattr(evaluator.features.shards, "_checksum", counter)
    return counter.calls


def extract(root: Path, task: Path, tracks: tuple[str, ...] = BOTH) -> tuple[Features, int]:
    """The features, as a new process would get them, and how many clips the backbone heard for it."""
    evaluator.features.shards._verify.cache_clear()
    encoder = Encoder()
    extractor = Extractor.of(ready(encoder), CPU)
    encoder.heard = 0
    manifest = read_manifest(load_task(str(task), data=Path()))
    return FeatureStore(root).extract(extractor, manifest, frames=needs_frames(tracks)), encoder.heard


def values(features: Features, track: str) -> list[Tensor]:
    """Every item's inputs, one after another."""
    found = []
    for split, items in features.manifest.items.items():
        samples = features.samples(split, (0, 1), CPU, frames=needs_frames([track]))
        for item in range(len(items)):
            for batch in samples.batches(torch.tensor([[item]])):
                found += [inputs.clone() for _, inputs, _ in batch.pieces()]
    return found


def test_a_second_run_opens_no_file_and_reads_no_feature_before_probing(
    tmp_path: Path, clips_task: Path, opened: list[Path], hashed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening 100,000 headers, or reading 60 GB of frames to check them, would take minutes before anything starts."""
    extract(tmp_path / "features", clips_task)
    assert len(opened) == len(set(opened)) == 60
    opened.clear()
    hashed.clear()
    read = Counter(evaluator.features.store.read)
    monkeypatch.setattr(evaluator.features.store, "read", read)
    for tracks in (BOTH, ("ta",), ("twa",)):
        features, heard = extract(tmp_path / "features", clips_task, tracks)
        assert (heard, opened, hashed, read.calls) == (0, [], [], []), "a warm run does not start at once"
    assert len(values(features, "ta")) == 60
    assert hashed, "features are used without having been compared with their checksum"


def test_another_backbone_opens_no_file_again(tmp_path: Path, clips_task: Path, opened: list[Path]) -> None:
    extract(tmp_path / "features", clips_task)
    opened.clear()
    other = Encoder()
    torch.nn.init.ones_(other.convolution.weight)
    manifest = read_manifest(load_task(str(clips_task), data=Path()))
    FeatureStore(tmp_path / "features").extract(Extractor.of(ready(other), CPU), manifest, frames=False)
    assert other.heard > 60 and opened == []


def test_only_the_file_that_changed_is_opened_again(tmp_path: Path, clips_task: Path, opened: list[Path]) -> None:
    extract(tmp_path / "features", clips_task)
    opened.clear()
    changed = clips_task.parent / "audio/clip_000.wav"
    soundfile.write(changed, tone(700, 0.35, 22_050, 99) * 0.1, 22_050)
    features, heard = extract(tmp_path / "features", clips_task)
    assert opened == [changed] and heard >= 1
    fresh, _ = extract(tmp_path / "fresh", clips_task)
    for track in BOTH:
        for one, other in zip(values(features, track), values(fresh, track), strict=True):
            assert torch.equal(one, other), f"{track}: features of the old file are used"


def test_a_file_that_is_gone_is_named_although_its_header_is_known(tmp_path: Path, clips_task: Path) -> None:
    extract(tmp_path / "features", clips_task)
    (clips_task.parent / "audio/clip_000.wav").unlink()
    (clips_task.parent / "audio/clip_002.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"clip_000\.wav is missing .*; .*clip_002\.wav is empty"):
        extract(tmp_path / "features", clips_task)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"clip": [1]}', '{"files": {"a": 1}}'])
def test_what_is_remembered_may_be_lost_or_damaged(
    tmp_path: Path, clips_task: Path, opened: list[Path], hashed: list[object], content: str
) -> None:
    root = tmp_path / "features"
    before, _ = extract(root, clips_task)
    remembered = [*root.glob("headers/*.json"), *root.glob("*/ledger.json")]
    assert len(remembered) == 2
    for path in remembered:
        path.write_text(content)
    opened.clear()
    hashed.clear()
    after, heard = extract(root, clips_task)
    assert heard == 0, "whole features are computed again"
    assert len(opened) == 60 and hashed, "what nobody vouches for is used unseen"
    assert all(torch.equal(one, other) for one, other in zip(values(before, "ta"), values(after, "ta"), strict=True))


def flip(path: Path) -> None:
    """One bit, in place."""
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("suffix", ["pooled", "frames"])
def test_a_change_that_hides_behind_the_old_time_is_noticed(tmp_path: Path, clips_task: Path, suffix: str) -> None:
    """Copying tools restore a file's size and time."""
    root = tmp_path / "features"
    before, _ = extract(root, clips_task)
    expected = values(before, "twa")
    for path in root.glob(f"*/*.{suffix}.safetensors"):
        times = path.stat()
        flip(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after, heard = extract(root, clips_task)
    assert heard == 60
    assert all(torch.equal(one, other) for one, other in zip(expected, values(after, "twa"), strict=True))


@pytest.mark.parametrize(("suffix", "track"), [("pooled", "ta"), ("frames", "twa")])
def test_a_bit_that_a_disk_flips_without_a_trace_is_noticed_when_it_is_read(
    tmp_path: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, track: str
) -> None:
    """Nothing but the content tells: probes would be trained on it, and the record would stand on the board."""
    root = tmp_path / "features"
    monkeypatch.setattr(evaluator.features.shards, "stamp", lambda path: (path.stat().st_size, 0, 0))
    before, _ = extract(root, clips_task)
    expected = values(before, track)
    damaged = root / before.directory.name / f"{before.plans['valid'][0].name}.{suffix}.safetensors"
    flip(damaged)
    features, heard = extract(root, clips_task)
    assert heard == 0
    features.samples("train", (0, 1), CPU, frames=needs_frames([track]))
    with pytest.raises(UserError, match=rf"{damaged.name} was damaged.*run the same command again"):
        features.samples("valid", (0, 1), CPU, frames=needs_frames([track]))
    after, _ = extract(root, clips_task)
    assert all(torch.equal(one, other) for one, other in zip(expected, values(after, track), strict=True))


def test_features_that_vanish_while_they_are_used_are_one_sentence(tmp_path: Path, clips_task: Path) -> None:
    features, _ = extract(tmp_path / "features", clips_task)
    for path in (tmp_path / "features").rglob("*.pooled.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match="was deleted during the run: run the same command again"):
        features.samples("train", (0, 1), CPU, frames=False)


def test_no_more_shards_wait_in_memory_than_allowed(
    tmp_path: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk slower than the backbone must not fill the memory with hours of frames."""
    monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", 2.0)
    computed, written, waiting = 0, 0, list[int]()
    encode, store = Extractor.encode, evaluator.features.store.store

    def computing(self: Extractor, *positional: Any, **named: Any) -> Any:
        nonlocal computed
        found = encode(self, *positional, **named)
        computed += 1
        waiting.append(computed - written)
        return found

    def slowly(*positional: Any) -> None:
        nonlocal written
        time.sleep(0.05)
        store(*positional)
        written += 1

    monkeypatch.setattr(Extractor, "encode", computing)
    monkeypatch.setattr(evaluator.features.store, "store", slowly)
    extract(tmp_path / "features", clips_task)
    assert computed == written >= 8
    assert 2 <= max(waiting) <= 3, "the backbone does not wait for the disk, or never runs beside it"


def test_a_shard_that_could_not_be_written_is_said_and_computed_next_time(
    tmp_path: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing happens behind the passes: its failure must neither be lost nor leave a hole that passes for features."""
    monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", 4.0)
    store, calls = evaluator.features.store.store, 0

    def full(*positional: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise UserError("The disk is full.")
        store(*positional)

    last = 0
    monkeypatch.setattr(evaluator.features.store, "store", full)
    expected, _ = extract(tmp_path / "whole", clips_task)
    last, calls = calls, 0
    assert last > 2
    with pytest.raises(UserError, match="The disk is full"):
        extract(tmp_path / "features", clips_task)
    last = 0
    features, heard = extract(tmp_path / "features", clips_task)
    assert 0 < heard < 60
    for one, other in zip(values(expected, "twa"), values(features, "twa"), strict=True):
        assert torch.equal(one, other)
