"""Reading a checkpoint: its settings, its feature extractor, and its weights, which must fit exactly."""

import hashlib
import pickle
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluator.backbones.support.paths import not_there
from tasks.support.errors import UserError

# Tensors of the training task. The encoder does not have them.
_HEADS = (
    "audio_projection.",
    "classifier.",
    "ctc_proj.",
    "feature_extractor.bias",
    "feature_extractor.weight",
    "label_embeddings_concat",
    "label_embs",
    "layer_norm_for_extract.",
    "layer_weights",
    "lm_head.",
    "objective.",
    "project_hid.",
    "project_q.",
    "projector.",
    "quantizer.",
    "speaker_proj.",
    "tdnn.",
)
# Used only to mask the input in training, so some checkpoints lack it.
_UNUSED_IN_EVALUATION = ("masked_spec_embed",)
# In the order in which transformers looks for them.
_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


def find_model(model: str, revision: str | None, base: Path, instead: str = "leave it out") -> tuple[str, bool]:
    """Find a submission's ``model``: the path of a directory or a hub id, and whether it is a directory.

    Args:
        model: a path from ``base``, or a hub id.
        revision: the hub commit that the submission names.
        base: the directory of the submission file.
        instead: the advice if a directory has a revision.

    Raises:
        UserError: it is neither, or exists only in the working directory, or is a directory and has a ``revision``.
    """
    path = base / model
    if path.is_dir():
        if revision is not None:
            raise UserError(f"revision names a commit of the hub, but {path.resolve()} is a directory: {instead}.")
        return str(path.resolve()), True
    for file in (path, Path(model)):
        if file.is_file():
            raise UserError(f"model {file.resolve()} is a file: give its directory, as save_pretrained made it.")
    # transformers would load a directory of this name in the working directory, whatever commit the submission names.
    on_hub = _may_be_hub_id(model)
    if Path(model).exists() or not on_hub:
        advice = "give a directory made with save_pretrained, or a hub id such as facebook/hubert-base-ls960"
        sentence = not_there("model", model, base, advice)
        other = "; for the model of that name on the hub, run this in another directory."
        raise UserError(sentence[:-1] + other if on_hub else sentence)
    return model, False


def _may_be_hub_id(text: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


def quieten(*, local: bool) -> None:
    """Hide transformers' own reports. Our own messages report what matters in them."""
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    # A download keeps its progress bar on a terminal.
    if local or not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # WavLM's own code causes this warning with a mask that it makes itself.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")


def read_config(source: str, revision: str | None, trust_remote_code: bool, base: Path) -> Any:
    """Read the configuration of the model that ``find_model`` returned for ``base``.

    Raises:
        UserError: there is no such checkpoint, or it needs code that was not trusted.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:
        refuse_remote_code(source, error)
        if not isinstance(error, OSError | ValueError) and not trust_remote_code:
            raise
        if Path(source).is_dir():
            raise UserError(
                f"model {source!r} is no directory made with save_pretrained ({first_line(error)}): give the one that"
                " holds config.json."
            ) from error
        raise UserError(
            f"model {source!r} is neither a directory, for there is no {(base / source).resolve()}, nor a model the hub"
            f" gives us ({first_line(error).rstrip('.')}): check the spelling, the revision and the network."
        ) from error


def read_extractor(source: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The checkpoint's feature extractor for audio, or None."""
    from transformers import AutoFeatureExtractor

    try:
        extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            source, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        refuse_remote_code(source, error)
        if not isinstance(error, OSError | ValueError | KeyError):
            raise UserError(f"the feature extractor of model {source!r} cannot be used: {first_line(error)}") from error
        return None
    return extractor if hasattr(extractor, "sampling_rate") else None


def refuse_remote_code(source: str, error: Exception) -> None:
    """Raise our own error if a checkpoint asks to run its own code."""
    if "trust_remote_code" in str(error):
        raise UserError(
            f"model {source!r} runs code of its own: read that code, and if you trust it"
            " write trust_remote_code = true in the submission, which the board then shows."
        ) from error


def refuse_without_audio(source: str, config: Any) -> None:
    """Refuse a model of text or images by its class, before it is loaded.

    Raises:
        UserError: it has no audio input.
    """
    from transformers import MODEL_MAPPING

    try:
        kind: Any = MODEL_MAPPING[type(config)]
    except KeyError:  # the class is in the checkpoint's own code
        return
    kind = kind[0] if isinstance(kind, tuple) else kind
    modalities = getattr(kind, "input_modalities", "audio")
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities or ())
    if "audio" not in modalities:
        raise UserError(
            f"model {source!r} has no audio input: a {config.model_type!r} model takes {' and '.join(modalities)}."
        )


def load_strictly(
    source: str, revision: str | None, trust_remote_code: bool, loads_with: str, others: Sequence[str]
) -> Any:
    """Load the model with every weight from the checkpoint, in float32.

    Args:
        source: directory or hub id.
        revision: hub commit.
        trust_remote_code: whether the checkpoint's own code may run.
        loads_with: name of transformers' class.
        others: how the names of tensors start that belong to parts that are not kept. They may be missing.

    Raises:
        UserError: with the names of tensors that are missing, left over or of another shape.
    """
    import transformers

    try:
        model, report = getattr(transformers, loads_with).from_pretrained(
            source,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below with names; transformers' own error has no names
        )
    except Exception as error:
        refuse_remote_code(source, error)
        if (
            not isinstance(error, OSError | ValueError | RuntimeError | pickle.UnpicklingError)
            and not trust_remote_code
        ):
            raise
        raise UserError(f"weights of model {source!r} cannot be loaded: {first_line(error)}") from error
    others = tuple(others)
    missing = [name for name in report["missing_keys"] if not name.endswith(_UNUSED_IN_EVALUATION)]
    unexpected = [name for name in report["unexpected_keys"] if not name.startswith(_HEADS)]
    wrong = [str(entry[0]) for entry in report["mismatched_keys"]]
    for what, affected in (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong)):
        names = sorted(name for name in affected if not name.startswith(others))
        if names:
            listed = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise UserError(f"weights of model {source!r} do not fit: {len(names)} {what} ({listed}).")
    return model


def check_sha256(source: str, revision: str | None, sha256: str) -> None:
    """Compare the weights file with the checksum that the submission pins.

    Raises:
        UserError: the checksum differs, or the weights are not in one file.
    """
    from transformers.utils.hub import cached_file

    for name in _WEIGHTS_FILES:
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            break
    else:
        raise UserError(
            f"model {source!r} has neither {' nor '.join(_WEIGHTS_FILES)}, whose checksum sha256 could pin:"
            " pin a hub revision instead."
        )
    with Path(path).open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256.lower():
        raise UserError(
            f"{name} of model {source!r} is not the file that the submission pins:"
            f" its sha256 is {actual}, not {sha256}."
        )


def warn_unpinned(source: str, revision: str | None) -> None:
    """Warn that a submission names no commit of a hub model, and show how to pin it."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        return
    # The hub's cache keeps files in a directory named after their commit.
    commit = extract_commit_hash(cached_file(source, "config.json", revision=revision), None)
    warnings.warn(
        f"model {source} is not pinned: today it is the commit {commit};"
        f' write revision = "{commit}" in the submission, so that it is the same model tomorrow.',
        stacklevel=3,
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class if there is no message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
