"""Loaders: the very hidden states of the original library, whatever shares the batch, and nothing loaded half."""

import json
import re
from pathlib import Path

import pytest
import torch
from builders import SMALL, save_checkpoint, write_submission
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from evaluator.backbone import ready
from evaluator.submission import Submission
from tasks.support.errors import UserError


def load(path: Path) -> torch.nn.Module:
    backbone = Submission.read(path).load()
    assert isinstance(backbone, torch.nn.Module)
    return ready(backbone).backbone  # type: ignore[return-value]


def huggingface(tmp_path: Path, keys: str) -> Path:
    return write_submission(tmp_path / "model.toml", f'loader = "huggingface"\n{keys}')


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.02


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_hidden_states_are_the_original_librarys_block_by_block(
    tmp_path: Path, checkpoints: dict[str, Path], kind: str
) -> None:
    """Layer i must be the output of block i after its residual: caught here by hooks on transformers' own model."""
    backbone = load(huggingface(tmp_path, f'model = "{checkpoints[kind]}"'))
    waveform = sound(9_000)
    with torch.inference_mode():
        ours, frames = backbone.encode(waveform[None], torch.tensor([9_000]))  # type: ignore[operator]
    original = AutoModel.from_pretrained(checkpoints[kind]).eval()
    seen: list[torch.Tensor] = []
    original.encoder.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    for block in original.encoder.layers:
        block.register_forward_hook(
            lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(checkpoints[kind])(
        waveform.numpy(), sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        original(inputs.input_values)
    assert len(ours) == len(seen) == len(backbone.layers) == SMALL["num_hidden_layers"] + 1  # type: ignore[arg-type]
    for mine, theirs in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert frames.tolist() == [ours[0].shape[1]]


def test_zeroing_a_block_changes_its_own_layer_and_the_later_ones_only(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """Proves the order of the layers, which decides what 'best layer 2' means."""
    backbone = load(huggingface(tmp_path, f'model = "{checkpoints["group"]}"'))
    waveform, lengths = sound(6_000)[None], torch.tensor([6_000])
    with torch.inference_mode():
        before, _ = backbone.encode(waveform, lengths)  # type: ignore[operator]
        for parameter in backbone.model.encoder.layers[1].parameters():  # type: ignore[union-attr,operator,index]
            parameter.zero_()
        after, _ = backbone.encode(waveform, lengths)  # type: ignore[operator]
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert same == [True, True, False, False]


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_a_clip_alone_and_among_longer_ones_has_the_same_features(
    tmp_path: Path, checkpoints: dict[str, Path], kind: str
) -> None:
    """Padding that leaks would make a clip's features depend on its neighbours. Where masks are not exact, unequal
    clips must never share a batch; this goes through the extraction that real runs use."""
    from types import SimpleNamespace

    from evaluator.features.clips import Clip
    from evaluator.features.cuts import Cut
    from evaluator.features.extraction import Extractor
    from tasks.sound import Header

    model = ready(Submission.read(huggingface(tmp_path, f'model = "{checkpoints[kind]}"')).load())
    extractor = Extractor.of(model, torch.device("cpu"))
    lengths = [5_000, 16_000, 9_000, 5_000, 23_000]
    sounds = [sound(length, seed) for seed, length in enumerate(lengths)]
    clips = [
        Clip(i, SimpleNamespace(path=Path(f"{i}.wav"), id=str(i)), Header(16_000, n), Cut(0, n, n), n)  # type: ignore[arg-type]
        for i, n in enumerate(lengths)
    ]
    together = extractor.encode(clips, sounds, frames=True)
    for place in range(len(clips)):
        alone = extractor.encode(clips[place : place + 1], sounds[place : place + 1], frames=True)
        torch.testing.assert_close(together.pooled[0][:, place], alone.pooled[0][:, 0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.frames(0)[place], alone.frames(0)[0], atol=2e-3, rtol=0)


def test_the_checkpoints_own_normalisation_is_followed(tmp_path: Path) -> None:
    """Models pretrained without normalisation (AVES, WavLM base) get other features with it."""
    quiet, loud = sound(8_000), sound(8_000) * 10
    for normalise in (True, False):
        directory = save_checkpoint(tmp_path / f"model-{normalise}", "group", do_normalize=normalise)
        backbone = load(huggingface(tmp_path, f'model = "{directory}"'))
        with torch.inference_mode():
            one = backbone.encode(quiet[None], torch.tensor([8_000]))[0][-1]  # type: ignore[operator]
            other = backbone.encode(loud[None], torch.tensor([8_000]))[0][-1]  # type: ignore[operator]
        assert torch.allclose(one, other, atol=1e-4) == normalise


def test_random_weights_are_the_same_every_time_and_not_the_checkpoints(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    control = huggingface(tmp_path, f'model = "{checkpoints["group"]}"\nweights = "random"\nseed = 3')
    torch.manual_seed(11)
    first = ready(Submission.read(control).load()).weights_sha256
    torch.manual_seed(12)
    assert ready(Submission.read(control).load()).weights_sha256 == first
    pretrained = huggingface(tmp_path, f'model = "{checkpoints["group"]}"')
    assert ready(Submission.read(pretrained).load()).weights_sha256 != first


def test_everything_is_frozen_and_in_evaluation_mode(tmp_path: Path) -> None:
    """A control with dropout on was published once."""
    keys = 'architecture = "hubert"\nweights = "random"\n[submission.config]\nhidden_dropout = 0.5\n' + "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in SMALL.items()
    )
    backbone = load(huggingface(tmp_path, keys))
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    with torch.inference_mode():
        runs = [backbone.encode(sound(5_000)[None], torch.tensor([5_000]))[0][-1] for _ in range(2)]  # type: ignore[operator]
    assert torch.equal(*runs)


def spoil(directory: Path, how: str) -> None:
    weights = load_file(directory / "model.safetensors")
    name = "encoder.layers.1.attention.k_proj.weight"
    if how == "missing":
        del weights[name]
    elif how == "wrong shape":
        weights[name] = torch.zeros(3, 3)
    else:
        weights["encoder.layers.9.extra.weight"] = torch.zeros(2)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("how", "said"), [("missing", "missing"), ("wrong shape", "shape|size mismatch"), ("unexpected", "unexpected")]
)
def test_weights_that_do_not_fit_exactly_are_refused(tmp_path: Path, how: str, said: str) -> None:
    """Tensors left at random have been evaluated for months elsewhere."""
    directory = save_checkpoint(tmp_path / "checkpoint", "group")
    spoil(directory, how)
    with pytest.raises(UserError, match=said):
        load(huggingface(tmp_path, f'model = "{directory}"'))


def test_a_pretraining_head_in_the_checkpoint_is_no_reason_to_refuse(tmp_path: Path) -> None:
    directory = save_checkpoint(tmp_path / "checkpoint", "group")
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros(5, 32)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    load(huggingface(tmp_path, f'model = "{directory}"'))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('model = "no/such-model"', "hub"),
        ('model = "x"\narchitecture = "hubert"', "either"),
        ('architecture = "hubert"', "random"),
        ('architecture = "bert"\nweights = "random"', "unknown"),
        ('model = "x"\nrevison = "main"', "revison: unknown key"),
        ('model = "x"\nseed = "one"', "seed"),
        (
            'architecture = "hubert"\nweights = "random"\nconfig = { hidden_sise = 3, num_attention_heads = 7 }',
            "hidden_si|config",
        ),
    ],
)
def test_a_wrong_submission_is_one_sentence(tmp_path: Path, keys: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(huggingface(tmp_path, keys))


def test_without_a_preprocessor_nothing_is_guessed(tmp_path: Path) -> None:
    directory = save_checkpoint(tmp_path / "checkpoint", "group")
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="do_normalize"):
        load(huggingface(tmp_path, f'model = "{directory}"'))
    load(huggingface(tmp_path, f'model = "{directory}"\ndo_normalize = true\nsample_rate = 16000'))


OWN = """
import torch
from evaluator.backbone import Backbone, Layer

class Tiny(torch.nn.Module):
    sample_rate, layers = 16_000, [Layer("conv", 8), Layer("pooled", 4)]
    def __init__(self):
        super().__init__()
        self.conv, self.down = torch.nn.Conv1d(1, 8, 400, 160), torch.nn.Conv1d(8, 4, 2, 2)
    def encode(self, waveforms, lengths):
        one = self.conv(waveforms[:, None]).relu(); frames = (lengths - 400) // 160 + 1
        return [one.mT, self.down(one).mT], [frames, frames // 2]
"""


def test_a_users_own_model_takes_twelve_lines_and_may_have_unequal_layers(tmp_path: Path) -> None:
    assert len([line for line in OWN.splitlines() if line.strip()]) <= 12
    (tmp_path / "mine.py").write_text(OWN)
    submission = write_submission(tmp_path / "mine.toml", 'loader = "python"\ntarget = "mine:Tiny"')
    first = ready(Submission.read(submission).load())
    assert [layer.width for layer in first.backbone.layers] == [8, 4]
    # Random weights that change from run to run would never find their features again.
    assert ready(Submission.read(submission).load()).weights_sha256 == first.weights_sha256


def test_an_edited_model_is_another_model(tmp_path: Path) -> None:
    """The weights are the same, the computation is not: old features must not be read."""
    (tmp_path / "mine.py").write_text(OWN)
    submission = write_submission(tmp_path / "mine.toml", 'loader = "python"\ntarget = "mine:Tiny"')
    before = ready(Submission.read(submission).load()).options
    (tmp_path / "mine.py").write_text(OWN.replace(".relu()", ".tanh()"))
    assert ready(Submission.read(submission).load()).options != before


@pytest.mark.parametrize(
    ("target", "said"),
    [("nowhere:load", "nowhere"), ("mine", "module:function"), ("mine:missing", "missing"), ("mine:wrong", "layers"),
     ("mine:fails", "ZeroDivisionError"), (":Mine", "module:function"), ("../mine:Mine", "module:function"),
     ("other:load", r"and 'other' cannot be imported; .*work/other\.py does exist: put it beside the submission file")],
)  # fmt: skip
def test_a_wrong_target_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/other.py").touch()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "mine.py").write_text("def wrong():\n    return object()\ndef fails():\n    return 1 / 0\n")
    with pytest.raises(UserError, match=said):
        Submission.read(write_submission(tmp_path / "m.toml", f'loader = "python"\ntarget = "{target}"')).load()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("", "mine.py needs no-such, which is not installed: install the package that has it."),
        (
            "no-such==1\n",
            "which is not installed: run `python -m pip install --no-deps --require-hashes --requirement ",
        ),
    ],
)
def test_a_submission_whose_package_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, said: str
) -> None:
    """Else the user reads PackageNotFoundError, and must find out which command brings the package."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from importlib.metadata import distribution\ndistribution('no-such')\n")
    if file:
        (tmp_path / "requirements-mine.txt").write_text(file)
        said += "requirements-mine.txt`."
    path = write_submission(tmp_path / "m.toml", 'loader = "python"\ntarget = "mine:Mine"')
    with pytest.raises(UserError, match=re.escape(said)):
        Submission.read(path).load()


def test_every_committed_submission_is_valid_and_says_what_readers_need() -> None:
    files = sorted((Path(__file__).parents[2] / "submissions").glob("*.toml"))
    assert {"statistics", "random-hubert-base", "hubert-base", "wavlm-large"} <= {path.stem for path in files}
    for path in files:
        entry = Submission.read(path)
        assert entry.name == path.stem
        assert entry.about is not None and entry.about.description
        if "model" in entry.arguments and not entry.arguments["model"].startswith("./"):
            # Loading one that says so names the commit to write there.
            assert len(entry.arguments["revision"]) == 40 or "# To be pinned" in path.read_text(), path.name
