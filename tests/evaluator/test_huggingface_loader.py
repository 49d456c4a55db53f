"""Every Hugging Face family: transformers' own hidden states, and frames that follow the clip."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from builders import SMALL
from huggingface_cases import (
    AST,
    BERT,
    CASES,
    CLAP,
    CLAP_FUSED,
    SPECTROGRAMS,
    SQUEEZED,
    WAVEFORMS,
    WHISPER,
    Case,
    encode,
    load,
    same,
    sound,
    write_checkpoint,
)
from torch import Tensor
from transformers import ClapFeatureExtractor, WhisperFeatureExtractor

from evaluator.backbone import ready
from evaluator.backbones.huggingface.encoder import spectra
from evaluator.backbones.huggingface.families import FAMILIES
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Extractor
from tasks.sound import Header
from tasks.support.errors import UserError


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
        load(tmp_path, f'model = "{saved(name)}"\n{keys}') for keys in ("", "max_seconds = 0.5", "max_seconds = 0.0")
    )
    same(encode(limited, clip)[0], encode(default, clip)[0], 0)
    assert default.options["window_samples"] == 60 * 16_000
    assert "60 s" in default.normalisation
    assert "chunks" not in never.normalisation
    longer = sound(11_000)
    same(encode(never, longer)[0], encode(default, longer)[0], 0)
    with pytest.raises(AssertionError):
        same(encode(limited, longer)[0], encode(default, longer)[0])


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
    for samples in (16_000, 16_640, 17_313):
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
    # Dropout would make its blocks unlike its hidden states.
    load(tmp_path, 'model = "parakeet"\nweights = "random"')


def test_an_unknown_encoder_that_pads_to_a_window_is_refused(tmp_path: Path) -> None:
    settings = {
        key: WHISPER[key] for key in ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    }
    config = transformers.Qwen2AudioEncoderConfig(**settings, num_mel_bins=20, max_source_positions=100)
    transformers.Qwen2AudioEncoder(config).save_pretrained(tmp_path / "qwen")
    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(tmp_path / "qwen")
    with pytest.raises(UserError, match=r'pads every clip to one window.*loader = "python"'):
        load(tmp_path, 'model = "qwen"')
