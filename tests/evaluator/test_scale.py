"""Standardised inputs must not depend on the unit or the offset of a layer's channels, and must be those of sklearn."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import write_clips_task
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from evaluator.backbone import Layer, ready
from evaluator.features.extraction import Extractor
from evaluator.features.pooling import pool
from evaluator.features.samples import Frames, Samples
from evaluator.features.scale import Scale
from evaluator.features.store import Features, FeatureStore
from evaluator.features.streaming import Streamed
from tasks.manifest import read_manifest
from tasks.task import Manifest, Split, load_task

CPU = torch.device("cpu")
WIDTH, LAYERS = 6, (0, 1)

Change = Callable[[Tensor], Tensor]


class Encoder(torch.nn.Module):
    """Two layers of one hop. ``change`` is applied to each layer's (batch, frames, width)."""

    def __init__(self, change: Change = lambda frames: frames) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sample_rate, self.min_samples = 16_000, 400
        self.layers = [Layer(f"layer {number}", WIDTH) for number in LAYERS]
        self.frames = torch.nn.Conv1d(1, WIDTH, 400, 320)
        self.change = change

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        frames = 10 * self.frames(waveforms[:, None]).mT
        return [self.change(frames), self.change(frames.abs())], (lengths - 400) // 320 + 1


CHANGES: dict[str, Change] = {
    "times 1000": lambda frames: frames * 1000,
    "times 0.001": lambda frames: frames * 0.001,
    "beyond half precision": lambda frames: frames * 1e30,
    "below half precision": lambda frames: frames * 1e-30,
    "every channel its own factor": lambda frames: frames * 10.0 ** torch.arange(-3, 3),
    "every channel its own offset": lambda frames: frames + torch.tensor([100.0, -100, 30, 0, 7, 1]),
    "both": lambda frames: (
        frames * torch.tensor([-1e3, 1e-3, 1, 7, -0.1, 20]) + torch.tensor([1e4, 1e-2, 9, 0, 1, -99])
    ),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    path = write_clips_task(tmp_path_factory.mktemp("clips"), per_label=10)
    return read_manifest(load_task(str(path), data=Path()))


def extracted(
    root: Path, task: Manifest, change: Change = lambda frames: frames, budget: int | None = None
) -> Features:
    extractor = Extractor.of(ready(Encoder(change)), CPU)
    return FeatureStore(root, budget).extract(extractor, task, frames=True)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, task: Manifest) -> Features:
    return extracted(tmp_path_factory.mktemp("features"), task)


def items_of(samples: Samples) -> list[Tensor]:
    """Per item (layers, frames, width), or (layers, width)."""
    found = []
    for item in range(len(samples.targets)):
        batches = samples.batches(torch.tensor([[item]]))
        found.append(torch.cat([inputs[:, 0].clone() for batch in batches for _, inputs, _ in batch.pieces()]))
    return found


def plain(task: Manifest, features: Features, split: Split) -> list[np.ndarray]:
    """Per item (layers, frames, width) float64 as the encoder returns them, never rounded to half precision."""
    from evaluator.features.clips import waveforms

    encoder = Encoder()
    found: dict[int, np.ndarray] = {}
    for shard in features.plans[split]:
        for clip, sound in zip(shard.clips, waveforms(shard, 16_000), strict=True):
            with torch.inference_mode():
                layers, _ = encoder.encode(sound[None], torch.tensor([len(sound)]))
            found[clip.index] = torch.cat(layers).double().numpy()
    return [found[number] for number in range(len(task.items[split]))]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_standardised_vectors_are_those_of_sklearn_fitted_on_train(
    task: Manifest, features: Features, split: Split
) -> None:
    train, asked = (np.stack([one.mean(1) for one in plain(task, features, name)]) for name in ("train", split))  # type: ignore[arg-type]
    found = torch.stack(items_of(features.samples(split, LAYERS, CPU, frames=False, standardise=True)))
    for layer in LAYERS:
        expected = StandardScaler().fit(train[:, layer]).transform(asked[:, layer])
        np.testing.assert_allclose(found[:, layer].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_standardised_frames_are_those_of_sklearn_fitted_on_all_frames_of_train(
    task: Manifest, features: Features, split: Split
) -> None:
    train = np.concatenate(plain(task, features, "train"), 1)
    found = items_of(features.samples(split, LAYERS, CPU, frames=True, standardise=True))
    for layer in LAYERS:
        scaler = StandardScaler().fit(train[layer])
        for ours, frames in zip(found, plain(task, features, split), strict=True):
            np.testing.assert_allclose(ours[layer].numpy(), scaler.transform(frames[layer]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("frames", [False, True])
def test_a_subset_of_the_layers_and_a_multiplier_give_the_same_numbers_times_it(
    features: Features, frames: bool
) -> None:
    both = items_of(features.samples("valid", LAYERS, CPU, frames=frames, standardise=True))
    divided = features.samples("valid", (1,), CPU, frames=frames, standardise=True, multiplier=1 / math.sqrt(WIDTH))
    for one, other in zip(both, items_of(divided), strict=True):
        torch.testing.assert_close(other[0], one[1] / math.sqrt(WIDTH), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("frames", [False, True])
def test_the_unit_and_the_offset_of_channels_change_nothing(
    tmp_path: Path, task: Manifest, features: Features, name: str, frames: bool
) -> None:
    """The rank of a backbone hung on the scale of its activations."""
    changed = extracted(tmp_path, task, CHANGES[name])
    flipped = torch.sign(CHANGES[name](torch.ones(WIDTH)) - CHANGES[name](torch.zeros(WIDTH)))
    tolerance = 1e-3 if frames else 1e-4
    for split in ("train", "test"):
        ours = items_of(features.samples(split, LAYERS, CPU, frames=frames, standardise=True))  # type: ignore[arg-type]
        theirs = items_of(changed.samples(split, LAYERS, CPU, frames=frames, standardise=True))  # type: ignore[arg-type]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other * flipped, one, atol=tolerance, rtol=tolerance)


def test_an_offset_of_a_hundred_deviations_costs_the_frames_no_digits(
    tmp_path: Path, task: Manifest, features: Features
) -> None:
    """In half precision as it is, 100 plus a deviation of 1 has five bits left for the deviation."""
    spread = features.scale(LAYERS, frames=True).factor[0].reciprocal()
    changed = extracted(tmp_path, task, lambda frames: frames + 100 * spread)
    for split in ("train", "test"):
        ours = items_of(features.samples(split, LAYERS, CPU, frames=False))  # type: ignore[arg-type]
        theirs = items_of(changed.samples(split, LAYERS, CPU, frames=False))  # type: ignore[arg-type]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close((other - one) / spread, torch.full_like(one, 100), atol=1e-4, rtol=0)
        ours = items_of(features.samples(split, LAYERS, CPU, frames=True))  # type: ignore[arg-type]
        theirs = items_of(changed.samples(split, LAYERS, CPU, frames=True))  # type: ignore[arg-type]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close((other - one) / spread, torch.full_like(one, 100), atol=2e-3, rtol=0)


@pytest.mark.parametrize("frames", [False, True])
def test_channels_that_are_constant_on_train_are_zero_everywhere(tmp_path: Path, task: Manifest, frames: bool) -> None:
    """Else rounding noise would be blown up to deviations of 1."""

    def change(outputs: Tensor) -> Tensor:
        outputs = outputs.clone()
        outputs[..., 0], outputs[..., 1], outputs[..., 2] = 0, 1234.567, 1 / 3
        return outputs

    found = extracted(tmp_path, task, change)
    for split in ("train", "valid", "test"):
        inputs = items_of(found.samples(split, LAYERS, CPU, frames=frames, standardise=True))  # type: ignore[arg-type]
        raw = items_of(found.samples(split, LAYERS, CPU, frames=frames))  # type: ignore[arg-type]
        for one, other in zip(inputs, raw, strict=True):
            assert not one[..., :3].any() and one[..., 3:].any()
            expected = torch.tensor([0, 1234.567, 1 / 3]).expand_as(other[..., :3])
            torch.testing.assert_close(other[..., :3], expected, rtol=1e-6, atol=0)


def test_streamed_frames_are_standardised_as_stored_ones(tmp_path: Path, task: Manifest, features: Features) -> None:
    streamed = extracted(tmp_path, task, budget=0)
    assert streamed.streamed is not None and not list(tmp_path.rglob("*.frames.*"))
    # Room for one layer in temporary files, but not for both.
    room = extracted(tmp_path / "room", task, budget=0)
    held = sum(path.stat().st_size for path in features.directory.glob("*.frames.*"))
    object.__setattr__(room, "budget", int(0.7 * held))
    for layers, other, kind in ((LAYERS, streamed, Streamed), ((1,), room, Frames)):
        for standardise in (False, True):
            for split in ("train", "test"):
                ours, theirs = (
                    one.samples(split, layers, CPU, frames=True, standardise=standardise)  # type: ignore[arg-type]
                    for one in (features, other)
                )
                assert isinstance(theirs, kind)
                for one, two in zip(items_of(ours), items_of(theirs), strict=True):
                    torch.testing.assert_close(two, one, atol=2e-3 * float(one.std()), rtol=1e-3)
    for frames in (False, True):
        ours, theirs = (one.scale(LAYERS, frames=frames) for one in (features, streamed))
        torch.testing.assert_close((theirs.shift, theirs.factor), (ours.shift, ours.factor), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("standardise", [False, True])
def test_what_follows_the_end_of_a_clip_is_zero(features: Features, standardise: bool) -> None:
    samples = features.samples("train", LAYERS, CPU, frames=True, standardise=standardise)
    alone = items_of(samples)
    padded = 0
    # Twice, because pieces share memory.
    for index in (torch.arange(len(samples.targets)), torch.arange(len(samples.targets)).flip(0)):
        for batch in samples.batches(index[None]):
            for span, inputs, valid in batch.pieces():
                for place, item in enumerate(batch.items[0][span].tolist()):
                    count = alone[item].shape[1]
                    layers = range(*batch.groups.indices(len(LAYERS)))
                    for row, layer in enumerate(layers):
                        torch.testing.assert_close(inputs[row, place, :count], alone[item][layer], rtol=0, atol=0)
                    assert not inputs[:, place, count:].any()
                    assert valid is None or int(valid[place].sum()) == count
                    padded += inputs.shape[2] - count
    assert padded > 0, "nothing was padded, and nothing was tested"


# Of one pass, without a store.


def passed(clips: list[np.ndarray]) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
    """Means, spreads (1, clips, width), halves and counts of clips (frames, width), padded with NaN into one batch."""
    counts = torch.tensor([len(clip) for clip in clips])
    batch = torch.full((len(clips), int(counts.max()), clips[0].shape[1]), torch.nan)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = torch.from_numpy(clip)
    outputs = pool([(batch, counts)], spread=True, frames=True)
    assert outputs.spreads is not None and outputs.frames is not None
    halves = [outputs.frames[0, row, :count] for row, count in enumerate(counts.tolist())]
    return outputs.means, outputs.spreads, halves, counts


def noise(generator: np.random.Generator, frames: int, width: int = 4) -> np.ndarray:
    return generator.standard_normal((frames, width)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-35, 30),
    offset=st.floats(-100, 100),
)
def test_mean_spread_and_frames_of_any_clips(lengths: list[int], seed: int, exponent: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    unit = np.float32(10.0**exponent)
    clips = [(noise(generator, length) + np.float32(offset)) * unit for length in lengths]
    means, spreads, halves, _ = passed(clips)
    for row, clip in enumerate(clips):
        exact = clip.astype(np.float64)
        deviation = exact.std(0)
        tolerance = 1e-5 * (1 + abs(offset)) * float(unit)
        np.testing.assert_allclose(means[0, row], exact.mean(0), rtol=1e-6, atol=tolerance)
        np.testing.assert_allclose(spreads[0, row], deviation, rtol=1e-4, atol=tolerance)
        back = halves[row].double().numpy() * spreads[0, row].numpy() + means[0, row].numpy()
        np.testing.assert_allclose(back, exact, rtol=0, atol=2**-11 * np.abs(exact - exact.mean(0)).max() + tolerance)
        if len(clip) == 1:
            assert not spreads[0, row].any() and not halves[row].any()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
    seed=st.integers(0, 2**32 - 1),
    offset=st.floats(-100, 100),
)
def test_the_scale_of_frames_from_clips_is_that_of_all_frames(
    lengths: list[int], cuts: set[int], seed: int, offset: float
) -> None:
    generator = np.random.default_rng(seed)
    clips = [noise(generator, length) * 3 + np.float32(offset + shift) for length, shift in zip(lengths, range(12))]  # noqa: B905
    parts = np.split(np.arange(len(clips)), sorted(cut for cut in cuts if cut < len(clips)))
    kept = [passed([clips[number] for number in part]) for part in parts]
    scale = Scale.of_frames(((means, spreads, counts) for means, spreads, _, counts in kept), multiplier=0.5)
    every = np.concatenate(clips).astype(np.float64)
    scaler = StandardScaler().fit(every)
    np.testing.assert_allclose(scale.shift[0], scaler.mean_, rtol=1e-5, atol=1e-5)
    if len(every) == 1:
        assert not scale.factor.any()
        return
    np.testing.assert_allclose(scale.factor[0], 0.5 / every.std(0), rtol=1e-3)


def test_the_scale_of_vectors_of_one_item_is_zero() -> None:
    scale = Scale.of_vectors([torch.randn(3, 1, 5)])
    assert scale.shift.shape == scale.factor.shape == (3, 5) and not scale.factor.any()


def test_the_scale_of_vectors_in_parts_is_that_of_all() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((3, 50, 5)) * 1e-3 + 0.1).astype(np.float32)
    scale = Scale.of_vectors([torch.from_numpy(part) for part in np.split(vectors, [1, 30], axis=1)])
    for layer in range(3):
        scaler = StandardScaler().fit(vectors[layer].astype(np.float64))
        np.testing.assert_allclose(scale.shift[layer], scaler.mean_, rtol=1e-6)
        np.testing.assert_allclose(scale.factor[layer], 1 / scaler.scale_, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, -1234.567, 1e-30, 1e30])
def test_a_constant_channel_of_a_long_clip_has_no_spread(value: float) -> None:
    """The mean of 50,000 equal numbers in single precision need not be that number."""
    clip = np.full((50_000, 3), value, np.float32)
    means, spreads, halves, _ = passed([clip, clip[:17]])
    assert not spreads.any() and not any(part.any() for part in halves)
    torch.testing.assert_close(means, torch.full_like(means, value), rtol=1e-6, atol=0)


def test_values_near_the_limit_of_single_precision_do_not_overflow() -> None:
    clip = noise(np.random.default_rng(0), 100)
    clip *= np.float32(1e38) / np.abs(clip).max() / 100
    _, spreads, halves, _ = passed([clip])
    np.testing.assert_allclose(spreads[0, 0], clip.astype(np.float64).std(0), rtol=1e-5)
    assert bool(torch.isfinite(halves[0]).all())


def test_a_single_click_in_a_long_clip_is_kept() -> None:
    """sqrt(T - 1) deviations from the mean is the farthest that a frame can be."""
    clip = np.zeros((100_000, 2), np.float32)
    clip[777] = 1e5
    means, spreads, halves, _ = passed([clip])
    back = halves[0].double() * spreads[0, 0] + means[0, 0]
    torch.testing.assert_close(back[777], torch.full_like(back[777], 1e5), rtol=1e-3, atol=0)
