"""Checkpoints of Hugging Face: nothing loaded half, nothing unpinned without a word, no code that nobody trusted."""

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from builders import SMALL, save_checkpoint
from huggingface_cases import (
    AST,
    CASES,
    CLAP,
    WHISPER,
    encode,
    load,
    same,
    sound,
    submission,
    write_checkpoint,
)
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from evaluator.backbone import ready
from evaluator.submission import Submission
from tasks.support.errors import UserError


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("ast", "max_seconds = 5", "windows of 0.96 s"),
        ("wav2vec2", "max_seconds = inf", "max_seconds: Infinity is no finite number"),
        ("wav2vec2", "max_seconds = -1.0", "max_seconds: -1.0 is below 0"),
        ("whisper", "do_normalize = true", "do_normalize"),
        ("clap", "sample_rate = 16000", "sample_rate"),
        ("wav2vec2", 'revision = "main"', "sha256"),
        ("wav2vec2", f'sha256 = "{"0" * 64}"', "is not the file"),
        ("wav2vec2", f'weights = "random"\nsha256 = "{"0" * 64}"', "not read"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(tmp_path: Path, name: str, keys: str, said: str) -> None:
    directory = write_checkpoint(tmp_path / "model", CASES[name])
    with pytest.raises(UserError, match=re.escape(said)):
        load(tmp_path, f'model = "{directory}"\n{keys}')


def test_a_directory_is_pinned_by_the_checksum_of_its_weights(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "copy", CASES["whisper"])
    weights = directory / "model.safetensors"
    keys = f'model = "copy"\nsha256 = "{hashlib.sha256(weights.read_bytes()).hexdigest()}"'
    load(tmp_path, keys)
    tensors = load_file(weights)
    tensors["encoder.conv1.bias"] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=hashlib.sha256(weights.read_bytes()).hexdigest()):
        load(tmp_path, keys)


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
    tmp_path: Path, name: str, tensor: str, fits: bool, how: str
) -> None:
    directory = write_checkpoint(tmp_path / "spoilt", CASES[name])
    spoil(directory, tensor, how)
    if fits:
        load(tmp_path, 'model = "spoilt"')
    else:
        with pytest.raises(UserError, match=f"1 {how}"):
            load(tmp_path, 'model = "spoilt"')


def test_only_the_part_that_hears_is_kept(tmp_path: Path) -> None:
    """A text tower or decoder would be counted as parameters, and move the fingerprint."""
    for name in ("whisper", "clap"):
        directory = write_checkpoint(tmp_path / name, CASES[name])
        tower = CASES[name].tower(getattr(transformers, CASES[name].model).from_pretrained(directory))
        loaded = ready(load(tmp_path, f'model = "{directory}"'))
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


def test_a_spectrogram_model_without_its_preprocessor_is_one_sentence(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "bare", CASES["ast"])
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        load(tmp_path, 'model = "bare"')


def test_noise_in_the_preprocessor_is_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "noisy", CASES["whisper"])
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


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as huggingface_hub keeps what it has downloaded."""
    repository = tmp_path / "cache" / "models--someone--small"
    write_checkpoint(repository / "snapshots" / COMMIT, CASES["wav2vec2"])
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / COMMIT


def test_a_hub_model_without_a_commit_says_how_to_pin_it(tmp_path: Path, hub: Path) -> None:
    for keys in ("", '\nrevision = "main"'):
        with pytest.warns(UserWarning, match=f'write revision = "{COMMIT}"'):
            load(tmp_path, f'model = "someone/small"{keys}')


def test_a_directory_where_the_command_runs_is_never_taken_for_a_model_of_the_hub(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers takes one of that name itself, and a record then pins weights that no commit has seen."""
    write_checkpoint(tmp_path / "someone/small", CASES["hubert"])
    write_checkpoint(tmp_path / "mine", CASES["hubert"])
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    for keys in ("", f'\nrevision = "{COMMIT}"'):
        for name, other in (("someone/small", ""), ("./mine", "."), ("mine", "")):
            with pytest.raises(UserError) as caught:
                load(tmp_path / "files", f'model = "{name}"{keys}')
            said = str(caught.value)
            directory = name.removeprefix("./")
            assert f"model {tmp_path}/files/{directory} does not exist, but {tmp_path}/{directory} does" in said
            assert f'paths start at the submission file, so write model = "../{directory}"' in said
            assert ("for the model of that name on the hub, run this in another directory" in said) == (not other)
    with pytest.raises(UserError, match=r"revision names a commit of the hub, but .*mine is a directory: pin it with"):
        load(tmp_path / "files", f'model = "../mine"\nrevision = "{COMMIT}"')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    keys = f'model = "someone/small"\nrevision = "{COMMIT}"'
    assert load(tmp_path / "files", keys).options["architecture"] == "wav2vec2", "the hub's"
    assert load(tmp_path / "files", 'model = "../mine"').options["architecture"] == "hubert"


def test_a_misspelt_model_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/empty").mkdir()
    (tmp_path / "config.json").write_text("{}")
    hub = r"neither a directory, for there is no {}, nor a model the hub gives us \(.*\): check the spelling"
    for name, said in (
        ("../my-huberd", f"^[^:]*: model {tmp_path}/my-huberd does not exist: give a directory .* or a hub id such as"),
        (f"{tmp_path}/my-huberd", f"model {tmp_path}/my-huberd does not exist: give"),
        ("my-huberd", hub.format(f"{tmp_path}/files/my-huberd")),
        ("me/my-huberd", hub.format(f"{tmp_path}/files/me/my-huberd")),
        ("empty", "files/empty' is no directory made with save_pretrained"),
        ("config.json", f"model {tmp_path}/config.json is a file: give its directory"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            load(tmp_path / "files", f'model = "{name}"')
        assert "Repo id" not in str(caught.value) and "\n" not in str(caught.value)


def test_no_bar_is_drawn_where_nobody_watches(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A log would be full of `Loading weights: 0%|`."""
    transformers.logging.enable_progress_bar()
    load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT}"')
    assert capfd.readouterr().err == ""
    # Where somebody watches, a download keeps its bar; this one is there already, but weights draw one, too.
    transformers.logging.enable_progress_bar()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT}"')
    assert "Loading weights" in capfd.readouterr().err


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_pinned_hub_model_is_loaded_without_a_word(tmp_path: Path, hub: Path) -> None:
    checksum = hashlib.sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT}"')
    load(tmp_path, f'model = "someone/small"\nsha256 = "{checksum}"')
    with pytest.raises(UserError, match="is not the file"):
        load(tmp_path, f'model = "someone/small"\nsha256 = "{checksum[::-1]}"')
    with pytest.raises(UserError, match="revision"):
        load(tmp_path, f'model = "someone/small"\nrevision = "{COMMIT[::-1]}"')
