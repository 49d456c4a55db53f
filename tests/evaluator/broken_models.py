"""Models that are wrong in one way each, as users write them, and ``Good``, which they are otherwise equal to.

The loader ``python`` finds them by target, for example ``broken_models:Dropout``.
"""

from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Layer

Output = tuple[list[Tensor], Tensor | list[Tensor]]


class Good(torch.nn.Module):
    """Two convolutions at 32 kHz: layers of unequal width and hop, and exact without any mask, since neither pads."""

    sample_rate = 32_000
    layers = (Layer("conv", 16), Layer("pooled", 8))
    exact_masking = True
    min_samples = 1_120

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down = torch.nn.Conv1d(1, 16, 800, 320), torch.nn.Conv1d(16, 8, 2, 2)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        one = self.middle(self.conv(waveforms[:, None]))
        frames = (lengths - 800) // 320 + 1
        return [one.mT, self.down(one).mT], [frames, frames // 2]

    def middle(self, one: Tensor) -> Tensor:
        return one.tanh()


class Dropout(Good):
    """Functional dropout, which eval() does not reach."""

    def middle(self, one: Tensor) -> Tensor:
        return torch.nn.functional.dropout(one.tanh(), 0.1, training=True)


class Noisy(Good):
    """Dither that was meant for training."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        return super().encode(waveforms + 1e-4 * torch.randn_like(waveforms), lengths)


class PaddingLeak(Good):
    """Takes the mean over the whole batch's length, padding included."""

    def middle(self, one: Tensor) -> Tensor:
        return (one - one.mean(2, keepdim=True)).tanh()


class LeakAtTheEnd(Good):
    """A convolution that pads: only the last valid frame sees what follows the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = torch.nn.Conv1d(16, 16, 3, padding=1)

    def middle(self, one: Tensor) -> Tensor:
        return (one + 0.1 * self.smooth(one)).tanh()


class LayerTooMany(Good):
    layers = (*Good.layers, Layer("head", 8))


class WrongWidth(Good):
    layers = (Layer("conv", 17), Layer("pooled", 8))


class WrongFrames(Good):
    """Says of long clips that fewer frames are valid than it returns."""

    exact_masking = False

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        outputs, frames = super().encode(waveforms, lengths)
        return outputs, [count.clamp(max=60) for count in frames]


class NaNOnSilence(Good):
    """Divides by the clip's own loudness."""

    exact_masking = False

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        return super().encode(waveforms / waveforms.square().mean(1, keepdim=True).sqrt(), lengths)


class Deaf(Good):
    """Returns features of position, not of sound."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        return super().encode(torch.linspace(-1, 1, waveforms.shape[1]).sin().expand_as(waveforms), lengths)

    exact_masking = False


class DeadLayer(Good):
    """Every channel is the same."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        (one, other), frames = super().encode(waveforms, lengths)
        return [one, other.mean(2, keepdim=True).expand_as(other)], frames


class SameLayerTwice(Good):
    """Appends a tensor to the list and then changes it in place."""

    layers = (Layer("before", 16), Layer("after", 16))

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        one = self.conv(waveforms[:, None]).mT
        outputs = [one]
        one.tanh_()
        outputs.append(one)
        return outputs, (lengths - 800) // 320 + 1


class BatchNormInTraining(Good):
    """Puts its norm into training mode at every pass: batch statistics, and running ones that move."""

    exact_masking = False

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(16)

    def middle(self, one: Tensor) -> Tensor:
        self.norm.train()
        normed: Tensor = self.norm(one)
        return normed


class StubbornBatchNorm(BatchNormInTraining):
    """A norm that does not let eval() through."""

    def train(self, mode: bool = True) -> "StubbornBatchNorm":
        super().train(mode)
        self.norm.training = True
        return self

    def middle(self, one: Tensor) -> Tensor:
        normed: Tensor = self.norm(one)
        return normed


class Drifting(Good):
    """Changes its weights as it goes."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        self.conv.weight.mul_(1.001)
        return super().encode(waveforms, lengths)


class Counting(Good):
    """A buffer that counts passes and touches no feature: the cache's key would change from pass to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def middle(self, one: Tensor) -> Tensor:
        self.passes.add_(1)
        return one.tanh()


class GradientOn(Good):
    """Thaws itself."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        self.requires_grad_(True)
        return super().encode(waveforms, lengths)


class NeedsFifth(Good):
    """A kernel of 0.2 s, and no min_samples."""

    min_samples = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 16, 6_400, 320)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        one = self.conv(waveforms[:, None]).tanh()
        frames = (lengths - 6_400) // 320 + 1
        return [one.mT, self.down(one).mT], [frames, frames // 2]


class NeedsFifthAndSaysSo(NeedsFifth):
    """``NeedsFifth`` put right."""

    min_samples = 6_720


class TwentySecondsAtMost(Good):
    """A table of positions that ends."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        if waveforms.shape[1] > 20 * 32_000:
            raise IndexError("position 2000 is out of range")
        return super().encode(waveforms, lengths)


class HearsTenSeconds(Good):
    """Cuts off what is longer."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        return super().encode(waveforms[:, : 10 * 32_000], lengths.clamp(max=10 * 32_000))


class StandsStill(Good):
    """Repeats the clip's mean at every frame."""

    exact_masking = False

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        outputs, frames = super().encode(waveforms, lengths)
        return [output.mean(1, keepdim=True).expand_as(output) for output in outputs], frames


class Huge(Good):
    """Values that half precision could not hold as they are. No fault."""

    def middle(self, one: Tensor) -> Tensor:
        return one * 1e6


class Tiny(Good):
    """Values so small that half precision would lose digits of them. No fault."""

    def __init__(self) -> None:
        super().__init__()
        torch.nn.init.zeros_(self.down.bias)  # type: ignore[arg-type]

    def middle(self, one: Tensor) -> Tensor:
        return one * 1e-6


class HidesItsState(Good):
    """Fails where only the check of what is frozen looks."""

    fails = False

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        self.fails = True
        return super().encode(waveforms, lengths)

    def state_dict(self, *arguments: Any, **keys: Any) -> Any:
        if self.fails:
            raise KeyError("conv")
        return super().state_dict(*arguments, **keys)


class Wrapper:
    """No torch module itself, so that nobody freezes, moves or fingerprints the one inside."""

    sample_rate, layers, exact_masking, min_samples = Good.sample_rate, Good.layers, True, Good.min_samples

    def __init__(self) -> None:
        self.model = Good()

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Output:
        return self.model.encode(waveforms, lengths)


class ListOfModules(Good):
    """A plain list, which registers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [torch.nn.Conv1d(16, 16, 1)]

    def middle(self, one: Tensor) -> Tensor:
        return torch.tanh(self.blocks[0](one))


class Borrowing(Good):
    """A registered module under a second name, which is nothing to complain about."""

    def __init__(self) -> None:
        super().__init__()
        self.order = [self.conv, self.down]


def normed_over_time_but_exact() -> torch.nn.Module:
    """HuBERT base in small, whose group norm hears the padding, declared exact."""
    from builders import SMALL

    from evaluator.backbones import huggingface

    encoder = huggingface.load(weights="random", architecture="hubert", config=SMALL)
    encoder.exact_masking = True
    return encoder


def fails_to_load() -> torch.nn.Module:
    raise SystemExit("weights.bin not found")
