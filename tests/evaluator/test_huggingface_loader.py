"""Every Hugging Face family: transformers' own hidden states, frames that follow the clip, and nothing loaded half."""

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from builders import SMALL, save_checkpoint, write_submission
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from evaluator.audio import Cut
from evaluator.backbones import Backbone, ready
from evaluator.backbones.huggingface.encoder import spectra
from evaluator.backbones.huggingface.families import FAMILIES
from evaluator.clips import Clip
from evaluator.extraction import Extractor
from evaluator.submission import Submission
from tasks.errors import UserError
from tasks.sound import Header

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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small spend their time on handing work to threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a case, in the format that the hub has."""
    made: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in made:
            made[name] = write_checkpoint(tmp_path_factory.mktemp(name), CASES[name])
        return made[name]

    return save


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


@torch.inference_mode()
def original(case: Case, directory: Path, waveform: Tensor, **more: Any) -> tuple[list[Tensor], Any]:
    """What enters and leaves the blocks of transformers' own model, and what it returns."""
    model = case.tower(getattr(transformers, case.model).from_pretrained(directory).eval())
    seen: list[Tensor] = []
    blocks = case.blocks(model)
    blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    for block in blocks:
        block.register_forward_hook(
            lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    preprocessor = case.preprocessor
    inputs = preprocessor(waveform.numpy(), sampling_rate=preprocessor.sampling_rate, return_tensors="pt")
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    output = model(**inputs, output_hidden_states=True, **more)
    return seen, output


@pytest.mark.parametrize("name", WAVEFORMS)
def test_waveform_encoders_give_transformers_hidden_states(
    tmp_path: Path, saved: Callable[[str], Path], name: str
) -> None:
    """Layer i must be the output of block i: by hooks on transformers' own model, and as its hidden_states."""
    backbone = load(tmp_path, f'model = "{saved(name)}"')
    waveform = sound(9_001)
    seen, output = original(CASES[name], saved(name), waveform)
    assert len(backbone.layers) == len(seen) == 4
    (ours,) = encode(backbone, waveform)
    same(ours, [state[0] for state in seen])
    same(ours, [state[0] for state in output.hidden_states])
    assert all(layer.width == state.shape[1] for layer, state in zip(backbone.layers, ours, strict=True))


def test_ast_gives_transformers_hidden_states_averaged_over_frequency(
    tmp_path: Path, saved: Callable[[str], Path]
) -> None:
    from torchaudio.compliance import kaldi

    case, waveform = CASES["ast"], sound(9_001)
    seen, output = original(case, saved("ast"), waveform)
    same(seen, list(output.hidden_states))
    (ours,) = encode(load(tmp_path, f'model = "{saved("ast")}"'), waveform)
    # Two special tokens, then patches, one band after another: (32 - 16) // 10 + 1 bands of (96 - 16) // 10 + 1 times.
    bands, times = 2, 9
    mels = len(kaldi.fbank(waveform[None], num_mel_bins=32))
    inside = [time for time in range(times) if 10 * time + 16 <= mels]
    assert 0 < len(inside) < times
    for mine, state in zip(ours, seen, strict=True):
        expected = torch.stack(
            [torch.stack([state[0, 2 + band * times + time] for band in range(bands)]).mean(0) for time in inside]
        )
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)


def test_whisper_gives_transformers_hidden_states_without_the_final_norm(
    tmp_path: Path, saved: Callable[[str], Path]
) -> None:
    case, waveform = CASES["whisper"], sound(9_001)
    seen, output = original(case, saved("whisper"), waveform)
    backbone = load(tmp_path, f'model = "{saved("whisper")}"')
    (ours,) = encode(backbone, waveform)
    inputs = case.preprocessor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    valid = int(backbone.model._get_feat_extract_output_lengths(inputs.attention_mask.sum(1)))
    assert valid == 29  # of 100 in the window of 2 s
    same(ours, [state[0, :valid] for state in seen])
    same(ours[:-1], [state[0, :valid] for state in output.hidden_states[:-1]])
    # transformers' last one is after the final norm, which belongs to no block.
    with torch.inference_mode():
        normed = backbone.model.layer_norm(ours[-1])
    torch.testing.assert_close(normed, output.last_hidden_state[0, :valid], atol=1e-5, rtol=0)


def test_wav2vec2_bert_gives_transformers_hidden_states_where_its_mask_holds(
    tmp_path: Path, saved: Callable[[str], Path]
) -> None:
    case, waveform = CASES["wav2vec2-bert"], sound(9_100)
    seen, output = original(case, saved("wav2vec2-bert"), waveform)
    (ours,) = encode(load(tmp_path, f'model = "{saved("wav2vec2-bert")}"'), waveform)
    mask = case.preprocessor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").attention_mask[0].bool()
    assert 0 < int(mask.sum()) < len(mask)
    same(ours, [state[0, mask] for state in seen])
    same(ours, [state[0, mask] for state in output.hidden_states])


@pytest.mark.parametrize("fused", [False, True])
def test_clap_gives_transformers_hidden_states_with_widths_and_hops_of_their_own(tmp_path: Path, fused: bool) -> None:
    """Its image holds four quarters of the window below one another; read as time it would be four times too short."""
    case = CASES["clap"]
    if fused:
        case = Case(
            case.model, CLAP_FUSED, True, ClapFeatureExtractor(feature_size=16, max_length_s=2), case.blocks, case.tower
        )
    directory = write_checkpoint(tmp_path / "clap", case)
    waveform = sound(96_000)  # the whole window
    if fused:
        # Called on one clip, transformers takes any for a longer one; this is no longer than the window.
        case.preprocessor.__class__ = type(
            "Short", (ClapFeatureExtractor,),
            {"__call__": lambda self, *args, **kwargs: {
                **ClapFeatureExtractor.__call__(self, *args, **kwargs), "is_longer": torch.tensor([[False]])}},
        )  # fmt: skip
    seen, output = original(case, directory, waveform, output_hidden_states_before_downsampling=True)
    backbone = load(tmp_path, f'model = "{directory}"')
    (ours,) = encode(backbone, waveform)
    assert [layer.width for layer in backbone.layers] == [8, 8, 16, 16, 32]
    assert [len(layer) for layer in ours] == [64, 64, 32, 32, 16]

    def in_time(image: Tensor) -> Tensor:
        """(width, rows, columns) to (4 x columns, width)."""
        rows = image.shape[1] // 4
        return torch.cat([image[:, quarter * rows : (quarter + 1) * rows].mean(1).T for quarter in range(4)])

    # transformers returns the patches and the end of each of the three stages.
    same([ours[0], ours[1], ours[3], ours[4]], [in_time(state[0]) for state in output.hidden_states])
    sides = [16, 16, 8, 8, 4]
    same(ours, [in_time(state[0].T.unflatten(1, (side, side))) for state, side in zip(seen, sides, strict=True)])


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_frames_are_in_the_order_of_time(tmp_path: Path, saved: Callable[[str], Path], name: str) -> None:
    """A burst at a third of the clip must be seen at a third of the frames, in what enters the first block."""
    backbone = load(tmp_path, f'model = "{saved(name)}"')
    rate = backbone.sample_rate
    quiet = sound(int(0.9 * rate)) * 0.05
    for place in (0.2, 0.5, 0.8):
        loud = quiet.clone()
        loud[int(place * len(loud)) :][: rate // 100] += sound(rate // 100, 1) * 5
        (one,), (other,) = encode(backbone, quiet), encode(backbone, loud)
        changed = (one[0] - other[0]).norm(dim=1)
        assert abs((int(changed.argmax()) + 0.5) / len(changed) - place) < 0.1


@pytest.mark.parametrize("name", CASES)
def test_zeroing_a_block_changes_its_own_layer_and_the_later_ones_only(
    tmp_path: Path, saved: Callable[[str], Path], name: str
) -> None:
    backbone = load(tmp_path, f'model = "{saved(name)}"')
    clip = sound(8_000)
    (before,) = encode(backbone, clip)
    with torch.inference_mode():
        for parameter in CASES[name].blocks(backbone.model)[1].parameters():
            parameter.zero_()
    (after,) = encode(backbone, clip)
    unchanged = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert unchanged == [True, True] + [False] * (len(before) - 2)


@pytest.mark.parametrize("name", CASES)
def test_a_clip_alone_and_among_longer_ones_has_the_same_frames(
    tmp_path: Path, saved: Callable[[str], Path], name: str
) -> None:
    """Where masks are not exact, the suite's extraction must keep unequal clips apart; where they are, they must be."""
    backbone = load(tmp_path, f'model = "{saved(name)}"')
    assert backbone.exact_masking == CASES[name].exact
    lengths = [5_000, 16_000, 9_123, 5_000, 23_000]
    clips = [sound(length, seed) for seed, length in enumerate(lengths)]
    if backbone.exact_masking:
        for together, clip in zip(encode(backbone, *clips), clips, strict=True):
            same(together, encode(backbone, clip)[0])
    extractor = Extractor.of(ready(backbone), torch.device("cpu"))
    items = [
        Clip(i, SimpleNamespace(path=Path(f"{i}.wav"), id=str(i)), Header(16_000, n), Cut(0, n, n), n)  # type: ignore[arg-type]
        for i, n in enumerate(lengths)
    ]
    encoded = extractor.encode(items, clips, frames=False)
    for block, pooled in zip(extractor.blocks, encoded.pooled, strict=True):
        for place, clip in enumerate(clips):
            (alone,) = encode(backbone, clip)
            same(list(pooled[:, place]), [alone[layer].mean(0) for layer in block.layers])


LIMITED = ["wav2vec2", "wav2vec2-layer", "sew", "wav2vec2-bert"]


@pytest.mark.parametrize("name", [*LIMITED, "ast", "whisper", "clap"])
def test_a_long_clip_is_its_chunks_one_by_one(tmp_path: Path, saved: Callable[[str], Path], name: str) -> None:
    limit = "max_seconds = 0.5" if name in LIMITED else ""
    backbone = load(tmp_path, f'model = "{saved(name)}"\n{limit}')
    window = {"ast": 15_360, "whisper": 32_000, "clap": 96_000}.get(name, 8_000)
    assert backbone.options["window_samples"] == window
    clip = sound(2 * window + window // 3)
    chunks = [encode(backbone, chunk)[0] for chunk in clip.split(window)]
    assert len(chunks) == 3
    (whole,) = encode(backbone, clip)
    same(whole, [torch.cat(parts) for parts in zip(*chunks, strict=True)])
    # Too little is left for a frame after the second chunk.
    rest = backbone.min_samples - 1
    same(encode(backbone, clip[: 2 * window + rest])[0], encode(backbone, clip[: 2 * window])[0])
    if backbone.exact_masking:
        together = encode(backbone, clip, clip[:window], clip[: window + window // 2], clip[:5_000])
        for frames, samples in zip(together, [len(clip), window, window + window // 2, 5_000], strict=True):
            same(frames, encode(backbone, clip[:samples])[0])


@pytest.mark.parametrize("name", LIMITED)
def test_a_clip_below_the_limit_is_encoded_whole(tmp_path: Path, saved: Callable[[str], Path], name: str) -> None:
    clip = sound(8_000)
    default, limited, never = (
        load(tmp_path, f'model = "{saved(name)}"\n{keys}') for keys in ("", "max_seconds = 0.5", "max_seconds = inf")
    )
    same(encode(limited, clip)[0], encode(default, clip)[0], 0)
    assert default.options["window_samples"] == 60 * 16_000
    assert "60 s" in default.normalisation
    assert "chunks" not in never.normalisation
    longer = sound(11_000)
    same(encode(never, longer)[0], encode(default, longer)[0], 0)
    with pytest.raises(AssertionError):
        same(encode(limited, longer)[0], encode(default, longer)[0])


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("ast", "max_seconds = 5", "windows of 0.96 s"),
        ("wav2vec2", "max_seconds = 0.0", "max_seconds"),
        ("whisper", "do_normalize = true", "do_normalize"),
        ("clap", "sample_rate = 16000", "sample_rate"),
        ("wav2vec2", 'revision = "main"', "sha256"),
        ("wav2vec2", f'sha256 = "{"0" * 64}"', "is not the file"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(
    tmp_path: Path, saved: Callable[[str], Path], name: str, keys: str, said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        load(tmp_path, f'model = "{saved(name)}"\n{keys}')


def test_a_directory_is_pinned_by_the_checksum_of_its_weights(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    directory = shutil.copytree(saved("whisper"), tmp_path / "copy")
    weights = directory / "model.safetensors"
    keys = f'model = "copy"\nsha256 = "{hashlib.sha256(weights.read_bytes()).hexdigest()}"'
    load(tmp_path, keys)
    tensors = load_file(weights)
    tensors["encoder.conv1.bias"] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=hashlib.sha256(weights.read_bytes()).hexdigest()):
        load(tmp_path, keys)


def test_the_spectrogram_is_the_same_under_autocast(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    """Log-mel values in bfloat16 would be another input than the model was trained with."""
    for name in SPECTROGRAMS:
        preprocessor, clip = CASES[name].preprocessor, sound(8_000)[None]
        exact = spectra(preprocessor, clip, torch.tensor([8_000]))[0]
        backbone = load(tmp_path, f'model = "{saved(name)}"')
        with torch.autocast("cpu", torch.bfloat16):
            rounded = spectra(preprocessor, clip, torch.tensor([8_000]))[0]
            (states,) = encode(backbone, clip[0])
        assert all(torch.equal(exact[key], rounded[key]) for key in exact)
        (expected,) = encode(backbone, clip[0])
        for state, other in zip(states, expected, strict=True):
            assert (state.float() - other).norm() < 0.1 * other.norm()


SMALL_ARCHITECTURES = {
    "audio-spectrogram-transformer": AST,
    "clap": CLAP,
    "clap_audio_model": CLAP["audio_config"],
    "data2vec-audio": WAVEFORMS["data2vec-audio"].config,
    "sew": SQUEEZED,
    "sew-d": SQUEEZED,
    "wav2vec2-bert": BERT,
    "whisper": {key: value for key, value in WHISPER.items() if key != "max_source_positions"},
}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_has_a_random_control(tmp_path: Path, architecture: str) -> None:
    config = SMALL_ARCHITECTURES.get(architecture, SMALL)
    tables = {key: value for key, value in config.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.items() if key not in tables]
    for table, values in tables.items():
        lines.append(f"[submission.config.{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]

    def control(seed: int) -> tuple[str, Any]:
        keys = f'architecture = "{architecture}"\nweights = "random"\nseed = {seed}\n[submission.config]\n'
        backbone = load(tmp_path, keys + "\n".join(lines))
        return ready(backbone).weights_sha256, backbone

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, backbone = control(3)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers must not move"
    torch.manual_seed(6)
    assert control(3)[0] == first
    assert control(4)[0] != first
    assert not backbone.training
    clip = sound(8_000)
    (one,), (other,) = encode(backbone, clip), encode(backbone, clip)
    same(one, other, 0)
    assert all(bool(torch.isfinite(state).all()) and len(state) > 0 for state in one)


def test_windows_of_the_published_sizes(tmp_path: Path) -> None:
    """10.24 s and 12 bands for AST, 30 s for Whisper, 10 s and four stages for CLAP."""
    ast = load(
        tmp_path,
        'architecture = "audio-spectrogram-transformer"\nweights = "random"\n[submission.config]\n'
        "hidden_size = 8\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 8",
    )
    (frames,) = encode(ast, sound(163_840))
    assert [len(layer) for layer in frames] == [101, 101]
    assert "10.24 s" in ast.normalisation
    whisper = load(
        tmp_path,
        'architecture = "whisper"\nweights = "random"\n[submission.config]\nd_model = 8\nencoder_layers = 1\n'
        "decoder_layers = 1\ndecoder_attention_heads = 2\nencoder_attention_heads = 2\n"
        "encoder_ffn_dim = 8\ndecoder_ffn_dim = 8\nvocab_size = 50300",
    )
    (frames,) = encode(whisper, sound(16_000))
    assert [len(layer) for layer in frames] == [50, 50]
    assert "30 s" in whisper.normalisation
    clap = load(
        tmp_path,
        'architecture = "clap_audio_model"\nweights = "random"\n[submission.config]\n'
        "patch_embeds_hidden_size = 32\nhidden_size = 256\nnum_attention_heads = [2, 2, 2, 2]",
    )
    assert clap.sample_rate == 48_000
    (frames,) = encode(clap, sound(240_000))
    halves = [128] * 3 + [64] * 2 + [32] * 6 + [16] * 2
    assert [len(layer) for layer in frames] == halves
    assert [layer.width for layer in clap.layers] == [32] * 3 + [64] * 2 + [128] * 6 + [256] * 2


def spoil(directory: Path, name: str, how: str) -> None:
    weights = load_file(directory / "model.safetensors")
    assert name in weights
    if how == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("how", ["missing", "of the wrong shape"])
@pytest.mark.parametrize(
    ("name", "tensor", "fits"),
    [
        ("ast", "encoder.layer.1.output.dense.weight", False),
        ("whisper", "encoder.layers.1.fc1.weight", False),
        ("whisper", "decoder.layers.0.fc1.weight", True),
        ("clap", "audio_model.audio_encoder.layers.1.blocks.0.attention.self.key.weight", False),
        ("clap", "text_model.pooler.dense.weight", True),
        ("wav2vec2-bert", "encoder.layers.1.ffn1.output_dense.weight", False),
    ],
)
def test_weights_of_what_hears_fit_exactly_and_of_the_rest_need_not(
    tmp_path: Path, saved: Callable[[str], Path], name: str, tensor: str, fits: bool, how: str
) -> None:
    directory = shutil.copytree(saved(name), tmp_path / "spoilt")
    spoil(directory, tensor, how)
    if fits:
        load(tmp_path, 'model = "spoilt"')
    else:
        with pytest.raises(UserError, match=f"1 {how}"):
            load(tmp_path, 'model = "spoilt"')


def test_only_the_part_that_hears_is_kept(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    """A text tower or decoder would be counted as parameters, and move the fingerprint."""
    for name in ("whisper", "clap"):
        tower = CASES[name].tower(getattr(transformers, CASES[name].model).from_pretrained(saved(name)))
        loaded = ready(load(tmp_path, f'model = "{saved(name)}"'))
        assert loaded.parameters == sum(parameter.numel() for parameter in tower.parameters())


def test_a_fine_tuned_checkpoint_loads_without_its_head(tmp_path: Path) -> None:
    """AST is published with a classifier on it, speech models with one for speakers or letters."""
    for kind, config, preprocessor in (
        ("ASTForAudioClassification", AST, CASES["ast"].preprocessor),
        ("WhisperForConditionalGeneration", WHISPER, CASES["whisper"].preprocessor),
        ("HubertForCTC", {**SMALL, "vocab_size": 9}, Wav2Vec2FeatureExtractor()),
        ("WavLMForXVector", {**SMALL, "use_weighted_layer_sum": True}, Wav2Vec2FeatureExtractor()),
        ("Wav2Vec2ForPreTraining", SMALL, Wav2Vec2FeatureExtractor()),
        ("UniSpeechSatForPreTraining", SMALL, Wav2Vec2FeatureExtractor()),
        ("ClapAudioModelWithProjection", CLAP["audio_config"], CASES["clap"].preprocessor),
    ):
        model = getattr(transformers, kind)
        model = model(model.config_class(**config)).eval()
        model.save_pretrained(tmp_path / kind)
        preprocessor.save_pretrained(tmp_path / kind)
        if kind == "ASTForAudioClassification":
            names = load_file(tmp_path / kind / "model.safetensors")
            assert "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight" in names
        backbone = load(tmp_path, f'model = "{kind}"')
        theirs = model.base_model if kind != "ClapAudioModelWithProjection" else model.audio_model
        theirs = theirs.encoder if "Whisper" in kind else theirs
        torch.testing.assert_close(backbone.model.state_dict(), theirs.state_dict(), atol=0, rtol=0)


def test_a_checkpoint_in_the_format_of_old_loads(tmp_path: Path) -> None:
    """HuBERT and wav2vec 2.0 lie on the hub as pytorch_model.bin with the weight norm's old names."""
    directory = save_checkpoint(tmp_path / "old", "group")
    expected = encode(load(tmp_path, 'model = "old"'), sound(5_000))[0]
    weights = load_file(directory / "model.safetensors")
    convolution = "encoder.pos_conv_embed.conv"
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in weights.items()
    }
    assert {f"{convolution}.weight_g", f"{convolution}.weight_v"} <= set(renamed)
    torch.save(renamed, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    same(encode(load(tmp_path, 'model = "old"'), sound(5_000))[0], expected, 0)


class Code:
    """A weights file that would run code when it is unpickled without care."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("run"),))


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory = save_checkpoint(tmp_path / "bad", "group")
    torch.save({"harm": Code()}, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load(tmp_path, 'model = "bad"')
    assert not (tmp_path / "run").exists()


def test_a_model_that_hears_nothing_is_one_sentence(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=20, **small)).save_pretrained(tmp_path / "bert")
    transformers.ViTModel(transformers.ViTConfig(image_size=32, **small)).save_pretrained(tmp_path / "vit")
    for name, hears in (("bert", "text"), ("vit", "image")):
        with pytest.raises(UserError, match=f"no audio input: a '{name}' model takes {hears}"):
            load(tmp_path, f'model = "{name}"')


def test_a_spectrogram_model_without_its_preprocessor_is_one_sentence(
    tmp_path: Path, saved: Callable[[str], Path]
) -> None:
    directory = shutil.copytree(saved("ast"), tmp_path / "bare")
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        load(tmp_path, 'model = "bare"')


def test_noise_in_the_preprocessor_is_refused(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    directory = shutil.copytree(saved("whisper"), tmp_path / "noisy")
    WhisperFeatureExtractor(feature_size=20, chunk_length=2, dither=0.1).save_pretrained(directory)
    with pytest.raises(UserError, match="dither"):
        load(tmp_path, 'model = "noisy"')


OWN = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

class OwnConfig(PretrainedConfig):
    model_type = "own-audio"
    def __init__(self, width=8, depth=2, norm_last=True, **rest):
        super().__init__(**rest)
        self.width, self.depth, self.norm_last = width, depth, norm_last

class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Linear(width, width)
    def forward(self, states):
        return states + self.inner(states).tanh()

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    main_input_name = "input_values"
    def __init__(self, config):
        super().__init__(config)
        self.convolution = torch.nn.Conv1d(1, config.width, 400, 320)
        self.blocks = torch.nn.ModuleList([Block(config.width) for _ in range(config.depth)])
        self.norm = torch.nn.LayerNorm(config.width)
        self.post_init()
    def forward(self, input_values, output_hidden_states=False):
        states = self.convolution(input_values[:, None]).mT
        seen = [states]
        for block in self.blocks:
            states = block(states)
            seen.append(states)
        states = self.norm(states)
        if self.config.norm_last:
            seen[-1] = states
        return BaseModelOutput(states, tuple(seen) if output_hidden_states else None)
"""


def save_own(directory: Path, code: str = OWN) -> Any:
    """A checkpoint with a model of its own, as the hub has them; returns the model."""
    directory.mkdir()
    (directory / "modeling_own.py").write_text(code)
    spec = importlib.util.spec_from_file_location("modeling_own", directory / "modeling_own.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    model = module.OwnModel(module.OwnConfig()).eval()
    model.save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    (directory / "config.json").write_text(json.dumps(config))
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(directory)
    return model


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies a checkpoint's code to: not the home of whoever runs the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("modules")
def test_code_of_a_checkpoint_runs_only_where_the_submission_says_so(tmp_path: Path) -> None:
    model = save_own(tmp_path / "own")
    with pytest.raises(UserError, match="trust_remote_code = true"):
        load(tmp_path, 'model = "own"')
    with pytest.raises(UserError, match="trust_remote_code = true"):
        load(tmp_path, 'model = "own"\ntrust_remote_code = false')
    assert not (tmp_path / "modules").exists()
    keys = 'model = "own"\ntrust_remote_code = true'
    assert Submission.read(submission(tmp_path, keys)).arguments["trust_remote_code"] is True
    backbone = load(tmp_path, keys)
    waveform = sound(9_001)
    inputs = Wav2Vec2FeatureExtractor()(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        states = list(model(inputs, output_hidden_states=True).hidden_states)
        states[-1] = model.blocks[-1](states[-2])  # the model's own last one is after a norm
    same(encode(backbone, waveform)[0], [state[0] for state in states])
    assert backbone.exact_masking is False
    assert backbone.min_samples == 400
    # The same weights with other code are another model.
    before = dict(backbone.options)
    (tmp_path / "own" / "modeling_own.py").write_text(OWN.replace("tanh", "relu"))
    assert load(tmp_path, keys).options != before


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tuple(seen) if output_hidden_states else None", "None", "no hidden_states"),
        ("seen.append(states)", "seen.append(2 * states)", "one list of blocks"),
        ("seen = [states]", "states = states.mean(1, keepdim=True); seen = [states]", "more frames"),
        ("seen = [states]", "seen = [states.flatten(1)]", "not \\(batch, frames, width\\)"),
        ("input_values[:, None]", "input_values[:, None].nothing", "AttributeError"),
    ],
)
def test_an_encoder_that_does_not_show_its_layers_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A guess at what is a layer or a frame would be a wrong number that nobody sees."""
    assert old in OWN
    save_own(tmp_path / "own", OWN.replace(old, new))
    with pytest.raises(UserError, match=f'{said}.*loader = "python"'):
        load(tmp_path, 'model = "own"\ntrust_remote_code = true')


def test_an_encoder_not_known_by_name_is_heard_by_rule(tmp_path: Path) -> None:
    """Parakeet's mask hides the last mel frame of every clip, and its encoder keeps every eighth."""
    settings = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "num_mel_bins": 40, "subsampling_conv_channels": 8, "conv_kernel_size": 5,
    }  # fmt: skip
    model = transformers.ParakeetEncoder(transformers.ParakeetEncoderConfig(**settings)).eval()
    model.save_pretrained(tmp_path / "parakeet")
    preprocessor = transformers.ParakeetFeatureExtractor(feature_size=40)
    preprocessor.save_pretrained(tmp_path / "parakeet")
    backbone = load(tmp_path, 'model = "parakeet"\nmax_seconds = 2')
    for samples in (16_000, 17_313):
        waveform = sound(samples)
        inputs = preprocessor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
        kept = int(inputs.attention_mask.sum())
        seen: list[Tensor] = []
        hook = model.layers[-1].register_forward_hook(lambda module, args, output, seen=seen: seen.append(output))
        with torch.inference_mode():
            states = list(model(inputs.input_features[:, :kept], output_hidden_states=True).hidden_states)
        hook.remove()
        same(encode(backbone, waveform)[0], [state[0] for state in [*states[:-1], *seen]])
    assert backbone.exact_masking is False
    long = sound(40_000)
    halves = [encode(backbone, part)[0] for part in long.split(32_000)]
    same(encode(backbone, long)[0], [torch.cat(parts) for parts in zip(*halves, strict=True)])


def test_an_unknown_encoder_that_pads_to_a_window_is_refused(tmp_path: Path) -> None:
    settings = {
        key: WHISPER[key] for key in ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    }
    config = transformers.Qwen2AudioEncoderConfig(**settings, num_mel_bins=20, max_source_positions=100)
    transformers.Qwen2AudioEncoder(config).save_pretrained(tmp_path / "qwen")
    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(tmp_path / "qwen")
    with pytest.raises(UserError, match=r'pads every clip to one window.*loader = "python"'):
        load(tmp_path, 'model = "qwen"')


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Callable[[str], Path]) -> Path:
    """A model as huggingface_hub keeps what it has downloaded."""
    repository = tmp_path / "cache" / "models--someone--small"
    shutil.copytree(saved("wav2vec2"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / COMMIT


def test_a_hub_model_without_a_commit_says_how_to_pin_it(tmp_path: Path, hub: Path) -> None:
    for keys in ("", '\nrevision = "main"'):
        with pytest.warns(UserWarning, match=f'write revision = "{COMMIT}"'):
            load(tmp_path, f'model = "someone/small"{keys}')


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_pinned_hub_model_is_loaded_without_a_word(tmp_path: Path, hub: Path) -> None:
    checksum = hashlib.sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT}"')
    load(tmp_path, f'model = "someone/small"\nsha256 = "{checksum}"')
    with pytest.raises(UserError, match="is not the file"):
        load(tmp_path, f'model = "someone/small"\nsha256 = "{checksum[::-1]}"')
    with pytest.raises(UserError, match="revision"):
        load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT[::-1]}"')
