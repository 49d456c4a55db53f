"""AVES, BirdAVES and wav2vec 2.0 in torchaudio's own format: a JSON of the architecture and a state dict."""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Hertz, Seed
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbones.torchaudio.encoder import Wav2Vec2Encoder

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
# Settings of the pretraining model. It is built only to initialise its encoder, and then dropped.
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


def load(
    *,
    config: str | dict[str, Any],
    checkpoint: str | None = None,
    sha256: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: Seed = 0,
    sample_rate: Hertz = 16_000,
    do_normalize: bool = False,
    base: Path = Path(),
) -> "Wav2Vec2Encoder":
    """Load an encoder of ``torchaudio.models.wav2vec2_model``.

    Args:
        config: the arguments of ``wav2vec2_model`` without ``aux_num_out``: a JSON file as Earth Species publishes it
            beside its weights (a path relative to the submission file, or an https:// address), or a table.
        checkpoint: the state dict, a path or an address likewise. Addresses are downloaded once, into torch.hub's
            directory.
        sha256: checksum of the checkpoint; another file is refused.
        weights: "random" keeps the architecture and initialises it as HuBERT's pretraining does.
        seed: of the random weights.
        sample_rate: Hz.
        do_normalize: scale each clip to zero mean and unit variance, as wav2vec 2.0 large was pretrained. AVES and
            BirdAVES were not.
        base: the directory of the submission file.

    Raises:
        UserError: a file cannot be read or downloaded, the config does not fit, or the weights do not fit it exactly.
    """
    from torchaudio.models import hubert_pretrain_model, wav2vec2_model

    from evaluator.backbones.support.checkpoints import load_exactly, locate, read_tensors, untrained, warn_unpinned
    from evaluator.backbones.torchaudio.encoder import Wav2Vec2Encoder

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
    """Read the arguments of the model and their origin, for messages."""
    from evaluator.backbones.support.checkpoints import is_address, locate

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


LOADER = Loader(
    name="torchaudio",
    help="AVES, BirdAVES, wav2vec 2.0 in torchaudio's format",
    version=VERSION,
    load=load,
    template="""
config = "model_config.json"  # file or https address of the model's configuration, or a table
checkpoint = "model.pt"  # file or https address of the weights
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # pins the weights
weights = "random"  # the architecture before any training, without checkpoint
seed = 0  # of the random weights
sample_rate = 16000  # Hz
do_normalize = true  # each clip to zero mean and unit variance, if the model was pretrained so
""",
    pretrained=("checkpoint",),
    files=("config", "checkpoint"),
)
