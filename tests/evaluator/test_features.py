"""The feature store: one pass, complete, never stale, never half; and what it refuses."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders import tone
from torch import Tensor

from evaluator.backbone import Layer, ready
from evaluator.features.clips import plan, waveforms
from evaluator.features.cuts import Cut, load
from evaluator.features.extraction import Extractor
from evaluator.features.samples import Samples
from evaluator.features.store import Features, FeatureStore
from evaluator.probes.heads import needs_frames
from tasks.manifest import read_manifest
from tasks.sound import read_header, resample
from tasks.support.errors import UserError
from tasks.task import Item, Manifest, Task, load_task


class Encoder(torch.nn.Module):
    """Two layers of unequal width and hop; counts the clips it hears."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda x: x, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.sample_rate, self.min_samples = 16_000, 800
        self.layers = [Layer("fine", 6), Layer("coarse", 4), Layer("fine again", 6)]
        self.fine = torch.nn.Conv1d(1, 6, 400, 160)
        self.coarse = torch.nn.Conv1d(6, 4, 2, 2)
        self.change, self.heard, self.sizes = change, 0, list[int]()

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self.heard += len(waveforms)
        self.sizes.append(len(waveforms))
        fine = self.fine(waveforms[:, None])
        frames = (lengths - 400) // 160 + 1
        outputs = [fine.mT, self.coarse(fine).mT, self.change(fine.mT.tanh())]
        return outputs, [frames, frames // 2, frames]


def manifest(task: Path) -> Manifest:
    return read_manifest(load_task(str(task), data=Path()))


def extractor(encoder: Encoder) -> Extractor:
    made = Extractor.of(ready(encoder), torch.device("cpu"))
    encoder.heard = 0
    encoder.sizes.clear()
    return made


def extract(root: Path, encoder: Encoder, task: Path, tracks: tuple[str, ...] = ("ta",)) -> Features:
    return FeatureStore(root).extract(extractor(encoder), manifest(task), frames=needs_frames(tracks))


def everything(features: Features, track: str = "ta") -> list[Tensor]:
    """All inputs of all splits and blocks, item by item."""
    tensors = []
    for split, items in features.manifest.items.items():
        for block in features.blocks:
            samples = features.samples(split, block.layers, torch.device("cpu"), frames=needs_frames([track]))
            for item in range(len(items)):
                tensors.append(one(samples, item))
    return tensors


def one(samples: Samples, item: int) -> Tensor:
    """(layers, 1, ...) inputs of one item."""
    batches = samples.batches(torch.tensor([[item]]))
    return torch.cat([inputs.clone() for batch in batches for _, inputs, valid in batch.pieces() if valid is None])


@pytest.mark.parametrize("task", ["clips_task", "windows_task"])
def test_every_row_is_the_mean_over_the_frames_of_its_own_clip(
    tmp_path: Path, task: str, request: pytest.FixtureRequest
) -> None:
    """Rows in the wrong order, left zero or doubled have been published as features elsewhere."""
    path = request.getfixturevalue(task)
    encoder = Encoder()
    features = extract(tmp_path / "features", encoder, path, ("ta", "twa"))
    content = features.manifest
    assert encoder.heard == sum(map(len, content.items.values()))
    assert [block.layers for block in features.blocks] == [(0, 2), (1,)]
    for split, items in content.items.items():
        for number, item in enumerate(items):
            header = read_header(item.path)
            cut = Cut.window(header, *item.window) if item.window else Cut.whole(header, None)
            (sound,) = load(item.path, header, [cut], 16_000)
            with torch.inference_mode():
                outputs, counts = encoder.encode(sound[None], torch.tensor([len(sound)]))
            for block in features.blocks:
                pooled = features.samples(split, block.layers, torch.device("cpu"), frames=False)
                framed = features.samples(split, block.layers, torch.device("cpu"), frames=True)
                mean, frames = one(pooled, number), one(framed, number)
                for place, layer in enumerate(block.layers):
                    expected = outputs[layer][0, : int(counts[layer])]
                    torch.testing.assert_close(mean[place, 0], expected.mean(0), atol=1e-5, rtol=0)
                    torch.testing.assert_close(frames[place, 0], expected, atol=2e-3, rtol=2e-3)


def test_a_second_run_hears_nothing_again(tmp_path: Path, clips_task: Path) -> None:
    first = everything(extract(tmp_path / "features", Encoder(), clips_task))
    encoder = Encoder()
    second = everything(extract(tmp_path / "features", encoder, clips_task))
    assert encoder.heard == 0
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_pooled_features_do_not_pass_for_frames(tmp_path: Path, clips_task: Path) -> None:
    extract(tmp_path / "features", Encoder(), clips_task, ("ta",))
    encoder = Encoder()
    everything(extract(tmp_path / "features", encoder, clips_task, ("twa",)), "twa")
    assert encoder.heard == 60


def change_weights(encoder: Encoder, task: Path) -> None:
    with torch.no_grad():
        encoder.fine.weight[0, 0, 0] += 1e-3


def change_rate(encoder: Encoder, task: Path) -> None:
    encoder.sample_rate = 8_000


def change_audio(encoder: Encoder, task: Path) -> None:
    soundfile.write(task.parent / "audio/clip_000.wav", tone(700, 0.3, 16_000, 99) * 0.1, 16_000)


def change_crop(encoder: Encoder, task: Path) -> None:
    task.write_text(task.read_text() + "max_duration = 0.35\n")


@pytest.mark.parametrize(
    ("change", "expected"), [(change_weights, 60), (change_rate, 60), (change_audio, 1), (change_crop, 1)]
)
def test_stale_features_are_never_read(
    tmp_path: Path, clips_task: Path, change: Callable[[Encoder, Path], None], expected: int
) -> None:
    """Caches keyed by a class name alone have served other models' features."""
    extract(tmp_path / "features", Encoder(), clips_task)
    encoder = Encoder()
    change(encoder, clips_task)
    features = everything(extract(tmp_path / "features", encoder, clips_task))
    assert encoder.heard >= expected
    fresh = everything(extract(tmp_path / "fresh", encoder, clips_task))
    assert all(torch.equal(one, other) for one, other in zip(features, fresh, strict=True))


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
@pytest.mark.parametrize("suffix", ["pooled", "frames"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, clips_task: Path, suffix: str, damage: str) -> None:
    root = tmp_path / "features"
    before = everything(extract(root, Encoder(), clips_task, ("twa",)), "twa")
    for path in root.glob(f"*/*.{suffix}.safetensors"):
        content = bytearray(path.read_bytes())
        if damage == "truncate":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flip":
            content[-10] ^= 1
            path.write_bytes(content)
        else:
            path.unlink()
    encoder = Encoder()
    after = everything(extract(root, encoder, clips_task, ("twa",)), "twa")
    assert encoder.heard == 60
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_one_bad_file_is_named_and_costs_one_shard(
    tmp_path: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mending a file after hours of extraction must not cost the hours."""
    monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", 3.0)
    victim = clips_task.parent / "audio/clip_001.flac"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    encoder = Encoder()
    with pytest.raises(UserError, match=r"clip_001\.flac (is truncated|cannot be decoded)"):
        extract(tmp_path / "features", encoder, clips_task)
    done = encoder.heard
    assert 40 < done < 60
    stamp = victim.stat()
    victim.write_bytes(whole)
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    encoder = Encoder()
    extract(tmp_path / "features", encoder, clips_task)
    assert encoder.heard == 60 - done


def test_all_bad_files_are_named_before_the_first_forward_pass(tmp_path: Path, clips_task: Path) -> None:
    (clips_task.parent / "audio/clip_003.flac").unlink()
    (clips_task.parent / "audio/clip_004.wav").write_bytes(b"")
    encoder = Encoder()
    with pytest.raises(UserError, match=r"clip_003.flac is missing .*; .*clip_004.wav is empty"):
        extract(tmp_path / "features", encoder, clips_task)
    assert encoder.heard == 0


def test_a_length_in_samples_is_recognised(tmp_path: Path, windows_task: Path) -> None:
    """The manifest's lengths are in seconds; samples would mean thousands of windows of nothing."""
    lines = (windows_task.parent / "valid.jsonl").read_text().replace('"length": 12.0', '"length": 192.0')
    (windows_task.parent / "valid.jsonl").write_text(lines)
    with pytest.raises(
        UserError, match=r"valid_0\.wav is 12\.0 s long but has 179 windows after its end, .*in seconds"
    ):
        extract(tmp_path / "features", Encoder(), windows_task)


def spoil_loud_clips(frames: Tensor) -> Tensor:
    return torch.where(torch.rand(1) < 2, frames * torch.nan, frames)


def test_a_nan_names_the_file_and_the_layer(tmp_path: Path, clips_task: Path) -> None:
    with pytest.raises(UserError, match=r"clip_\d+\.\w+.*not finite in layer 2 \(fine again\)"):
        extract(tmp_path / "features", Encoder(spoil_loud_clips), clips_task)


def test_identical_features_of_different_audio_are_refused(tmp_path: Path, clips_task: Path) -> None:
    """Features at the wrong sample rate were 97 % duplicates for months elsewhere."""

    class Constant(Encoder):
        def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            outputs, counts = super().encode(waveforms, lengths)
            return [torch.ones_like(output) for output in outputs], counts

    with pytest.raises(UserError, match=r"clip_\d+.* and .*clip_\d+.* are identical"):
        extract(tmp_path / "features", Constant(), clips_task)


def test_the_same_file_twice_and_silence_are_no_reason_to_refuse(tmp_path: Path, clips_task: Path) -> None:
    """Real data sets hold copies and digital silence."""
    audio = clips_task.parent / "audio"
    (audio / "clip_002.wav").write_bytes((audio / "clip_000.wav").read_bytes())
    for number, seconds in ((4, 0.4), (6, 0.5)):
        soundfile.write(audio / f"clip_{number:03d}.wav", np.zeros(int(seconds * 16_000)), 16_000)
    extract(tmp_path / "features", Encoder(), clips_task)


def test_a_backbone_that_is_not_what_it_declares_is_refused_before_any_audio(clips_task: Path) -> None:
    encoder = Encoder()
    encoder.layers = [*encoder.layers, Layer("one too many", 3)]
    with pytest.raises(UserError, match="declares 4 layers"):
        extractor(encoder)
    encoder = Encoder()
    encoder.layers[1] = Layer("coarse", 5)
    with pytest.raises(UserError, match=r"Layer 1 \(coarse\) has shape"):
        extractor(encoder)


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, windows_task: Path) -> None:
    """The net itself: a backbone that fails on more than three clips at once, as a small GPU would."""

    class Hungry(Encoder):
        def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            if len(waveforms) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().encode(waveforms, lengths)

    hungry = Hungry()
    found = everything(extract(tmp_path / "features", hungry, windows_task))
    assert max(hungry.sizes) <= 3
    expected = everything(extract(tmp_path / "plenty", Encoder(), windows_task))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_one_clip_that_does_not_fit_is_named(tmp_path: Path, clips_task: Path) -> None:
    class Starved(Encoder):
        def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            if 9_500 < int(lengths.max()) < 9_700:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().encode(waveforms, lengths)

    starved = Starved()
    with pytest.raises(UserError, match=r"Out of memory .* for one clip of 0\.6 s .*clip_"):
        extract(tmp_path / "features", starved, clips_task)


def test_the_estimate_is_what_extraction_then_writes(tmp_path: Path, windows_task: Path) -> None:
    """--dry-run promises disk; a promise off by half would fill somebody's disk."""
    store, made = FeatureStore(tmp_path / "features"), extractor(Encoder())
    before = store.estimate(made, manifest(windows_task), frames=True)
    store.extract(made, manifest(windows_task), frames=True)
    written = sum(path.stat().st_size for path in (tmp_path / "features").rglob("*.safetensors"))
    assert before.seconds == before.total_seconds > 0
    assert before.bytes == pytest.approx(written, rel=0.25)
    after = store.estimate(made, manifest(windows_task), frames=True)
    assert (after.seconds, after.bytes) == (0, 0)


def test_hours_in_one_file_are_decoded_piece_by_piece_and_sound_the_same(tmp_path: Path) -> None:
    rate = 8000
    sound = 0.1 * np.random.default_rng(0).standard_normal(700 * rate)
    soundfile.write(tmp_path / "long.flac", sound, rate)
    path = tmp_path / "long.flac"
    items = [Item(f"w{i}", path, (), "long", (float(i), i + 2.0)) for i in range(0, 690)]
    task = Task(name="own", kind="classification", clips=Path("none.csv"))
    shards = plan(task, items, 16_000, 1)
    assert len(shards) > 2, "all of a file of hours lies in memory at once"
    assert sorted(clip.index for shard in shards for clip in shard.clips) == list(range(690))
    stored, _ = soundfile.read(path, dtype="float32")
    for shard in (shards[0], shards[-1]):
        assert sum(clip.samples for clip in shard.clips) <= 16_000 * 250
        heard = waveforms(shard, 16_000)
        for clip, one in list(zip(shard.clips, heard, strict=True))[::40]:
            expected = stored[clip.index * rate : (clip.index + 2) * rate]
            torch.testing.assert_close(one, resample(torch.from_numpy(expected), rate, 16_000), atol=1e-5, rtol=0)
