"""XEUS: encoders from ESPnet's self-supervised task, loaded from a config.yaml and a state dict."""

import contextlib
import io
import logging
import warnings
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluator.backbones import Loader, Package
from evaluator.backbones.support.keys import Seed
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbones.espnet.encoder import XeusEncoder

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
# Tensors of the pretraining task: its head, the embedding of masked frames, and the number of steps.
_PRETRAINING = ("losses.", "util_modules.", "global_step")
_INSTALL = "make xeus"
# The keys of a config that decide what the encoder computes.
_NEEDED = ("frontend", "frontend_conf", "normalize", "preencoder", "encoder", "encoder_conf")
_OPTIONAL: dict[str, Any] = {"normalize_conf": {}, "preencoder_conf": {}, "input_size": None, "init": None}


def load(
    *,
    config: str,
    checkpoint: str | None = None,
    sha256: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: Seed = 0,
    base: Path = Path(),
) -> "XeusEncoder":
    """Load an encoder of ESPnet's self-supervised task.

    Args:
        config: the config.yaml that ESPnet wrote beside the weights: a path relative to the submission file, or an
            https:// address. Addresses are downloaded once, into torch.hub's directory.
        checkpoint: the state dict (.pth), a path or an address likewise.
        sha256: checksum of the checkpoint; another file is refused.
        weights: "random" keeps the architecture and initialises its weights at random.
        seed: of the random weights.
        base: the directory of the submission file.

    Raises:
        UserError: ESPnet is not installed, a file cannot be read or downloaded, the config describes another kind of
            encoder, or the weights do not fit it exactly.
    """
    from evaluator.backbones.espnet.encoder import XeusEncoder
    from evaluator.backbones.support.checkpoints import load_exactly, locate, read_tensors, untrained, warn_unpinned

    if weights == "random" and (checkpoint is not None or sha256 is not None):
        raise UserError('weights = "random" goes without checkpoint and sha256.')
    if weights == "pretrained" and checkpoint is None:
        raise UserError('checkpoint is missing: give the state dict, or weights = "random".')
    with _quietly():
        task = _import_task()
    path = locate(config, base, key="config")
    settings = _read_config(path)
    # The head and the text input are not built: neither changes what the encoder computes.
    arguments = Namespace(**settings, specaug=None, token_list=[], loss=[], util=[], model="espnet", model_conf={})
    try:
        with _quietly():
            model = untrained(lambda: task.build_model(arguments), seed)
    except Exception as error:
        # A config that does not fit can raise anything: ESPnet checks types, asserts, and indexes.
        text = " ".join(str(error).split())
        raise UserError(f"config {path} does not make a model: {type(error).__name__}: {text}") from error
    del model.global_step
    if checkpoint is not None:
        file = locate(checkpoint, base, key="checkpoint", sha256=sha256)
        warn_unpinned(checkpoint, file, sha256)
        # ESPnet can train with DeepSpeed, which stores the state dict under the key "module".
        load_exactly(model, read_tensors(file, within="module"), path=file, left_over=_PRETRAINING)
    return XeusEncoder(model, settings)


def _import_task() -> Any:
    """ESPnet's ``SSLTask``."""
    try:
        # ESPnet imports g2p_en, a package for text, which downloads dictionaries at import.
        nltk: Any = import_module("nltk")
        download, nltk.download = nltk.download, lambda *arguments, **options: False
        try:
            return import_module("espnet2.tasks.ssl").SSLTask
        finally:
            nltk.download = download
    except ImportError as error:
        raise UserError(f'loader = "espnet" needs ESPnet, but {error}: run `{_INSTALL}`.') from error


def _read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a config.yaml that the encoder is built from."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    missing = [key for key in _NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"config {path} lacks {', '.join(missing)}: give the config.yaml that ESPnet wrote.")
    if content["frontend"] != "wav2vec_cnn" or content["encoder"] != "e_branchformer":
        raise UserError(
            f"config {path} has the frontend {content['frontend']!r} and the encoder {content['encoder']!r}: this"
            " loader takes 'wav2vec_cnn' and 'e_branchformer', as XEUS has them."
        )
    settings = {**_OPTIONAL, **{key: content[key] for key in (*_NEEDED, *_OPTIONAL) if key in content}}
    if not all(isinstance(settings[key], dict) for key in settings if key.endswith("_conf")):
        raise UserError(f"config {path}: frontend_conf, encoder_conf, normalize_conf and preencoder_conf are tables.")
    if str(settings["encoder_conf"].get("input_layer", "conv2d")).startswith("conv"):
        raise UserError(f"config {path}: an input_layer that joins frames is not supported; XEUS has none.")
    return settings


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hide ESPnet's output, logs and warnings, and restore the logging settings afterwards."""
    root = logging.getLogger()
    # Without a handler, logging.warning() would add one for the whole process.
    silent = logging.NullHandler()
    root.addHandler(silent)
    disabled = root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(silent)


LOADER = Loader(
    name="espnet",
    help="XEUS",
    version=VERSION,
    load=load,
    template="""
config = "config.yaml"  # file or https address of the config.yaml that ESPnet wrote beside the weights
checkpoint = "checkpoint.pth"  # file or https address of the weights
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # pins the weights
weights = "random"  # the architecture before any training, without checkpoint
seed = 0  # of the random weights
""",
    pretrained=("checkpoint",),
    files=("config", "checkpoint"),
    packages=(Package("espnet", "XEUS (the loader espnet)", f"`{_INSTALL}`"),),
)
