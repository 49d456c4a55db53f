"""What becomes of a forward pass: means and frames of the right clips, nothing of the padding, and no waiting."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluator.backbone import Layer, ready
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Encoded, Extractor
from tasks.sound import Header
from tasks.support.errors import UserError
from tasks.task import Item

RATE, HOP = 1000, 10
CPU = torch.device("cpu")


class Frames(torch.nn.Module):
    """Frames of 10 samples, and their squares; what it returns beyond a clip's end is no number."""

    sample_rate, exact_masking = RATE, True
    layers = (Layer("samples", HOP), Layer("squares", HOP), Layer("means of two frames", 1))

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self.batches.append(len(waveforms))
        counts = lengths // HOP
        whole = waveforms[:, : waveforms.shape[1] // HOP * HOP].unflatten(1, (-1, HOP)).clone()
        beyond = torch.arange(whole.shape[1]) >= counts[:, None]
        whole[beyond] = torch.nan
        pairs = whole[:, : whole.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean((2, 3))[..., None]
        return [whole, whole.square(), pairs], [counts, counts, counts // 2]


def noise(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, generator=generator) for length in lengths]


def clips(sounds: list[Tensor]) -> list[Clip]:
    found = []
    for index, sound in enumerate(sounds):
        item = Item(f"clip-{index}", Path(f"clip-{index}.wav"), (0,), f"clip-{index}")
        found.append(Clip(index, item, Header(RATE, len(sound)), Cut(0, len(sound), len(sound)), len(sound)))
    return found


def encode(
    model: torch.nn.Module, sounds: list[Tensor], precision: str = "fp32", on_batch: Callable[[float], None] = print
) -> Encoded:
    extractor = Extractor.of(ready(model), CPU, precision)  # type: ignore[arg-type]
    return extractor.encode(clips(sounds), sounds, frames=True, on_batch=on_batch)


def test_clips_of_any_length_and_order_get_their_own_means_and_frames_without_the_padding() -> None:
    sounds = noise(237, 1000, 85, 85, 990, 42, 1000, 8_000, 9_000, 21)
    model = Frames()
    found = encode(model, sounds)
    assert max(model.batches) > 2, "nothing was padded, and nothing was tested"
    assert found.spreads is not None
    for place, sound in enumerate(sounds):
        plain = sound[: len(sound) // HOP * HOP].double().view(-1, HOP)
        pairs = plain[: len(plain) // 2 * 2].view(-1, 2, HOP).mean((1, 2))[:, None]
        for block, layers in ((0, [plain, plain.square()]), (1, [pairs])):
            assert int(found.counts[block][place]) == len(layers[0])
            for row, expected in enumerate(layers):
                mean, spread = found.pooled[block][row, place], found.spreads[block][row, place]
                torch.testing.assert_close(mean.double(), expected.mean(0), rtol=1e-6, atol=1e-7)
                torch.testing.assert_close(spread.double(), expected.std(0, correction=0), rtol=1e-5, atol=1e-7)
                frames = found.frames(block)[place][row].double()
                torch.testing.assert_close(frames, expected, rtol=1e-3, atol=1e-3)


def test_the_whole_audio_is_reported_once() -> None:
    sounds, told = noise(300, 700, 20_000, 300, 20), list[float]()
    encode(Frames(), sounds, on_batch=told.append)
    assert sum(told) == pytest.approx(sum(map(len, sounds)) / RATE)


def test_the_next_pass_begins_before_the_last_is_looked_at() -> None:
    """Looking first would leave a GPU idle from every pass to the next."""
    model, order = Frames(), list[tuple[int, int]]()
    extractor = Extractor.of(ready(model), CPU)
    model.batches.clear()
    sounds = noise(*[9_000] * 5)
    extractor.encode(
        clips(sounds), sounds, frames=True, on_batch=lambda _: order.append((len(order) + 1, len(model.batches)))
    )
    assert order == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5)], "(passes looked at, passes begun)"


def test_values_beyond_half_precision_are_kept() -> None:
    """They ended a run of every head that reads frames."""
    (sound,) = noise(500)
    sound[77] = 30_000.0
    found = encode(Frames(), [sound])
    plain = sound.double().view(-1, HOP)
    for row, expected in enumerate((plain, plain.square())):
        apart = (found.frames(0)[0][row].double() - expected).abs().amax(0)
        # 11 bits of the distance from the mean.
        assert bool((apart <= 1.01 * 2**-11 * (expected - expected.mean(0)).abs().amax(0)).all())


def test_a_nan_in_one_clip_of_a_batch_names_that_clip_and_layer() -> None:
    sounds = noise(500, 500, 500)
    sounds[2][77] = 1e30
    with pytest.raises(UserError, match=r"clip-2\.wav .* not finite in layer 1 \(squares\)"):
        encode(Frames(), sounds)


def test_bfloat16_outputs_are_averaged_in_single_precision() -> None:
    """A mean of 1000 frames that is summed in bfloat16 has two digits."""

    class Rounded(Frames):
        def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            outputs, counts = super().encode(waveforms, lengths)
            return [output.bfloat16() for output in outputs], counts

    (sound,) = noise(9_000)
    found = encode(Rounded(), [sound], "bf16")
    expected = sound.view(-1, HOP).bfloat16().double().mean(0)
    assert found.pooled[0].dtype == torch.float32
    torch.testing.assert_close(found.pooled[0][0, 0].double(), expected, rtol=1e-5, atol=1e-7)


class TooMany(Frames):
    """Says of clips longer than those it is first tried on that more frames are valid than there are."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        outputs, counts = super().encode(waveforms, lengths)
        return outputs, [counts[0], counts[1] + (lengths > 5 * RATE), counts[2]]


class Uneven(Frames):
    """Of long clips the second layer has another hop than the first."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        outputs, counts = super().encode(waveforms, lengths)
        if int(lengths.max()) > 5 * RATE:
            outputs[1], counts[1] = outputs[1][:, ::2], (counts[1] + 1) // 2
        return outputs, counts


class Short(Frames):
    """Returns as many frames for all layers, of which fewer are valid in the second."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        outputs, counts = super().encode(waveforms, lengths)
        return outputs, [counts[0], counts[1] - (lengths > 5 * RATE).long(), counts[2]]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (TooMany, r"Layer 1 \(squares\) returned 600 frames but counts 601 as valid"),
        (Uneven, r"Layers 0 and 1 have the same hop on noise but not on clip-0\.wav"),
        (Short, r"Layers 0 and 1 have the same hop on noise but not on clip-0\.wav"),
    ],
)
def test_frame_counts_that_go_wrong_on_a_clip_are_one_sentence(kind: type[Frames], said: str) -> None:
    with pytest.raises(UserError, match=said):
        encode(kind(), noise(6_000))


def test_the_clip_that_is_too_short_for_a_frame_is_named() -> None:
    with pytest.raises(UserError, match=r"clip-1\.wav \(7 samples\) is too short"):
        encode(Frames(), noise(300, 7))
