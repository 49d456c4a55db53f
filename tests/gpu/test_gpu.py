"""What only a GPU can show: it computes what the CPU does, halves batches that do not fit, and counts its memory."""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluator.backbone import Backbone, Layer, ready
from evaluator.backbones import huggingface
from evaluator.efficiency import measure
from evaluator.efficiency.fresh import ask
from evaluator.efficiency.point import measure_point
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Encoded, Extractor
from evaluator.features.forward import is_out_of_memory
from evaluator.features.samples import Frames, Pooled, Samples
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit
from evaluator.probes.heads import HEADS
from evaluator.studies.vram import measure as study
from leaderboard.records.protocol import Protocol
from tasks.sound import Header
from tasks.support.errors import UserError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RATE = 16_000
MIB = 2**20
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [64] * 7,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(autouse=True)
def empty_allocator() -> Iterator[None]:
    """Every test starts and ends with a GPU on which nothing lies about and every byte may be used."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


def sounds(*seconds: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(int(length * RATE), generator=generator) for length in seconds]


def clips(waveforms: list[Tensor]) -> list[Clip]:
    found = []
    for index, waveform in enumerate(waveforms):
        item: Any = SimpleNamespace(path=Path(f"clip-{index}.wav"), id=f"clip-{index}")
        samples = len(waveform)
        found.append(Clip(index, item, Header(RATE, samples), Cut(0, samples, samples), samples))
    return found


def small_hubert() -> Backbone:
    return huggingface.load(weights="random", architecture="hubert", config={**SMALL, "feat_extract_norm": "group"})


def small_wavlm() -> Backbone:
    config = {**SMALL, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    return huggingface.load(weights="random", architecture="wavlm", config=config)


@pytest.mark.parametrize("make", [small_hubert, small_wavlm])
def test_features_on_the_gpu_equal_those_on_the_cpu(make: Any) -> None:
    # Unequal lengths: a batch with a mask where that is exact, batches of equal length where it is not.
    waveforms = sounds(0.5, 2.0, 1.3, 2.0, 3.1)

    def encode(device: torch.device) -> Encoded:
        return Extractor.of(ready(make(), device), device).encode(clips(waveforms), waveforms, frames=True)

    ours, theirs = encode(CPU), encode(GPU)
    for block in range(len(ours.pooled)):
        assert torch.equal(ours.counts[block], theirs.counts[block])
        for layer in range(len(ours.pooled[block])):
            expected = ours.pooled[block][layer]
            scale = expected.square().mean().sqrt()
            assert (expected - theirs.pooled[block][layer]).abs().max() <= 1e-3 * scale, f"layer {layer}, pooled"
            # Frames are kept in half precision, where two values that are nearly equal may round apart.
            frames, others = (torch.cat([clip[layer] for clip in one.frames(block)]) for one in (ours, theirs))
            scale = frames.square().mean().sqrt()
            rounding = torch.finfo(torch.float16).eps * (frames - expected.mean(0)).abs()
            apart = (frames - others).abs() - rounding
            assert apart.max() <= 1e-3 * scale, f"layer {layer}, frames"


# Frames stay on the host, and cross in every step, where the device has no room for them.
@pytest.mark.parametrize(("track", "resident"), [("ta", False), ("twa", False), ("twa", True)])
@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_probes_trained_on_the_gpu_equal_those_trained_on_the_cpu(track: str, resident: bool, metric: Any) -> None:
    layers, items, classes, width, frames = 3, 96, 5, 32, 20
    generator = torch.Generator().manual_seed(2)
    targets = torch.randint(classes, (items,), generator=generator)
    if metric == "map":
        targets = torch.nn.functional.one_hot(targets, classes).float()
    features = torch.randn(layers, items * frames, width, generator=generator).half()
    counts = torch.randint(frames // 2, frames + 1, (items,), generator=generator).tolist()

    def samples(device: torch.device) -> Samples:
        if track == "twa":
            places = [(features, item * frames, counts[item]) for item in range(items)]
            frames_of = Frames(places, range(layers), targets.to(device), range(layers), width)
            return frames_of.resident() if resident else frames_of
        return Pooled(features[:, ::frames].transpose(0, 1).float().to(device), targets.to(device), range(layers))

    def train(device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        found = fit(
            stack_of(HEADS.get(track), width, classes, device),
            samples(device),
            samples(device),
            metric=metric,
            rates=[1e-4, 1e-3, 1e-2],
            seeds=(0, 1),
            protocol=Protocol(epochs=10),
            keep=torch.full((layers,), 10),
        )
        assert found.state is not None
        return found.valid, {name: tensor.cpu() for name, tensor in found.state.items()}

    (ours, expected), (theirs, found) = train(CPU), train(GPU)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    # One item on a boundary may fall to either side.
    assert (ours - theirs).abs().max() <= 1.5 / items


class Hungry(torch.nn.Module):
    """Needs 256 MiB for every second of every clip; its features are means of 1000 samples."""

    sample_rate = RATE
    layers = (Layer("means", 2),)

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        batch, samples = waveforms.shape
        needed = torch.empty(batch, samples, 256 * MIB // RATE, dtype=torch.uint8, device=waveforms.device)
        self.batches.append(batch)
        del needed
        means = waveforms.unfold(1, 1000, 1000).mean(-1)
        return [torch.stack([means, means.square()], -1)], torch.full_like(lengths, means.shape[1])


def limit_to(mebibytes: int) -> None:
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + mebibytes * MIB) / total)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    waveforms = sounds(*[1.0] * 8)
    model = Hungry()
    extractor = Extractor.of(ready(model, GPU), GPU)
    expected = extractor.encode(clips(waveforms), waveforms, frames=True)
    assert model.batches[-1] == 8
    torch.cuda.empty_cache()
    limit_to(800)
    model.batches.clear()
    found = extractor.encode(clips(waveforms), waveforms, frames=True)
    assert model.batches == [2, 2, 2, 2]
    assert torch.equal(found.pooled[0], expected.pooled[0])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.frames(0), expected.frames(0), strict=True))


def test_one_clip_that_does_not_fit_is_named() -> None:
    waveforms = sounds(0.5, 8.0)
    extractor = Extractor.of(ready(Hungry(), GPU), GPU)
    torch.cuda.empty_cache()
    limit_to(800)
    with pytest.raises(UserError, match=r"Out of memory on cuda for one clip of 8\.0 s \(clip-1\.wav\)"):
        extractor.encode(clips(waveforms), waveforms, frames=False)


class Known(torch.nn.Module):
    """64 MiB of weights; in a pass 128 MiB that are freed, then two tensors of 96 MiB at once: the peak."""

    sample_rate = RATE
    layers = (Layer("zeros", 1),)

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(64 * MIB // 4))

    def _apply(self, fn: Any, recurse: bool = True) -> "Known":
        # What loading needs for a moment is not what running needs.
        moved: Known = super()._apply(fn, recurse)
        if self.weights.is_cuda:
            passing = torch.zeros(512 * MIB, dtype=torch.uint8, device=GPU)
            del passing
        return moved

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        early = torch.zeros(128 * MIB, dtype=torch.uint8, device=waveforms.device)
        del early
        pair = [torch.zeros(96 * MIB, dtype=torch.uint8, device=waveforms.device) for _ in range(2)]
        del pair
        return [waveforms.new_zeros(len(waveforms), 1, 1)], torch.ones_like(lengths)


def test_peak_memory_of_a_model_whose_peak_is_known() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    cost = measure(Known, clip_seconds=1.0)
    # The allocator hands out whole blocks: a large one may be up to 1 MiB larger than asked for.
    assert cost.weights_bytes == pytest.approx(64 * MIB, abs=2 * MIB)
    assert cost.vram_bytes == pytest.approx((64 + 2 * 96) * MIB, abs=4 * MIB)
    assert cost.seconds > 0
    assert cost.device == torch.cuda.get_device_name()


def test_a_point_on_the_gpu_tells_weights_from_activations_and_reserved_from_allocated() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    point = measure_point(Known, 1.0, device="cuda")
    assert point.peak_bytes is not None and point.reserved_bytes is not None
    assert point.peak_bytes - point.weights_bytes == pytest.approx(2 * 96 * MIB, abs=4 * MIB)
    # What was freed before the peak is still reserved: 128 MiB are not enough for both pieces of 96.
    assert point.peak_bytes <= point.reserved_bytes <= (64 + 128 + 2 * 96 + 64) * MIB
    assert 0 < point.latency_seconds <= point.latency_p90_seconds
    assert point.runs == 10


def test_a_clip_that_does_not_fit_is_told_from_a_bug() -> None:
    """`beans profile` makes a result of the one and a failure of the other."""
    torch.cuda.empty_cache()
    limit_to(800)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        measure_point(Hungry, 8.0, device="cuda")
    assert is_out_of_memory(caught.value)


def test_multiply_adds_are_the_same_on_the_gpu_and_on_the_cpu() -> None:
    on_cpu = measure_point(small_hubert, 2.0, device="cpu")
    on_gpu = measure_point(small_hubert, 2.0, device="cuda")
    assert on_gpu.multiply_adds == on_cpu.multiply_adds
    assert on_gpu.attention.startswith("sdpa")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_study_makes_attention_use_the_kernel_it_names(precision: str) -> None:
    """Eager attention holds 12 matrices of 6000 x 6000 for 120 s, the others never do; a fresh process a point.

    Of shorter clips the convolutions take more memory than these matrices, whatever the attention.
    """
    found = {}
    for way in study.ways("cuda", (precision,), "last"):
        if way.model == "AVES" and not way.unavailable:
            question = {**way.question, "device": "cuda", "precision": precision, "seconds": 120.0}
            found[way.kernel] = ask(question, 300)
    matrix = 12 * 5999**2 * (4 if precision == "fp32" else 2)
    assert set(found) == {"eager", "memory-efficient", *(["flash"] if precision == "bf16" else [])}
    for kernel, point in found.items():
        if kernel != "eager":
            assert point["attention"] == f"sdpa: {kernel}"
            assert found["eager"]["peak_bytes"] - point["peak_bytes"] > matrix / 2
        assert point["multiply_adds"] == found["eager"]["multiply_adds"]
