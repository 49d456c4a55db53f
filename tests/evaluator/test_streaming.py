"""Frames that do not fit on disk: the same probes come of running the backbone again, once for all of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
import torch
from builders import Run, write_clips_task, write_submission
from torch import Tensor

from evaluator.backbone import Layer, ready
from evaluator.features.extraction import Extractor
from evaluator.features.samples import Frames, Samples
from evaluator.features.store import Features, FeatureStore
from evaluator.features.streaming import Streamed
from evaluator.probes.search import Choice
from evaluator.probes.trainer import Trainer
from leaderboard.records.protocol import Protocol
from tasks.manifest import read_manifest
from tasks.task import Manifest, load_task

CPU = torch.device("cpu")
RATES = [1e-4, 1e-3, 1e-2]
EPOCHS = 3


class Encoder(torch.nn.Module):
    """Three layers of one hop; counts the clips it hears."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sample_rate, self.min_samples = 16_000, 400
        self.layers = [Layer(f"layer {number}", width) for number in range(3)]
        self.frames = torch.nn.Conv1d(1, width, 400, 320)
        self.heard = 0

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        self.heard += len(waveforms)
        frames = self.frames(waveforms[:, None]).mT
        return [frames, frames.relu(), frames.tanh()], (lengths - 400) // 320 + 1


@pytest.fixture
def task(tmp_path: Path) -> Manifest:
    return read_manifest(load_task(str(write_clips_task(tmp_path / "clips", per_label=10)), data=Path()))


def extracted(root: Path, encoder: Encoder, task: Manifest, budget: int | None) -> Features:
    found = FeatureStore(root, budget).extract(Extractor.of(ready(encoder), CPU), task, frames=True)
    encoder.heard = 0
    return found


def frames_of(samples: Samples, items: Sequence[int]) -> list[Tensor]:
    """(layers, frames, width) of each item, whatever pieces and order they come in."""
    found = {}
    for item in items:
        batches = samples.batches(torch.tensor([[item]]))
        found[item] = torch.cat([inputs[:, 0].clone() for batch in batches for _, inputs, _ in batch.pieces()])
    return list(found.values())


def test_streamed_frames_are_those_that_would_have_been_kept(tmp_path: Path, task: Manifest) -> None:
    encoder = Encoder()
    kept = extracted(tmp_path / "kept", encoder, task, None).samples("train", (0, 2), CPU, frames=True)
    streamed = extracted(tmp_path / "streamed", encoder, task, 0).samples("train", (0, 2), CPU, frames=True)
    assert isinstance(kept, Frames) and isinstance(streamed, Streamed)
    assert not list((tmp_path / "streamed").rglob("*.frames.*")), "frames beyond the budget were written"
    items = range(len(kept.targets))
    for ours, theirs in zip(frames_of(streamed, items), frames_of(kept, items), strict=True):
        # The last bit of a distance from the mean may differ: batches differ.
        torch.testing.assert_close(ours, theirs, atol=1e-3 * float(theirs.std()), rtol=1e-3)


def test_search_and_test_from_a_stream_give_what_they_give_from_frames_on_disk(tmp_path: Path, task: Manifest) -> None:
    encoder = Encoder()
    rules = Protocol(epochs=EPOCHS, seeds=2)
    found = []
    for name, budget in (("kept", None), ("streamed", 0)):
        trainer = Trainer(extracted(tmp_path / name, encoder, task, budget), "twa", CPU, rules)
        trials = trainer.rates(RATES, lambda done, total: None)
        logits, curve = trainer.test(Choice(layer=1, lr=1e-2, epoch=2, valid=0.5))
        found.append((trials, logits, curve))
    (trials, logits, curve), (streamed_trials, streamed_logits, streamed_curve) = found
    assert streamed_trials == trials
    assert streamed_curve == curve
    torch.testing.assert_close(streamed_logits, logits, atol=1e-4, rtol=1e-3)


def test_the_backbone_hears_train_once_an_epoch_for_all_layers_and_rates_and_validation_once(
    tmp_path: Path, task: Manifest
) -> None:
    """Once for each layer or rate would take a hundred times as long. Only the last epoch is scored."""
    encoder = Encoder()
    features = extracted(tmp_path / "features", encoder, task, 0)
    Trainer(features, "twa", CPU, Protocol(epochs=EPOCHS)).rates(RATES, lambda done, total: None)
    assert encoder.heard == EPOCHS * len(task.items["train"]) + len(task.items["valid"])


def test_a_layer_that_fits_is_computed_once(tmp_path: Path, task: Manifest) -> None:
    """The confirmation with five seeds reads one layer: it must not run the backbone for every seed and epoch."""
    encoder = Encoder()
    on_disk = extracted(tmp_path / "kept", encoder, task, None)
    frames = sum(path.stat().st_size for path in (tmp_path / "kept").rglob("*.frames.safetensors"))
    # Room for a layer of every split, but not for all three layers.
    features = extracted(tmp_path / "features", encoder, task, int(2.5 * frames / 3))
    assert features.streamed is not None
    trainer = Trainer(features, "twa", CPU, Protocol(epochs=4, seeds=3))
    choice = Choice(layer=2, lr=1e-2, epoch=4, valid=0.5)
    logits, _ = trainer.test(choice)
    assert encoder.heard == sum(len(items) for items in task.items.values())
    expected, _ = Trainer(on_disk, "twa", CPU, Protocol(epochs=4, seeds=3)).test(choice)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-3)
    assert not list((tmp_path / "features").rglob("*.frames.*")), "the layer's frames were left on the disk"


def test_sounds_that_fit_are_decoded_once_although_frames_do_not_fit(tmp_path: Path, task: Manifest) -> None:
    """A GPU would wait for the decoder in every epoch."""
    encoder = Encoder(width=512)
    items = range(len(task.items["train"]))
    on_disk = extracted(tmp_path / "kept", encoder, task, None).samples("train", (0, 1, 2), CPU, frames=True)
    sounds = sum(soundfile.info(item.path).duration for item in task.items["train"]) * encoder.sample_rate * 4
    # Three splits share the budget, of which this is the largest; frames take more than twice what sounds take.
    features = extracted(tmp_path / "streamed", encoder, task, int(3 * 1.1 * sounds))
    streamed = features.samples("train", (0, 1, 2), CPU, frames=True)
    assert isinstance(on_disk, Frames) and isinstance(streamed, Streamed)
    expected = frames_of(on_disk, items)
    for path in {item.path for item in task.items["train"]}:
        path.unlink()
    for ours, theirs in zip(frames_of(streamed, items), expected, strict=True):
        # The last bit of a distance from the mean may differ: batches differ.
        torch.testing.assert_close(ours, theirs, atol=1e-3 * float(theirs.std()), rtol=1e-3)
    assert isinstance(features.samples("train", (1,), CPU, frames=True), Streamed), (
        "sounds and a layer are beyond the budget"
    )
    left = {path.suffix for path in (tmp_path / "streamed").rglob("*") if path.is_file()}
    assert left <= {".json", ".safetensors", ".lock", ""}, "sounds were left on the disk"


@pytest.mark.slow
def test_submit_says_that_frames_were_streamed_and_finds_the_same(
    beans: Run, own_home: Path, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    from leaderboard.records.files import read_record

    data = write_clips_task(tmp_path / "clips", per_label=10)
    submission = write_submission(tmp_path / "tiny.toml", f'loader = "huggingface"\nmodel = "{checkpoints["group"]}"')
    command = ("submit", submission, "--tasks", data, "--track", "twa", "--trials", 2, "--seeds", 2)
    code, out, _ = beans(*command, "--frames-budget", 0, "--dry-run")
    assert code == 0 and "streamed" in out
    records = []
    for options in ((), ("--frames-budget", 0)):
        for path in (own_home / "records").glob("*.json"):
            path.unlink()
        for path in (own_home / "features").rglob("*.frames.safetensors"):
            path.unlink()
        code, _, err = beans(*command, *options)
        assert code == 0, err
        (path,) = (own_home / "records").glob("tiny.tones.twa.*[0-9a-f].json")
        records.append(read_record(path))
    kept, streamed = records
    assert "frames" not in kept.audio and "every epoch" in streamed.audio["frames"]
    assert streamed.id == kept.id, "where frames lie is no part of what was measured"
    assert streamed.test == pytest.approx(kept.test, abs=0.1)
