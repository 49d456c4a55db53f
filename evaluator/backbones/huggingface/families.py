"""Model families: the encoder class, the blocks and the feature extractor of each ``model_type``."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluator.backbones.huggingface.encoder import Encoder
from evaluator.backbones.huggingface.spectral import ASTEncoder, ClapEncoder, Wav2Vec2BertEncoder, WhisperEncoder
from evaluator.backbones.huggingface.speech import SpeechEncoder


@dataclass(frozen=True)
class Family:
    """A family of models with one ``model_type`` of transformers.

    Attributes:
        encoder: makes the backbone; called with the audio part, its blocks and the feature extractor.
        blocks: returns the blocks of the audio part.
        preprocessor: the feature extractor that the architecture was published with, for random weights.
        audio: attribute of the model that is its audio part; empty if the whole model is.
        others: how the names of tensors start that belong to other parts, such as text; they are not kept.
        loads_with: name of transformers' class that loads it.
        fixed_window: the model encodes windows of a fixed length.
        waveforms: its feature extractor only scales waveforms: ``do_normalize`` and ``sample_rate`` describe it fully.
    """

    encoder: Callable[..., Encoder]
    blocks: Callable[[Any], Any]
    preprocessor: Callable[[Any], Any]
    audio: str = ""
    others: tuple[str, ...] = ()
    loads_with: str = "AutoModel"
    fixed_window: bool = False
    waveforms: bool = False


def speech_preprocessor(config: Any = None, *, do_normalize: bool = True, sample_rate: int = 16_000) -> Any:
    """Wav2Vec2FeatureExtractor, which all encoders of waveforms use."""
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(sampling_rate=sample_rate, do_normalize=do_normalize)  # type: ignore[no-untyped-call]


def _ast_preprocessor(config: Any) -> Any:
    from transformers import ASTFeatureExtractor

    return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)  # type: ignore[no-untyped-call]


def _whisper_preprocessor(config: Any) -> Any:
    from transformers import WhisperFeatureExtractor

    # Each position is two mel frames of 10 ms.
    return WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
        feature_size=config.num_mel_bins, chunk_length=math.ceil(config.max_source_positions / 50)
    )


def _bert_preprocessor(config: Any) -> Any:
    from transformers import SeamlessM4TFeatureExtractor

    bands = config.feature_projection_input_dim // 2
    return SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)  # type: ignore[no-untyped-call]


def _clap_preprocessor(config: Any) -> Any:
    from transformers import ClapFeatureExtractor

    audio = getattr(config, "audio_config", config)
    truncation = "fusion" if audio.enable_fusion else "rand_trunc"
    # The whole seconds, of 100 frames each, that fit in the model's image: 10 for 1024 frames.
    seconds = (audio.spec_size * (audio.spec_size // audio.num_mel_bins) - 1) // 100
    return ClapFeatureExtractor(feature_size=audio.num_mel_bins, truncation=truncation, max_length_s=seconds)


_SPEECH = Family(SpeechEncoder, lambda model: model.encoder.layers, speech_preprocessor, waveforms=True)
_CLAP = Family(
    ClapEncoder,
    lambda model: [block for stage in model.audio_encoder.layers for block in stage.blocks],
    _clap_preprocessor,
    audio="audio_model",
    others=("text_model.", "text_projection.", "audio_projection.", "logit_scale"),
    fixed_window=True,
)

FAMILIES: dict[str, Family] = {
    "audio-spectrogram-transformer": Family(
        ASTEncoder, lambda model: model.layers, _ast_preprocessor, fixed_window=True
    ),
    "clap": _CLAP,
    # AutoModel cannot load the audio tower alone.
    "clap_audio_model": Family(
        _CLAP.encoder,
        _CLAP.blocks,
        _CLAP.preprocessor,
        _CLAP.audio,
        _CLAP.others,
        loads_with="ClapAudioModelWithProjection",
        fixed_window=True,
    ),
    "data2vec-audio": _SPEECH,
    "hubert": _SPEECH,
    "sew": _SPEECH,
    "sew-d": Family(SpeechEncoder, lambda model: model.encoder.encoder.layer, speech_preprocessor, waveforms=True),
    "unispeech": _SPEECH,
    "unispeech-sat": _SPEECH,
    "wav2vec2": _SPEECH,
    "wav2vec2-bert": Family(Wav2Vec2BertEncoder, lambda model: model.encoder.layers, _bert_preprocessor),
    "wav2vec2-conformer": _SPEECH,
    "wavlm": _SPEECH,
    "whisper": Family(
        WhisperEncoder,
        lambda model: model.layers,
        _whisper_preprocessor,
        audio="encoder",
        others=("decoder.", "proj_out."),
        fixed_window=True,
    ),
}
"""By ``model_type``."""
