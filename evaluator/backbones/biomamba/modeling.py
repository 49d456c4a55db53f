"""The model: convolutions of wav2vec 2.0, a projection, blocks of Mamba-2; and its pretraining by masked prediction."""

import math
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2FeatureEncoder,
    Wav2Vec2FeatureProjection,
    _compute_mask_indices,
)

from evaluator.backbones.biomamba.configuration import BioMambaConfig
from evaluator.backbones.biomamba.mixers import Kernels, Mixer
from tasks.support.errors import UserError

# Settings that must be equal before the convolutions of another model can be loaded.
_CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation")


class BioMambaBlock(torch.nn.Module):
    """Norm, mixer, residual. A bidirectional model has a second mixer for the other direction."""

    def __init__(self, config: BioMambaConfig) -> None:
        super().__init__()
        self.norm = torch.nn.RMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mixer = Mixer(config)
        self.mixer_backward = Mixer(config) if config.direction == "bidirectional" else None

    def forward(self, hidden: Tensor, reversal: Tensor) -> Tensor:
        """(batch, frames, hidden_size) to the same; ``reversal`` (batch, frames, 1) is the second mixer's order."""
        normed = self.norm(hidden.to(self.norm.weight.dtype))
        mixed: Tensor = self.mixer(normed)
        if self.mixer_backward is not None:
            # The second reversal restores the order of the frames.
            backward = self.mixer_backward(torch.take_along_dim(normed, reversal, 1))
            mixed = mixed + torch.take_along_dim(backward, reversal, 1)
        return hidden + mixed


class BioMambaPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Base class of the models: configuration and initial weights."""

    config: BioMambaConfig
    config_class = BioMambaConfig
    base_model_prefix = "biomamba"
    main_input_name = "input_values"

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, Mixer):
            module.initialise(self.config.num_hidden_layers)
        elif isinstance(module, torch.nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, Wav2Vec2FeatureProjection):
            bound = math.sqrt(1 / module.projection.in_features)
            init.uniform_(module.projection.weight, -bound, bound)
            init.uniform_(module.projection.bias, -bound, bound)
        elif isinstance(module, BioMambaModel):
            init.uniform_(module.masked_spec_embed)


class BioMambaModel(BioMambaPreTrainedModel):  # type: ignore[no-untyped-call]
    """The encoder.

    Hidden state 0 is the input of the first block. Hidden state i is the output of block i after its residual.
    ``last_hidden_state`` is the output of the last block after a final norm.
    """

    def __init__(self, config: BioMambaConfig) -> None:
        super().__init__(config)
        self.feature_extractor = Wav2Vec2FeatureEncoder(config)  # type: ignore[no-untyped-call]
        self.feature_projection = Wav2Vec2FeatureProjection(config)  # type: ignore[no-untyped-call]
        self.masked_spec_embed = torch.nn.Parameter(torch.empty(config.hidden_size))
        self.layers = torch.nn.ModuleList(BioMambaBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = torch.nn.RMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()  # type: ignore[no-untyped-call]

    def choose_kernels(self, kernels: Kernels) -> None:
        """Set the implementation that the mixers run: "auto", "transformers" or "mamba_ssm"."""
        for module in self.modules():
            if isinstance(module, Mixer):
                module.kernels = kernels

    @property
    def min_samples(self) -> int:
        """The smallest number of samples that gives one frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.config.conv_kernel), reversed(self.config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def count_frames(self, samples: Tensor) -> Tensor:
        """Number of frames per clip for (batch,) numbers of samples."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples

    def load_feature_encoder(self, source: str | Path, revision: str | None = None) -> None:
        """Load the convolutions of a wav2vec 2.0, HuBERT or WavLM checkpoint.

        Args:
            source: a directory made with ``save_pretrained``, or a hub id.
            revision: the hub commit.

        Raises:
            UserError: the checkpoint cannot be read, or its convolutions are not of the same shape.
        """
        try:
            other, report = AutoModel.from_pretrained(source, revision=revision, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise UserError(f"model {str(source)!r} cannot be read: {' '.join(str(error).split())}") from error
        own, loaded = self.config.to_dict(), other.config.to_dict()
        different = [key for key in _CONVOLUTIONS if _plain(loaded.get(key)) != _plain(own[key])]
        if different:
            raise UserError(
                f"the convolutions of model {str(source)!r} are not this model's: {', '.join(different)} differ."
            )
        missing = [name for name in report["missing_keys"] if name.startswith("feature_extractor.")]
        if missing:
            raise UserError(f"model {str(source)!r} lacks weights of its convolutions: {', '.join(sorted(missing))}.")
        self.feature_extractor.load_state_dict(other.feature_extractor.state_dict())

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Encode waveforms.

        Args:
            input_values: (batch, samples) float32 at ``config.sampling_rate``, zeros after each clip's end.
            attention_mask: (batch, samples), 1 for samples, 0 for padding; by default all clips have full length.
            mask_time_indices: (batch, frames) bool, frames whose content is hidden.
            output_hidden_states: also return all hidden states.
        """
        # from_pretrained makes every parameter trainable again, so requires_grad cannot freeze them.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_feature_encoder):
            features = self.feature_extractor(input_values).mT
        hidden, _ = self.feature_projection(features)
        if mask_time_indices is not None:
            hidden = torch.where(mask_time_indices[..., None], self.masked_spec_embed.to(hidden.dtype), hidden)
        # float32 under autocast too, because the residual sums all blocks.
        hidden = hidden.float()
        reversal = self._reversal(hidden, attention_mask)
        states = [hidden]
        for block in self.layers:
            hidden = block(hidden, reversal)
            states.append(hidden)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        last = self.norm(hidden.to(self.norm.weight.dtype))
        return BaseModelOutput(last_hidden_state=last, hidden_states=tuple(states) if wanted else None)

    def _reversal(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(batch, frames, 1) indices that reverse each clip's valid frames and keep padding at the end."""
        position = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
        valid = self._valid_frames(hidden, attention_mask)[:, None]
        return torch.where(position < valid, valid - 1 - position, position)[..., None]

    def _valid_frames(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is None:
            return torch.full(hidden.shape[:1], hidden.shape[1], device=hidden.device)
        return self.count_frames(attention_mask.long().sum(1))


class BioMambaForPreTraining(BioMambaPreTrainedModel):  # type: ignore[no-untyped-call]
    """The encoder with a linear head that predicts the cluster of each masked frame, as for HuBERT and AVES."""

    def __init__(self, config: BioMambaConfig) -> None:
        super().__init__(config)
        self.biomamba = BioMambaModel(config)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_clusters)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_values: Tensor,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Predict the clusters of masked frames.

        Args:
            input_values: (batch, samples) float32, zeros after each clip's end.
            labels: (batch, frames) cluster of each frame, -100 for no label; frames are ``count_frames`` of the
                longest clip.
            attention_mask: (batch, samples), 1 for the samples of a clip, 0 for padding.
            mask_time_indices: (batch, frames) bool, the frames to hide; drawn from numpy's generator if not given.
            output_hidden_states: also return the encoder's hidden states.

        Returns:
            The mean cross-entropy over masked frames (None without labels), and (batch, frames, clusters) logits.

        Raises:
            ValueError: labels of another shape.
        """
        shape = (len(input_values), int(self.biomamba.count_frames(torch.tensor(input_values.shape[1]))))
        if labels is not None and tuple(labels.shape) != shape:
            raise ValueError(f"labels are of shape {tuple(labels.shape)}; these clips have {shape} (batch, frames)")
        if mask_time_indices is None:
            mask_time_indices = self._draw_mask(shape, attention_mask).to(input_values.device)
        output = self.biomamba(input_values, attention_mask, mask_time_indices, output_hidden_states)
        logits = self.classifier(output.last_hidden_state)
        loss = None
        if labels is not None:
            # cross_entropy skips unlabelled frames.
            loss = torch.nn.functional.cross_entropy(logits[mask_time_indices].float(), labels[mask_time_indices])
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)

    def _draw_mask(self, shape: tuple[int, int], attention_mask: Tensor | None) -> Tensor:
        valid = None
        if attention_mask is not None:
            frames = self.biomamba.count_frames(attention_mask.long().sum(1))
            valid = (torch.arange(shape[1], device=frames.device) < frames[:, None]).long()
        config = self.config
        spans = _compute_mask_indices(
            shape,
            config.mask_time_prob,
            config.mask_time_length,
            valid,  # type: ignore[arg-type]
            config.mask_time_min_masks,
        )
        return torch.from_numpy(spans)


def _plain(value: object) -> object:
    """Convert a tuple to a list: a saved configuration has lists where a new one has tuples."""
    return list(value) if isinstance(value, tuple) else value
