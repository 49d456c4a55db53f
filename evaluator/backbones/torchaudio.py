"""AVES, BirdAVES and wav2vec 2.0 in torchaudio's own format: a JSON of the architecture and a state dict."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.backbones.support.checkpoints import (
    entering,
    is_address,
    load_exactly,
    locate,
    read_tensors,
    untrained,
    warn_unpinned,
)
from evaluator.backbones.support.waveforms import receptive_field, standardise
from tasks.support.errors import UserError

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
# Of the pretraining task, which is made only for the start values of its encoder and then dropped.
_TASK = {
    **dict.fromkeys(("mask_prob", "mask_other", "mask_channel_prob", "mask_channel_other"), 0.0),
    **dict.fromkeys(("mask_selection", "mask_channel_selection"), "static"),
    **dict.fromkeys(("mask_length", "mask_channel_length"), 10),
    **dict.fromkeys(("no_mask_overlap", "no_mask_channel_overlap", "skip_masked", "skip_nomask"), False),
    **dict.fromkeys(("mask_min_space", "mask_channel_min_space"), 1),
    "num_classes": 1,
    "final_dim": 1,
    "feature_grad_mult": None,
}
# What torchaudio's own bundles add to the variance when they normalise.
_VARIANCE_FLOOR = 1e-5


class Wav2Vec2Encoder(torch.nn.Module):
    """torchaudio's ``Wav2Vec2Model``: waveform, convolutions, blocks of self-attention.

    Layer 0 is what enters the first block, layer i the output of block i: after its final layer norm where the norm
    follows the residual (AVES, BirdAVES), before the encoder's last layer norm where it precedes the block. With
    ``extractor_mode`` "group_norm" (AVES, BirdAVES) the first convolution is normalised over time, so padding changes
    every frame: clips are only batched with clips of equal length. "layer_norm" masks exactly.
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
        """(batch, samples) to one (batch, frames, width) a layer, and (batch,) valid frames."""
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


def load(
    *,
    config: str | dict[str, Any],
    checkpoint: str | None = None,
    sha256: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    sample_rate: int = 16_000,
    do_normalize: bool = False,
    base: Path = Path(),
) -> Wav2Vec2Encoder:
    """Load an encoder of ``torchaudio.models.wav2vec2_model``.

    Args:
        config: the arguments of ``wav2vec2_model`` but ``aux_num_out``: a JSON file as Earth Species publishes it
            beside its weights (a path relative to the submission file, or an https:// address), or a table.
        checkpoint: the state dict, a path or an address likewise. Addresses are downloaded once, into torch.hub's
            directory.
        sha256: of the checkpoint; another file is refused.
        weights: "random" keeps the architecture and starts it as HuBERT's pretraining does.
        seed: of the random weights.
        sample_rate: Hz.
        do_normalize: bring each clip to zero mean and unit variance, as wav2vec 2.0 large was pretrained. AVES and
            BirdAVES were not.
        base: the directory of the submission file.

    Raises:
        UserError: a file cannot be had, the config is no such model, or the weights do not fit it exactly.
    """
    from torchaudio.models import hubert_pretrain_model, wav2vec2_model

    if weights == "random" and (checkpoint is not None or sha256 is not None):
        raise UserError('weights = "random" goes without checkpoint and sha256.')
    if weights == "pretrained" and checkpoint is None:
        raise UserError('checkpoint is missing: give the state dict, or weights = "random".')
    settings, origin = _read_config(config, base)
    keys = {name for name in inspect.signature(wav2vec2_model).parameters if name != "aux_num_out"}
    for what, names in (("lacks", keys - set(settings)), ("has the unknown keys", set(settings) - keys)):
        if names:
            raise UserError(f"config {origin} {what} {', '.join(sorted(names))}: see torchaudio's wav2vec2_model.")
    try:
        if weights == "random":
            model = untrained(lambda: hubert_pretrain_model(**settings, **_TASK).wav2vec2, seed)
        else:
            model = wav2vec2_model(**settings, aux_num_out=None)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"config {origin} does not make a wav2vec 2.0 model: {' '.join(str(error).split())}") from error
    if checkpoint is not None:
        path = locate(checkpoint, base, key="checkpoint", sha256=sha256)
        warn_unpinned(checkpoint, path, sha256)
        load_exactly(model, read_tensors(path), path=path)
    return Wav2Vec2Encoder(model, settings, sample_rate=sample_rate, do_normalize=do_normalize)


def _read_config(config: str | dict[str, Any], base: Path) -> tuple[dict[str, Any], str]:
    """The arguments, and where they come from."""
    if isinstance(config, dict):
        return config, "in the submission"
    path = locate(config, base, key="config")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not valid JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise UserError(f"config {path} is not a JSON object of wav2vec2_model's arguments.")
    return settings, config if is_address(config) else str(path)
