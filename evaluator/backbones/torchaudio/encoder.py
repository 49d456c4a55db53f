"""torchaudio's wav2vec 2.0 as a backbone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.backbones.support.checkpoints import entering
from evaluator.backbones.support.waveforms import receptive_field, standardise

# torchaudio's own bundles add it to the variance.
_VARIANCE_FLOOR = 1e-5


class Wav2Vec2Encoder(torch.nn.Module):
    """torchaudio's ``Wav2Vec2Model``: waveform, convolutions, blocks of self-attention.

    Layer 0 is the input of the first block. Layer i is the output of block i. If the norm follows the residual (AVES,
    BirdAVES), it includes the block's final layer norm. If the norm comes first, the encoder's last layer norm is not
    applied. With ``extractor_mode`` "group_norm" (AVES, BirdAVES) the first convolution is normalised over time, so
    padding changes every frame and only clips of equal length share a batch. "layer_norm" masks exactly.
    """

    def __init__(self, model: Any, settings: Mapping[str, Any], *, sample_rate: int, do_normalize: bool) -> None:
        import torchaudio

        super().__init__()
        self.model = model
        self.sample_rate = sample_rate
        self.do_normalize = do_normalize
        self.exact_masking = settings["extractor_mode"] == "layer_norm"
        self.normalisation = "zero mean and unit variance per clip" if do_normalize else "none"
        names = ["input of block 1", *(f"block {index}" for index in range(1, settings["encoder_num_layers"] + 1))]
        self.layers = [Layer(name, settings["encoder_embed_dim"]) for name in names]
        convolutions = model.feature_extractor.conv_layers
        self.min_samples = receptive_field(
            [layer.kernel_size for layer in convolutions], [layer.stride for layer in convolutions]
        )
        self.options = {
            "config": dict(settings),
            "sample_rate": sample_rate,
            "do_normalize": do_normalize,
            "torchaudio": torchaudio.__version__,
        }

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one (batch, frames, width) per layer, and (batch,) valid frames."""
        samples = waveforms.shape[1]
        if self.do_normalize:
            waveforms = standardise(waveforms, lengths, _VARIANCE_FLOOR)
        masked = self.exact_masking and bool((lengths < samples).any())
        with entering(self.model.encoder.transformer.layers[0]) as first:
            blocks, _ = self.model.extract_features(waveforms, lengths if masked else None)
        frames = lengths
        for layer in self.model.feature_extractor.conv_layers:
            frames = (frames - layer.kernel_size) // layer.stride + 1
        return [*first, *blocks], frames
