"""Build an encoder from the keys of a submission, step by step."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evaluator.backbones.huggingface.encoder import MAX_SECONDS, Encoder
from evaluator.backbones.huggingface.families import FAMILIES, Family, speech_preprocessor
from evaluator.backbones.huggingface.generic import AnyEncoder
from evaluator.backbones.huggingface.weights import (
    find_model,
    first_line,
    quieten,
    read_config,
    refuse_without_audio,
    warn_unpinned,
)
from tasks.support.errors import UserError


def checkpoint(
    model: str, base: Path, revision: str | None, sha256: str | None, trust_remote_code: bool
) -> tuple[str, Any]:
    """Path or hub id of the checkpoint, and its configuration."""
    source, local = find_model(model, revision, base, instead="pin it with sha256")
    quieten(local=local)
    settings = read_config(source, revision, trust_remote_code, base)
    if not local and sha256 is None:
        warn_unpinned(source, revision)
    if settings.model_type not in FAMILIES:
        refuse_without_audio(source, settings)
    return source, settings


def encoder(source: str, family: Family | None, whole: Any, preprocessor: Any, max_seconds: float | None) -> Encoder:
    """The audio part of a model as a backbone. Clips longer than ``max_seconds`` are encoded in chunks."""
    if family is None:
        part = whole.get_encoder() if whole.config.is_encoder_decoder else whole
        return AnyEncoder(part, preprocessor, name=source, max_seconds=_limit(max_seconds))
    part = getattr(whole, family.audio) if family.audio else whole
    if family.fixed_window:
        encoder = family.encoder(part, family.blocks(part), preprocessor)
        if max_seconds is not None:
            raise UserError(
                f"max_seconds is not for {source}: it encodes windows of {encoder.window / encoder.sample_rate:g} s."
            )
        return encoder
    return family.encoder(part, family.blocks(part), preprocessor, max_seconds=_limit(max_seconds))


def defaults(architecture: str, config: Mapping[str, Any]) -> Any:
    """The architecture's own configuration with the submission's settings."""
    from transformers import AutoConfig

    if architecture not in FAMILIES:
        raise UserError(f"architecture {architecture!r} is unknown: choose from {', '.join(FAMILIES)}.")
    # transformers accepts a misspelt key and ignores it.
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
        # A table *_config has the settings of a part of the model. Other tables may have any keys.
        if isinstance(value, Mapping) and key.endswith("_config") and isinstance(known.get(key), Mapping):
            names += _unknown(value, known[key], f"{before}{key}.")
    return names


def override(
    source: str, family: Family | None, preprocessor: Any, do_normalize: bool | None, sample_rate: int | None
) -> Any:
    """The feature extractor with the submission's settings."""
    if family is None or not family.waveforms:
        if do_normalize is not None or sample_rate is not None:
            raise UserError(f"do_normalize and sample_rate are not for {source}: its preprocessor makes spectrograms.")
        if preprocessor is None:
            raise UserError(f"model {source!r} has no feature extractor for audio: add its preprocessor_config.json.")
    elif preprocessor is None:
        if do_normalize is None or sample_rate is None:
            # A guess could feed the model audio of the wrong scale or rate without any error.
            raise UserError(
                f"model {source!r} has no preprocessor_config.json:"
                " write do_normalize = true or false and sample_rate = ... in the submission."
            )
        return speech_preprocessor(do_normalize=do_normalize, sample_rate=sample_rate)
    else:
        preprocessor.do_normalize = preprocessor.do_normalize if do_normalize is None else do_normalize
        preprocessor.sampling_rate = preprocessor.sampling_rate if sample_rate is None else sample_rate
    if getattr(preprocessor, "dither", 0):
        raise UserError(f"the preprocessor of {source} adds noise (dither), another in every run: set it to 0 there.")
    return preprocessor


def initialised(settings: Any, family: Family | None, seed: int, trust_remote_code: bool) -> Any:
    """The architecture with random weights from ``seed``. The process's own random state does not change."""
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
