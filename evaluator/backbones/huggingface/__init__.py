"""Audio encoders through transformers: pretrained from a directory or the hub, or as random control."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from evaluator.backbones.huggingface.encoder import MAX_SECONDS, Encoder
from evaluator.backbones.huggingface.families import FAMILIES, Family, speech_preprocessor
from evaluator.backbones.huggingface.generic import AnyEncoder
from evaluator.backbones.huggingface.weights import (
    check_sha256,
    find_model,
    first_line,
    load_strictly,
    quieten,
    read_config,
    read_extractor,
    refuse_without_audio,
    warn_unpinned,
)
from evaluator.backbones.keys import Between, Hertz, Seed
from tasks.support.errors import UserError

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1


def load(
    *,
    model: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: Seed = 0,
    architecture: str | None = None,
    config: Mapping[str, Any] | None = None,
    do_normalize: bool | None = None,
    sample_rate: Hertz | None = None,
    max_seconds: Annotated[float, Between(0)] | None = None,
    trust_remote_code: bool = False,
    base: Path = Path(),
) -> Encoder:
    """Load an audio encoder.

    Args:
        model: a directory made with ``save_pretrained`` (relative to the submission file), or a hub id.
        revision: the hub commit to use; pin it, so that the same submission is the same model tomorrow.
        sha256: checksum of the checkpoint's weights file, which pins a directory or a hub model as well.
        weights: "random" keeps the architecture and initialises it anew.
        seed: of the random weights.
        architecture: with random weights and no ``model``: a ``model_type`` of transformers, one of ``FAMILIES``.
        config: settings over the architecture's defaults, with ``architecture`` only.
        do_normalize: overrides the preprocessor of a checkpoint that takes waveforms; needed where it has none.
        sample_rate: Hz, likewise.
        max_seconds: longer clips are encoded in chunks of this length; 0 for never. Default 60, except where the
            model itself sets a window.
        trust_remote_code: run the code that the checkpoint brings; such a model is refused without it.
        base: the directory of the submission file.

    Raises:
        UserError: the model cannot be found, hears nothing, or its weights do not fit it exactly.
    """
    if (model is None) == (architecture is None):
        raise UserError("give either model (a directory or hub id) or, for random weights, architecture.")
    if architecture is not None:
        quieten(local=True)
        if weights != "random":
            raise UserError('architecture needs weights = "random"; for pretrained weights give model.')
        if revision is not None or sha256 is not None or trust_remote_code:
            raise UserError("revision, sha256 and trust_remote_code are for a model's files; architecture reads none.")
        source, settings = architecture, _defaults(architecture, config or {})
        family: Family | None = FAMILIES[architecture]
        preprocessor = FAMILIES[architecture].preprocessor(settings)
    else:
        if config is not None:
            raise UserError("config goes with architecture; a checkpoint brings its own.")
        if weights == "random" and sha256 is not None:
            raise UserError('sha256 pins weights, which are not read with weights = "random".')
        source, settings = _checkpoint(str(model), base, revision, sha256, trust_remote_code)
        family = FAMILIES.get(settings.model_type)
        preprocessor = read_extractor(source, revision, trust_remote_code)
    preprocessor = _override(source, family, preprocessor, do_normalize, sample_rate)
    if weights == "random":
        whole = _initialised(settings, family, seed, trust_remote_code)
    else:
        if sha256 is not None:
            check_sha256(source, revision, sha256)
        whole = load_strictly(
            source,
            revision,
            trust_remote_code,
            family.loads_with if family else "AutoModel",
            family.others if family else (),
        )
    return _encoder(source, family, whole.eval(), preprocessor, max_seconds)


def _checkpoint(
    model: str, base: Path, revision: str | None, sha256: str | None, trust_remote_code: bool
) -> tuple[str, Any]:
    """Where the checkpoint is, and its configuration."""
    source, local = find_model(model, revision, base, instead="pin it with sha256")
    quieten(local=local)
    settings = read_config(source, revision, trust_remote_code, base)
    if not local and sha256 is None:
        warn_unpinned(source, revision)
    if settings.model_type not in FAMILIES:
        refuse_without_audio(source, settings)
    return source, settings


def _encoder(source: str, family: Family | None, whole: Any, preprocessor: Any, max_seconds: float | None) -> Encoder:
    if family is None:
        part = whole.get_encoder() if whole.config.is_encoder_decoder else whole
        return AnyEncoder(part, preprocessor, name=source, max_seconds=_limit(max_seconds))
    part = getattr(whole, family.audio) if family.audio else whole
    if family.fixed_window:
        encoder = family.encoder(part, family.blocks(part), preprocessor)
        if max_seconds is not None:
            raise UserError(
                f"max_seconds is not for {source}: it hears windows of {encoder.window / encoder.sample_rate:g} s."
            )
        return encoder
    return family.encoder(part, family.blocks(part), preprocessor, max_seconds=_limit(max_seconds))


def _defaults(architecture: str, config: Mapping[str, Any]) -> Any:
    """The architecture's own configuration with the submission's settings."""
    from transformers import AutoConfig

    if architecture not in FAMILIES:
        raise UserError(f"architecture {architecture!r} is unknown: choose from {', '.join(FAMILIES)}.")
    # transformers keeps a misspelt key as it is and changes nothing.
    unknown = _unknown(config, AutoConfig.for_model(architecture).to_dict())
    if unknown:
        raise UserError(f"config has keys that {architecture} does not: {', '.join(unknown)}.")
    try:
        return AutoConfig.for_model(architecture, **config)
    except (TypeError, ValueError) as error:
        raise UserError(f"config does not make a {architecture}: {first_line(error)}") from error


def _unknown(config: Mapping[str, Any], known: Mapping[str, Any], before: str = "") -> list[str]:
    names = [before + key for key in sorted(set(config) - set(known))]
    for key, value in config.items():
        # A part of the model has settings of its own; other tables are free.
        if isinstance(value, Mapping) and key.endswith("_config") and isinstance(known.get(key), Mapping):
            names += _unknown(value, known[key], f"{before}{key}.")
    return names


def _override(
    source: str, family: Family | None, preprocessor: Any, do_normalize: bool | None, sample_rate: int | None
) -> Any:
    """The feature extractor, with what the submission says of it."""
    if family is None or not family.waveforms:
        if do_normalize is not None or sample_rate is not None:
            raise UserError(f"do_normalize and sample_rate are not for {source}: its preprocessor makes spectrograms.")
        if preprocessor is None:
            raise UserError(f"model {source!r} has no feature extractor for audio: add its preprocessor_config.json.")
    elif preprocessor is None:
        if do_normalize is None or sample_rate is None:
            # Guessing would silently feed the model at the wrong scale or rate.
            raise UserError(
                f"model {source!r} has no preprocessor_config.json:"
                " say do_normalize = true or false and sample_rate = ... in the submission."
            )
        return speech_preprocessor(do_normalize=do_normalize, sample_rate=sample_rate)
    else:
        preprocessor.do_normalize = preprocessor.do_normalize if do_normalize is None else do_normalize
        preprocessor.sampling_rate = preprocessor.sampling_rate if sample_rate is None else sample_rate
    if getattr(preprocessor, "dither", 0):
        raise UserError(f"the preprocessor of {source} adds noise (dither), another in every run: set it to 0 there.")
    return preprocessor


def _initialised(settings: Any, family: Family | None, seed: int, trust_remote_code: bool) -> Any:
    """The architecture with weights from ``seed``, whatever the process has drawn before, and without drawing on."""
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            if family and family.loads_with != "AutoModel":
                return getattr(transformers, family.loads_with)._from_config(settings)
            return transformers.AutoModel.from_config(  # type: ignore[no-untyped-call]
                settings, trust_remote_code=trust_remote_code
            )
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"config does not make a {settings.model_type}: {first_line(error)}") from error


def _limit(max_seconds: float | None) -> float:
    return MAX_SECONDS if max_seconds is None else max_seconds or math.inf
