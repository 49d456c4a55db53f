"""Parameters and multiply-adds of models that are counted by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from evaluator.backbone import Backbone, Layer, ready
from evaluator.backbones import biomamba, huggingface
from evaluator.backbones.biomamba.mixers import Mixer
from evaluator.backbones.biomamba.register import BioMambaConfig
from evaluator.efficiency.attention import forced, implementation
from evaluator.efficiency.operations import count, mixer_multiply_adds
from evaluator.features.forward import is_out_of_memory

CPU = torch.device("cpu")


class Small(torch.nn.Module):
    """A convolution (1 to 6 channels, 5 wide, every 5th), a linear layer (6 to 8), attention with two heads of 4."""

    sample_rate = 100
    layers = (Layer("out", 8),)

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(1, 6, 5, stride=5)
        self.linear = torch.nn.Linear(6, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        hidden = self.linear(self.convolution(waveforms[:, None]).mT)
        attended, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        return [attended], torch.full_like(lengths, hidden.shape[1])


def counted(model: Backbone, samples: int, batch: int = 1) -> int:
    noise, lengths = torch.randn(batch, samples), torch.full((batch,), samples)
    return count(model, lambda: model.encode(noise, lengths)).multiply_adds


def convolutions(samples: int, layers: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Multiply-adds of plain convolutions of (channels, kernel, stride) without padding, and the frames left."""
    total, channels = 0, 1
    for out, kernel, stride in layers:
        samples = (samples - kernel) // stride + 1
        total += samples * out * channels * kernel
        channels = out
    return total, samples


@pytest.mark.parametrize("batch", [1, 3])
def test_convolution_linear_layer_and_attention(batch: int) -> None:
    model = ready(Small())
    frames = 40
    by_hand = frames * 6 * 1 * 5 + frames * 6 * 8
    # Queries, keys, values and output; then the products with keys and with values.
    by_hand += 4 * frames * 8 * 8 + 2 * frames * frames * 8
    assert counted(model.backbone, 200, batch) == batch * by_hand
    assert model.parameters == (6 * 5 + 6) + (6 * 8 + 8) + 3 * (8 * 8 + 8) + (8 * 8 + 8)


@pytest.mark.parametrize("kernel", ["eager", "flash"])
def test_attention_counts_the_same_whichever_kernel_runs(kernel: str) -> None:
    """torch's own counter does not know the CPU's kernel, and would leave out half of a long clip's work."""
    model = ready(Small()).backbone
    with forced("eager" if kernel == "eager" else "flash"):
        found = count(model, lambda: model.encode(torch.randn(1, 200), torch.tensor([200])))
    assert found.multiply_adds == 40 * 30 + 40 * 48 + 4 * 40 * 64 + 2 * 40 * 40 * 8
    assert found.kernels == ("" if kernel == "eager" else "flash (CPU)")


def test_tiny_hubert() -> None:
    width, inner, blocks, groups, positions, channels = 32, 48, 2, 4, 16, 24
    config = {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": 2,
        "intermediate_size": inner,
        "conv_dim": [channels] * 7,
        "num_conv_pos_embeddings": positions,
        "num_conv_pos_embedding_groups": groups,
    }
    model = ready(huggingface.load(weights="random", architecture="hubert", config=config))
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    by_hand, frames = convolutions(16_000, [(channels, *pair) for pair in zip(kernels, strides, strict=True)])
    by_hand += frames * channels * width
    # Padded by half of an even kernel on both sides, the convolution of positions makes one frame more.
    by_hand += (frames + 1) * width * (width // groups) * positions
    by_hand += blocks * (4 * frames * width**2 + 2 * frames**2 * width + 2 * frames * width * inner)
    assert counted(model.backbone, 16_000) == by_hand
    assert implementation(model.backbone, CPU) == "sdpa"


def test_mamba_is_counted_by_formula_and_the_rest_by_torch() -> None:
    width, states, head, channels, blocks, kernel = 32, 16, 8, 24, 3, 4
    config = {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "state_size": states,
        "head_dim": head,
        "conv_dim": [channels] * 7,
        "mixer_conv_kernel": kernel,
    }
    model = ready(biomamba.load(weights="random", config=config))
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    by_hand, frames = convolutions(16_000, [(channels, *pair) for pair in zip(kernels, strides, strict=True)])
    by_hand += frames * channels * width
    inner = 2 * width
    heads = inner // head
    by_hand += blocks * frames * width * (2 * inner + 2 * states + heads)
    by_hand += blocks * frames * (inner + 2 * states) * kernel
    by_hand += blocks * frames * inner * width
    for _ in range(blocks * frames * inner):
        # One channel of one frame: input times step, skip; each state decays, takes in, and is read.
        by_hand += 2 + 3 * states
    assert counted(model.backbone, 16_000) == by_hand
    found = count(model.backbone, lambda: model.backbone.encode(torch.randn(1, 16_000), torch.tensor([16_000])))
    assert "by formula" in found.counted
    assert implementation(model.backbone, CPU) == "Mamba-2 by transformers"


def test_formula_of_the_projections_is_what_torch_counts() -> None:
    """The parts of a mixer that torch can count, counted by it; only the scan is taken on trust."""
    mixer = Mixer(BioMambaConfig(hidden_size=32, state_size=16, head_dim=8, n_groups=2, mixer_conv_kernel=3)).eval()
    frames = 50
    hidden = torch.randn(2, frames, 32)
    in_torch = count(mixer.in_proj, lambda: mixer.in_proj(hidden)).multiply_adds
    in_torch += count(mixer.out_proj, lambda: mixer.out_proj(torch.randn(2, frames, 64))).multiply_adds
    convolved = mixer.conv1d.weight.shape[0]
    # Its padding makes frames that are cut off again.
    padded = count(mixer.conv1d, lambda: mixer.conv1d(torch.randn(2, convolved, frames))).multiply_adds
    in_torch += padded * frames // (frames + 2)
    sizes = {"width": 32, "inner": 64, "heads": 8, "states": 16, "groups": 2, "kernel": 3}
    assert mixer_multiply_adds(2, frames, **sizes) - 2 * frames * 64 * (3 * 16 + 2) == in_torch


def test_what_runs_out_of_memory_is_told_from_what_is_wrong() -> None:
    with pytest.raises(RuntimeError) as too_large:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError) as wrong:
        torch.ones(2) @ torch.ones(3)
    assert is_out_of_memory(too_large.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert is_out_of_memory(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert not is_out_of_memory(wrong.value)
