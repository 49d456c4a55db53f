"""BioMamba: Mamba-2 blocks on the convolutions of wav2vec 2.0, from a directory or the hub, or as random control."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.backbones.huggingface.weights import find_model, load_strictly, quieten, read_config, warn_unpinned
from evaluator.backbones.support.waveforms import standardise
from tasks.support.errors import UserError

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
# transformers' Wav2Vec2FeatureExtractor adds it to the variance.
_VARIANCE_FLOOR = 1e-7


class BioMambaEncoder(torch.nn.Module):
    """A BioMamba model: waveform, seven convolutions, blocks of Mamba-2.

    Layer 0 is what enters the first block, layer i the output of block i after its residual. A forward block never
    looks ahead and a bidirectional one is told where a clip ends, so padding after the end changes no valid frame
    unless the first convolution's group norm sees it.
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
        """What changes the output beside the weights; which kernels run is known once the model is on its device.

        Raises:
            UserError: ``kernels = "mamba_ssm"`` cannot run there.
        """
        from evaluator.backbones.biomamba import mixers

        config = json.loads(self.model.config.to_json_string(use_diff=True))
        # Where the weights lay and which library wrote them do not change what they compute.
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
        """(batch, samples) to one (batch, frames, width) a layer, and (batch,) valid frames."""
        valid = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
        if self.do_normalize:
            waveforms = standardise(waveforms, lengths, _VARIANCE_FLOOR)
        output = self.model(waveforms, attention_mask=valid, output_hidden_states=True)
        return list(output.hidden_states), self.model.count_frames(lengths)


def load(
    *,
    model: str | None = None,
    revision: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    kernels: Literal["auto", "transformers", "mamba_ssm"] = "auto",
    do_normalize: bool | None = None,
    sample_rate: int | None = None,
    base: Path = Path(),
) -> BioMambaEncoder:
    """Load a BioMamba encoder.

    Args:
        model: a directory made with ``save_pretrained`` (relative to the submission file), or a hub id.
        revision: the hub commit to use; pin it, so that the same submission is the same model tomorrow.
        weights: "random" keeps the architecture and initialises it anew.
        seed: of the random weights.
        config: with random weights and no ``model``: settings over the defaults (12 blocks of 768).
        kernels: "mamba_ssm" needs a CUDA device and mamba-ssm; "transformers" runs anywhere; "auto" takes the first
            where it can. Weights are the same, outputs equal up to rounding.
        do_normalize: zero mean and unit variance for every clip; by default what the model's configuration says (false
            unless it was trained otherwise).
        sample_rate: Hz; by default what the model's configuration says (16000 unless it was trained otherwise).
        base: the directory of the submission file.

    Raises:
        UserError: the model cannot be found, is no BioMamba, or its weights do not fit it exactly; or mamba_ssm is
            asked for and missing.
    """
    from evaluator.backbones.biomamba.mixers import require_mamba_ssm
    from evaluator.backbones.biomamba.register import BioMambaModel

    if sample_rate is not None and sample_rate < 1:
        raise UserError(f"sample_rate = {sample_rate} is no rate: give Hz, 16000 for a model with the paper's rate.")
    if kernels == "mamba_ssm":
        require_mamba_ssm()
    if model is None:
        if weights != "random":
            raise UserError('give model (a directory or hub id), or weights = "random" for the control.')
        if revision is not None:
            raise UserError("revision is for a model of the hub; random weights without model have none.")
        settings = _configure(config or {})
    else:
        if config is not None:
            raise UserError("config goes with random weights without model; a checkpoint brings its own.")
        model, settings = _find(model, revision, base)
    encoder: Any
    if model is not None and weights == "pretrained":
        encoder = load_strictly(model, revision, False, "AutoModel", ())
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = BioMambaModel(settings)
    return BioMambaEncoder(
        encoder,
        sample_rate=settings.sampling_rate if sample_rate is None else sample_rate,
        do_normalize=settings.do_normalize if do_normalize is None else do_normalize,
        kernels=kernels,
    )


def _configure(keys: Mapping[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    from evaluator.backbones.biomamba.register import BioMambaConfig

    # transformers keeps a misspelt key as it is and changes nothing.
    unknown = sorted(set(keys) - set(BioMambaConfig.__annotations__))
    if unknown:
        known = ", ".join(BioMambaConfig.__annotations__)
        raise UserError(f"config has keys that BioMamba does not: {', '.join(unknown)}; it has {known}.")
    try:
        return BioMambaConfig(**keys)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise UserError(f"config does not make a BioMamba: {_last_line(error)}.") from error


def _find(model: str, revision: str | None, base: Path) -> tuple[str, Any]:
    """Where a checkpoint is, and its configuration."""
    from huggingface_hub.errors import StrictDataclassError

    source, local = find_model(model, revision, base)
    quieten(local=local)
    try:
        settings = read_config(source, revision, trust_remote_code=False, base=base)
    except StrictDataclassError as error:
        raise UserError(f"the configuration of model {source!r} does not make a model: {_last_line(error)}.") from error
    if settings.model_type != "biomamba":
        raise UserError(f"{source} is a {settings.model_type!r} model: this loader takes biomamba.")
    if not local:
        warn_unpinned(source, revision)
    return source, settings


def _last_line(error: Exception) -> str:
    """What is wrong, which huggingface_hub says below where it was found."""
    return str(error).strip().splitlines()[-1].strip().rstrip(".")
