"""The configuration of a BioMamba model."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import Mamba2Config, PreTrainedConfig

# mamba_ssm hard-codes this value in its gated norm. With another value the two implementations would differ.
MIXER_NORM_EPS = 1e-5

_COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "state_size",
    "head_dim",
    "expand",
    "n_groups",
    "mixer_conv_kernel",
    "num_clusters",
    "mask_time_length",
    "sampling_rate",
)


@strict
class BioMambaConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Settings of a BioMamba model; the defaults have the size of AVES (12 blocks of 768).

    The paper gives neither depth nor width nor the settings of its Mamba-2 layers. Those here are mamba_ssm's defaults,
    and AVES's for the convolutions and the masking.

    Attributes:
        hidden_size: channels between blocks.
        num_hidden_layers: blocks.
        state_size: values of state per channel (``d_state`` in mamba_ssm).
        head_dim: channels that share one decay (``headdim``).
        expand: channels inside a mixer, as a multiple of ``hidden_size``.
        n_groups: groups of heads that share B and C (``ngroups``).
        mixer_conv_kernel: frames that the convolution inside a mixer reads (``d_conv``).
        direction: "forward" is causal; "bidirectional" adds to every block a second mixer that reads the clip's valid
            frames from the last to the first, and sums the two.
        layer_norm_eps: epsilon of every norm except the mixers' own.
        initializer_range: standard deviation of the linear layers outside the mixers before training.
        conv_dim, conv_kernel, conv_stride, conv_bias: of the convolutions of wav2vec 2.0; the strides give 320 samples
            per frame.
        feat_extract_norm: "group" normalises the first convolution over time, as wav2vec 2.0 base, HuBERT base and AVES
            do; "layer" normalises each frame after each convolution, as the large models do.
        feat_extract_activation: activation after each convolution.
        feat_proj_dropout: dropout in training, after the projection to ``hidden_size``.
        freeze_feature_encoder: the convolutions are not trained.
        num_clusters: number of pseudo-labels that the pretraining head predicts.
        mask_time_prob, mask_time_length, mask_time_min_masks: spans masked in pretraining, as for wav2vec 2.0.
        sampling_rate: Hz of the model's input.
        do_normalize: the model takes clips of zero mean and unit variance.
    """

    model_type = "biomamba"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    state_size: int = 128
    head_dim: int = 64
    expand: int = 2
    n_groups: int = 1
    mixer_conv_kernel: int = 4
    direction: Literal["forward", "bidirectional"] = "forward"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: str = "gelu"
    feat_proj_dropout: float | int = 0.0
    freeze_feature_encoder: bool = True
    num_clusters: int = 200
    mask_time_prob: float | int = 0.8
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    sampling_rate: int = 16_000
    do_normalize: bool = False

    def validate_architecture(self) -> None:
        """Refuse sizes that contradict each other. transformers calls it for every new configuration.

        Raises:
            ValueError: with the settings that contradict each other.
        """
        wrong = [name for name in _COUNTS if getattr(self, name) < 1]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be at least 1")
        if self.expand * self.hidden_size % self.head_dim or self.num_heads % self.n_groups:
            raise ValueError(
                f"expand x hidden_size ({self.expand * self.hidden_size}) must be heads of head_dim ({self.head_dim})"
                f" in n_groups ({self.n_groups}) groups of equal size"
            )
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise ValueError("conv_dim, conv_kernel and conv_stride must have one entry for each convolution")

    @property
    def num_heads(self) -> int:
        """Heads of a mixer."""
        return self.expand * self.hidden_size // self.head_dim

    @property
    def num_feat_extract_layers(self) -> int:
        """Number of convolutions, under the name that transformers' feature encoder reads."""
        return len(self.conv_dim)

    @property
    def mixer_config(self) -> Mamba2Config:
        """The same mixer as a configuration of transformers' Mamba-2."""
        return Mamba2Config(
            hidden_size=self.hidden_size,
            num_hidden_layers=1,
            state_size=self.state_size,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            expand=self.expand,
            n_groups=self.n_groups,
            conv_kernel=self.mixer_conv_kernel,
            layer_norm_epsilon=MIXER_NORM_EPS,
        )
