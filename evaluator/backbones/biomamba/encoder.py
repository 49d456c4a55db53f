"""BioMamba as a backbone: Mamba-2 blocks on the convolutions of wav2vec 2.0."""

import importlib.metadata
import json
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.backbones.support.waveforms import standardise

# transformers' Wav2Vec2FeatureExtractor adds it to the variance.
_VARIANCE_FLOOR = 1e-7


class BioMambaEncoder(torch.nn.Module):
    """A BioMamba model: waveform, seven convolutions, blocks of Mamba-2.

    Layer 0 is the input of the first block. Layer i is the output of block i after its residual. A forward block never
    reads later frames, and a bidirectional one receives the length of the clip. Padding therefore changes no valid
    frame, unless the first convolution has a group norm, which reads it.
    """

    def __init__(self, model: Any, *, sample_rate: int, do_normalize: bool, kernels: Any) -> None:
        super().__init__()
        config = model.config
        model.choose_kernels(kernels)
        self.model = model
        self.kernels = kernels
        self.sample_rate = sample_rate
        self.do_normalize = do_normalize
        self.exact_masking = config.feat_extract_norm == "layer"
        self.normalisation = "zero mean and unit variance per clip" if do_normalize else "none"
        names = ["input of block 1", *(f"block {index}" for index in range(1, config.num_hidden_layers + 1))]
        self.layers = [Layer(name, config.hidden_size) for name in names]
        self.min_samples = model.min_samples

    @property
    def options(self) -> dict[str, object]:
        """Settings that change the output. The kernels are known only when the model is on its device.

        Raises:
            UserError: ``kernels = "mamba_ssm"`` cannot run there.
        """
        from evaluator.backbones.biomamba import mixers

        config = json.loads(self.model.config.to_json_string(use_diff=True))
        # The path of the weights and the library that wrote them do not change the output.
        for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
            config.pop(key, None)
        kernels = mixers.kernels_on(self.model.device, self.kernels)
        libraries = ["transformers"] if kernels == "transformers" else ["transformers", "mamba_ssm", "causal_conv1d"]
        return {
            "config": config,
            "do_normalize": self.do_normalize,
            "kernels": kernels,
            "versions": {name: importlib.metadata.version(name) for name in libraries},
        }

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one (batch, frames, width) per layer, and (batch,) valid frames."""
        valid = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
        if self.do_normalize:
            waveforms = standardise(waveforms, lengths, _VARIANCE_FLOOR)
        output = self.model(waveforms, attention_mask=valid, output_hidden_states=True)
        return list(output.hidden_states), self.model.count_frames(lengths)
