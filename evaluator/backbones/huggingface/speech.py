"""Encoders of waveforms: wav2vec 2.0, HuBERT, WavLM, data2vec, SEW, UniSpeech and similar models."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evaluator.backbones.huggingface.encoder import MAX_SECONDS, Encoder, window_of
from evaluator.backbones.support.waveforms import receptive_field, standardise

# transformers' Wav2Vec2FeatureExtractor adds it to the variance.
_VARIANCE_FLOOR = 1e-7
# Model types whose layer-norm variants keep padding out. In data2vec, SEW and the conformer a convolution reads it.
_MASKS_EXACTLY = frozenset({"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"})


class SpeechEncoder(Encoder):
    """A wav2vec2-like encoder: waveform, seven convolutions, blocks of self-attention.

    A group norm after the first convolution normalises over time, so padding changes every frame. Such models batch
    only clips of equal length. The layer-norm variants mask exactly. SEW's blocks read every second frame.
    """

    def __init__(
        self, model: Any, blocks: Sequence[torch.nn.Module], preprocessor: Any, *, max_seconds: float = MAX_SECONDS
    ) -> None:
        config = model.config
        squeeze = int(getattr(config, "squeeze_factor", 1))
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=window_of(preprocessor, max_seconds),
            widths=[config.hidden_size] * (len(blocks) + 1),
            min_samples=receptive_field(config.conv_kernel, config.conv_stride, squeeze),
        )
        self._squeeze = squeeze
        self.do_normalize = bool(preprocessor.do_normalize)
        self.exact_masking = (
            config.model_type in _MASKS_EXACTLY
            and config.feat_extract_norm == "layer"
            # This batch norm makes the zeros of padding non-zero before a convolution.
            and not getattr(config, "conv_pos_batch_norm", False)
        )
        self.normalisation = "zero mean and unit variance per clip" if self.do_normalize else "none"
        if max_seconds != float("inf"):
            self.normalisation += f"; clips beyond {max_seconds:g} s in chunks of {max_seconds:g} s"

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As ``Encoder.encode_window``."""
        samples = waveforms.shape[1]
        valid = torch.arange(samples, device=waveforms.device) < lengths[:, None]
        if self.do_normalize:
            waveforms = standardise(waveforms, lengths, _VARIANCE_FLOOR)
        mask = valid.long() if self.exact_masking and bool((lengths < samples).any()) else None
        outputs = self.capture(input_values=waveforms, **({} if mask is None else {"attention_mask": mask}))
        return outputs, self._frames(lengths)

    def _frames(self, lengths: Tensor) -> Tensor:
        frames = lengths
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        return frames // self._squeeze
