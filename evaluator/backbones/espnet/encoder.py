"""XEUS as a backbone."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.backbones.support.checkpoints import entering
from evaluator.backbones.support.waveforms import receptive_field


class XeusEncoder(torch.nn.Module):
    """ESPnet's ``ESPnetSSLModel``: waveform, convolutions, a linear layer, E-Branchformer blocks.

    Layer 0 is the input of the first block. Layer i is the output of block i, whose last step is a layer norm. The
    encoder's ``after_norm`` is not applied, as in ESPnet's ``use_final_output=False``. Nothing is masked or dropped.
    The convolutions inside the blocks read padding, so only clips of equal length share a batch.
    """

    exact_masking = False

    def __init__(self, model: Any, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        # ESPnet parses a rate such as "16k" with this function.
        rate = import_module("humanfriendly").parse_size(str(settings["frontend_conf"].get("fs", 16_000)))
        self.sample_rate = int(rate)
        # ESPnet normalises over the whole batch, so a clip would depend on the others in its batch.
        self.normalise_clips = bool(model.frontend.normalize_audio)
        model.frontend.normalize_audio = False
        self.normalisation = "zero mean and unit variance per clip" if self.normalise_clips else "none"
        model.encoder.gradient_checkpoint_layers = []
        _choose_attention(model)
        names = ["input of block 1", *(f"block {index}" for index in range(1, len(model.encoder.encoders) + 1))]
        self.layers = [Layer(name, model.encoder.output_size()) for name in names]
        self.min_samples = receptive_field(
            [layer.kernel_size for layer in model.frontend.layers], [layer.stride for layer in model.frontend.layers]
        )
        self.options = {"config": dict(settings), "espnet": version("espnet")}

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one (batch, frames, width) per layer, and (batch,) valid frames."""
        if self.normalise_clips:
            waveforms = torch.nn.functional.layer_norm(waveforms, waveforms.shape[1:])
        with entering(self.model.encoder.encoders[0]) as first:
            _, blocks, frames = self.model.inference_encode(waveforms, lengths, use_mask=False, use_final_output=False)
        return [*first, *blocks], frames


def _choose_attention(model: Any) -> None:
    """Use the same attention everywhere: ESPnet's choice depends on the device and on an installed flash_attn."""
    plain = import_module("espnet.nets.pytorch_backend.transformer.attention").MultiHeadedAttention
    for module in model.modules():
        if type(module) is plain:
            # This also stops each block from keeping its attention weights, which are frames x frames.
            module.use_flash_attn, module.use_sdpa = False, True
