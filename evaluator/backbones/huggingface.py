"""wav2vec 2.0, HuBERT and WavLM through transformers: pretrained from a directory or the hub, or as random control."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from evaluator.backbones import Layer
from tasks.errors import UserError

ARCHITECTURES = ("hubert", "wav2vec2", "wavlm")

# Tensors of the pretraining task that the encoder neither has nor needs.
_PRETRAINING_HEAD = ("quantizer.", "project_q.", "project_hid.", "lm_head.", "classifier.", "projector.", "label_embs")
# Only used to mask the input while training, so some checkpoints leave it out.
_UNUSED_IN_EVALUATION = ("masked_spec_embed",)
# transformers' Wav2Vec2FeatureExtractor adds it to the variance.
_VARIANCE_FLOOR = 1e-7


class SpeechEncoder(torch.nn.Module):
    """A wav2vec2-like encoder: waveform, seven convolutions, blocks of self-attention.

    Layer 0 is what enters the first block, layer i the output of block i after its residual. Models whose first
    convolution is followed by a group norm normalise over time, so padding changes every frame: their clips are only
    batched with clips of equal length. The layer-norm variants mask exactly.
    """

    def __init__(self, model: Any, *, sample_rate: int, do_normalize: bool) -> None:
        import transformers

        super().__init__()
        config = model.config
        self.model = model
        self.sample_rate = sample_rate
        self.do_normalize = do_normalize
        self.exact_masking = config.feat_extract_norm == "layer"
        self.normalisation = "zero mean and unit variance per clip" if do_normalize else "none"
        names = ["input of block 1", *(f"block {index}" for index in range(1, config.num_hidden_layers + 1))]
        self.layers = [Layer(name, config.hidden_size) for name in names]
        self.min_samples = _receptive_field(config.conv_kernel, config.conv_stride)
        self.options = {
            "architecture": config.model_type,
            "config": json.loads(config.to_json_string(use_diff=True)),
            "do_normalize": do_normalize,
            "attention": config._attn_implementation,
            "transformers": transformers.__version__,
        }
        # Where the weights lay and which library wrote them do not change what they compute.
        for key in ("_name_or_path", "transformers_version", "architectures", "dtype"):
            self.options["config"].pop(key, None)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one (batch, frames, width) a layer, and (batch,) valid frames."""
        samples = waveforms.shape[1]
        valid = torch.arange(samples, device=waveforms.device) < lengths[:, None]
        if self.do_normalize:
            waveforms = _standardise(waveforms, valid, lengths)
        mask = valid.long() if self.exact_masking and bool((lengths < samples).any()) else None
        output = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        frames = self.model._get_feat_extract_output_lengths(lengths)
        return list(output.hidden_states), frames


def load(
    *,
    model: str | None = None,
    revision: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    architecture: str | None = None,
    config: Mapping[str, Any] | None = None,
    do_normalize: bool | None = None,
    sample_rate: int | None = None,
    base: Path = Path(),
) -> SpeechEncoder:
    """Load a wav2vec2, HuBERT or WavLM encoder.

    Args:
        model: a directory made with ``save_pretrained`` (relative to the submission file), or a hub id.
        revision: the hub commit to use; pin it, so that the same submission is the same model tomorrow.
        weights: "random" keeps the architecture and initialises it anew.
        seed: of the random weights.
        architecture: with random weights and no ``model``: hubert, wav2vec2 or wavlm.
        config: settings over the architecture's defaults, with ``architecture`` only.
        do_normalize: overrides the checkpoint's own preprocessor; needed where it has none.
        sample_rate: Hz, likewise.
        base: the directory of the submission file.

    Raises:
        UserError: the model cannot be found, is no such encoder, or its weights do not fit it exactly.
    """
    from transformers import AutoConfig, AutoModel

    if (model is None) == (architecture is None):
        raise UserError("give either model (a directory or hub id) or, for random weights, architecture.")
    if architecture is not None:
        if architecture not in ARCHITECTURES:
            raise UserError(f"architecture {architecture!r} is unknown: choose from {', '.join(ARCHITECTURES)}.")
        if weights != "random":
            raise UserError('architecture needs weights = "random"; for pretrained weights give model.')
        # transformers keeps a misspelt key as it is and changes nothing.
        unknown = sorted(set(config or {}) - set(AutoConfig.for_model(architecture).to_dict()))
        if unknown:
            raise UserError(f"config has keys that {architecture} does not: {', '.join(unknown)}.")
        settings = AutoConfig.for_model(architecture, **(config or {}))
        normalise, rate = True, 16_000
        source = architecture
    else:
        assert model is not None
        if config is not None:
            raise UserError("config goes with architecture; a checkpoint brings its own.")
        source = str(base / model) if (base / model).is_dir() else model
        settings, normalise, rate = _read_checkpoint(source, revision, do_normalize, sample_rate)
    _quieten(local=Path(source).is_dir())
    if settings.model_type not in ARCHITECTURES:
        raise UserError(
            f"{source} is a {settings.model_type!r} model: this loader takes {', '.join(ARCHITECTURES)} so far."
        )
    if weights == "random":
        torch.manual_seed(seed)
        try:
            encoder: Any = AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
        except (TypeError, ValueError) as error:
            raise UserError(f"config does not make a {settings.model_type}: {_first_line(error)}") from error
    else:
        encoder = _load_strictly(source, revision)
    return SpeechEncoder(
        encoder,
        sample_rate=rate if sample_rate is None else sample_rate,
        do_normalize=normalise if do_normalize is None else do_normalize,
    )


def _read_checkpoint(
    source: str, revision: str | None, do_normalize: bool | None, sample_rate: int | None
) -> tuple[Any, bool, int]:
    from transformers import AutoConfig, AutoFeatureExtractor

    try:
        settings = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model {source!r} is neither a directory made with save_pretrained nor a model the hub gives us"
            f" ({_first_line(error)}): check the spelling, the revision and the network."
        ) from error
    try:
        preprocessor: Any = AutoFeatureExtractor.from_pretrained(source, revision=revision)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        if do_normalize is None or sample_rate is None:
            # Guessing would silently feed the model at the wrong scale or rate.
            raise UserError(
                f"model {source!r} has no preprocessor_config.json:"
                " say do_normalize = true or false and sample_rate = ... in the submission."
            ) from error
        return settings, do_normalize, sample_rate
    return settings, bool(preprocessor.do_normalize), int(preprocessor.sampling_rate)


def _load_strictly(source: str, revision: str | None) -> Any:
    from transformers import AutoModel

    try:
        encoder, report = AutoModel.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below by name, which the error it raises instead does not do
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"weights of model {source!r} cannot be loaded: {_first_line(error)}") from error
    missing = [name for name in report["missing_keys"] if not name.endswith(_UNUSED_IN_EVALUATION)]
    unexpected = [name for name in report["unexpected_keys"] if not name.startswith(_PRETRAINING_HEAD)]
    wrong = [str(entry[0]) for entry in report["mismatched_keys"]]
    for what, names in (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong)):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")
            raise UserError(f"weights of model {source!r} do not fit: {len(names)} {what} ({listed}).")
    return encoder


def _quieten(local: bool) -> None:
    """Keep transformers' own reports off the terminal; what matters in them is said in our words."""
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if local:
        # A download keeps its progress bar.
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Of WavLM's own code, about a mask that it makes itself.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")


def _standardise(waveforms: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each clip's valid samples, zeros elsewhere, as Wav2Vec2FeatureExtractor."""
    count = lengths[:, None].to(waveforms.dtype)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + _VARIANCE_FLOOR)


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
