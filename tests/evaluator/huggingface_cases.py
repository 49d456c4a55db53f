"""Small models of the real Hugging Face classes, saved as the hub has them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from builders import SMALL, write_submission
from torch import Tensor
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from evaluator.backbone import Backbone, ready
from evaluator.submission import Submission

NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WITHOUT_POSITIONS = {key: value for key, value in SMALL.items() if "pos" not in key}
SQUEEZED = {**SMALL, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_dim": [16] * 7}
AST = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "max_length": 96, "num_mel_bins": 32,
}  # fmt: skip
WHISPER = {
    "d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 50, "max_source_positions": 100, "num_mel_bins": 20,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
BERT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "feature_projection_input_dim": 40,
}  # fmt: skip
CLAP = {
    "audio_config": {
        "hidden_size": 32, "patch_embeds_hidden_size": 8, "depths": [1, 2, 1], "num_attention_heads": [1, 2, 2],
        "num_hidden_layers": 3, "spec_size": 64, "num_mel_bins": 16, "window_size": 4,
    },
    "text_config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20,
    },
}  # fmt: skip
CLAP_FUSED = {**CLAP, "audio_config": {**CLAP["audio_config"], "enable_fusion": True}}


def blocks_of_an_encoder(model: Any) -> list[Any]:
    return list(model.encoder.layers)


@dataclass(frozen=True)
class Case:
    """A small model of the real class. ``exact``: clips of unequal length may share a batch."""

    model: str
    config: dict[str, Any]
    exact: bool
    preprocessor: Any = field(default_factory=Wav2Vec2FeatureExtractor)
    blocks: Callable[[Any], list[Any]] = blocks_of_an_encoder
    tower: Callable[[Any], Any] = lambda model: model


WAVEFORMS = {
    "wav2vec2": Case("Wav2Vec2Model", SMALL, exact=False),
    "wav2vec2-layer": Case("Wav2Vec2Model", {**SMALL, **NORM}, exact=True),
    "wav2vec2-adapter": Case("Wav2Vec2Model", {**SMALL, **NORM, "add_adapter": True}, exact=True),
    "hubert": Case("HubertModel", SMALL, exact=False),
    "hubert-layer": Case("HubertModel", {**SMALL, **NORM}, exact=True),
    "hubert-batch-norm": Case("HubertModel", {**SMALL, **NORM, "conv_pos_batch_norm": True}, exact=False),
    "wavlm": Case("WavLMModel", SMALL, exact=False, preprocessor=Wav2Vec2FeatureExtractor(do_normalize=False)),
    "wavlm-layer": Case("WavLMModel", {**SMALL, **NORM}, exact=True),
    "data2vec-audio": Case(
        "Data2VecAudioModel", {**WITHOUT_POSITIONS, "conv_pos_kernel_size": 5, "num_conv_pos_embedding_groups": 4},
        exact=False,
    ),
    "sew": Case("SEWModel", SQUEEZED, exact=False),
    "sew-d": Case("SEWDModel", SQUEEZED, exact=False, blocks=lambda model: list(model.encoder.encoder.layer)),
    "unispeech-layer": Case("UniSpeechModel", {**SMALL, **NORM}, exact=True),
    "unispeech-sat-layer": Case("UniSpeechSatModel", {**SMALL, **NORM}, exact=True),
    "wav2vec2-conformer": Case("Wav2Vec2ConformerModel", {**SMALL, **NORM}, exact=False),
}  # fmt: skip
SPECTROGRAMS = {
    "ast": Case(
        "ASTModel", AST, exact=True, preprocessor=ASTFeatureExtractor(num_mel_bins=32, max_length=96),
        blocks=lambda model: list(model.layers),
    ),
    "whisper": Case(
        "WhisperModel", WHISPER, exact=True, preprocessor=WhisperFeatureExtractor(feature_size=20, chunk_length=2),
        blocks=lambda model: list(model.layers), tower=lambda model: model.encoder,
    ),
    "wav2vec2-bert": Case(
        "Wav2Vec2BertModel", BERT, exact=True,
        preprocessor=SeamlessM4TFeatureExtractor(feature_size=20, num_mel_bins=20),
    ),
    "clap": Case(
        "ClapModel", CLAP, exact=True,
        preprocessor=ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation="rand_trunc"),
        blocks=lambda model: [block for stage in model.audio_encoder.layers for block in stage.blocks],
        tower=lambda model: model.audio_model,
    ),
}  # fmt: skip
CASES = WAVEFORMS | SPECTROGRAMS


def write_checkpoint(directory: Path, case: Case) -> Path:
    kind = getattr(transformers, case.model)
    torch.manual_seed(0)
    model = kind(kind.config_class(**case.config))
    for name, parameter in model.named_parameters():
        # Zero is where many of these start; equal states would then prove nothing.
        if name.endswith(("position_embeddings", "_token", "gru_rel_pos_const", "relative_position_bias_table")):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(directory)
    case.preprocessor.save_pretrained(directory)
    return directory


def submission(tmp_path: Path, keys: str) -> Path:
    return write_submission(tmp_path / "model.toml", f'loader = "huggingface"\n{keys}')


def load(tmp_path: Path, keys: str) -> Any:
    return ready(Submission.read(submission(tmp_path, keys)).load()).backbone


def sound(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.02


@torch.inference_mode()
def encode(backbone: Backbone, *clips: Tensor) -> list[list[Tensor]]:
    """Per clip and layer, its valid frames: (frames, width)."""
    lengths = torch.tensor([len(clip) for clip in clips])
    outputs, valid = backbone.encode(torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True), lengths)
    counts = [valid] * len(outputs) if isinstance(valid, Tensor) else valid
    return [
        [output[place, : int(count[place])] for output, count in zip(outputs, counts, strict=True)]
        for place in range(len(clips))
    ]


def same(mine: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)
