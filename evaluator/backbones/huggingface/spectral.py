"""Encoders of spectrograms: AST and Whisper, which encode fixed windows, Wav2Vec2-BERT, and CLAP's audio tower."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evaluator.backbones.huggingface.encoder import MAX_SECONDS, Encoder, spectra, window_of

# Kaldi's filter bank, which AST's and SeamlessM4T's feature extractors compute: 25 ms every 10 ms at 16 kHz.
_FBANK_WINDOW = 400
_FBANK_HOP = 160


class ASTEncoder(Encoder):
    """Audio spectrogram transformer: a window of 10.24 s, cut into patches of mel bands and time.

    The class and distillation tokens are dropped. The patches of one time are averaged over frequency, so that each
    frame is one time step. The feature extractor fills the window after the clip's end with zeros. A frame is valid if
    its patches are inside the clip. Valid frames see these zeros, as they did in training.
    """

    exact_masking = True

    def __init__(self, model: Any, blocks: Sequence[torch.nn.Module], preprocessor: Any) -> None:
        config = model.config
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=preprocessor.max_length * _FBANK_HOP,
            widths=[config.hidden_size] * (len(blocks) + 1),
            min_samples=_FBANK_WINDOW + (config.patch_size - 1) * _FBANK_HOP,
        )
        self.normalisation = (
            f"log-mel values scaled by {'training mean and deviation' if preprocessor.do_normalize else 'nothing'};"
            f" zeros after the clip up to windows of {self.window / self.sample_rate:g} s"
        )

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As ``Encoder.encode_window``."""
        inputs = torch.cat([clip["input_values"] for clip in spectra(self.preprocessor, waveforms, lengths)])
        config = self.model.config
        grid = self.model.embeddings.get_shape(config)
        tokens = [tensor[:, -grid[0] * grid[1] :] for tensor in self.capture(input_values=inputs.to(waveforms.device))]
        outputs = [patches.float().reshape(len(patches), *grid, -1).mean(1) for patches in tokens]
        mels = (lengths - _FBANK_WINDOW) // _FBANK_HOP + 1
        valid = ((mels - config.patch_size) // config.time_stride + 1).clamp(max=grid[1])
        return outputs, valid


class WhisperEncoder(Encoder):
    """Whisper's encoder: a window of 30 s, filled with silence after the clip. Valid frames start in the clip."""

    exact_masking = True

    def __init__(self, model: Any, blocks: Sequence[torch.nn.Module], preprocessor: Any) -> None:
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=preprocessor.n_samples,
            widths=[model.config.d_model] * (len(blocks) + 1),
            min_samples=1,
        )
        self.normalisation = (
            "log-mel values within 80 dB of the window's loudest;"
            f" silence after the clip up to windows of {self.window / self.sample_rate:g} s"
        )

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As ``Encoder.encode_window``."""
        inputs = torch.cat([clip["input_features"] for clip in spectra(self.preprocessor, waveforms, lengths)])
        outputs = self.capture(input_features=inputs.to(waveforms.device))
        # The second convolution has a stride of two.
        hop = 2 * self.preprocessor.hop_length
        return outputs, (lengths + hop - 1) // hop


class Wav2Vec2BertEncoder(Encoder):
    """Wav2Vec2-BERT: two frames of 80 mel bands make one; masks and causal convolutions keep padding out."""

    exact_masking = True

    def __init__(
        self, model: Any, blocks: Sequence[torch.nn.Module], preprocessor: Any, *, max_seconds: float = MAX_SECONDS
    ) -> None:
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=window_of(preprocessor, max_seconds),
            widths=[model.config.hidden_size] * (len(blocks) + 1),
            min_samples=_FBANK_WINDOW + (preprocessor.stride - 1) * _FBANK_HOP,
        )
        self.normalisation = "zero mean and unit variance per mel band and clip"
        if max_seconds != float("inf"):
            self.normalisation += f"; clips beyond {max_seconds:g} s in chunks of {max_seconds:g} s"

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As ``Encoder.encode_window``."""
        # The extractor masks a last frame that is partly padding.
        clips = [
            clip["input_features"][0, clip["attention_mask"][0].bool()]
            for clip in spectra(self.preprocessor, waveforms, lengths)
        ]
        valid = torch.tensor([len(clip) for clip in clips], device=lengths.device)
        inputs = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).to(waveforms.device)
        mask = (torch.arange(inputs.shape[1], device=valid.device) < valid[:, None]).long()
        outputs = self.capture(input_features=inputs, attention_mask=mask)
        return outputs, valid


class ClapEncoder(Encoder):
    """CLAP's audio tower: a window of 10 s as an image, whose blocks (of a Swin transformer) differ in width and hop.

    The image contains the window's four quarters below one another. Each has mel bands as rows and time as columns.
    The patches of one time are averaged over frequency, so that each frame is one time step. The feature extractor
    repeats a short clip until the window is full. A frame is valid if it starts in the first copy.
    """

    exact_masking = True

    def __init__(self, model: Any, blocks: Sequence[torch.nn.Module], preprocessor: Any) -> None:
        encoder = model.audio_encoder
        widths = [stage.dim for stage in encoder.layers for _ in stage.blocks]
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=preprocessor.nb_max_samples,
            widths=[widths[0], *widths],
            min_samples=1,
        )
        grids = [
            grid for stage, grid in zip(encoder.layers, encoder.input_resolutions, strict=True) for _ in stage.blocks
        ]
        self._grids = [grids[0], *grids]
        self._quarters = encoder.freq_ratio
        filling = {"repeatpad": "whole repetitions of the clip, then zeros,", "repeat": "repetitions of the clip"}
        self.normalisation = (
            f"log-mel values scaled by the model's batch norm; {filling.get(preprocessor.padding, 'zeros')}"
            f" after the clip up to windows of {preprocessor.max_length_s:g} s"
        )

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As ``Encoder.encode_window``."""
        inputs = torch.cat([clip["input_features"] for clip in spectra(self.preprocessor, waveforms, lengths)])
        # No clip is longer than the window here. The preprocessor marks one short clip of a batch as longer at random.
        longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=waveforms.device)
        outputs, counts = [], []
        captured = self.capture(input_features=inputs.to(waveforms.device), is_longer=longer)
        for patches, (rows, columns) in zip(captured, self._grids, strict=True):
            quarters = patches.float().reshape(len(patches), self._quarters, rows // self._quarters, columns, -1)
            outputs.append(quarters.mean(2).flatten(1, 2))
            counts.append((lengths * outputs[-1].shape[1] + self.window - 1) // self.window)
        return outputs, counts
