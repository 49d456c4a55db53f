"""XEUS: ESPnet's own hidden states, from the two files that ESPnet writes."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from builders import write_submission

from evaluator.backbone import Loaded, ready
from evaluator.submission import Submission
from tasks.support.errors import UserError

# XEUS' architecture in small, with the keys of the config.yaml that ESPnet writes beside its weights.
XEUS: dict[str, Any] = {
    "init": None,
    "input_size": None,
    "token_list": ["0", "1", "2"],
    "frontend": "wav2vec_cnn",
    "frontend_conf": {
        "norm_mode": "layer_norm",
        "conv_mode": "standard",
        "bias": True,
        "normalize_output": True,
        "shapes": [[16, 10, 5], *([[16, 3, 2]] * 4), *([[16, 2, 2]] * 2)],
    },
    "specaug": None,
    "specaug_conf": {},
    "normalize": None,
    "normalize_conf": {},
    "preencoder": "linear",
    "preencoder_conf": {"output_size": 32, "dropout": 0.1},
    "encoder": "e_branchformer",
    "encoder_conf": {
        "output_size": 32,
        "attention_heads": 4,
        "attention_layer_type": "selfattn",
        "pos_enc_layer_type": "conv",
        "cgmlp_linear_units": 64,
        "cgmlp_conv_kernel": 31,
        "num_blocks": 3,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "attention_dropout_rate": 0.1,
        "input_layer": None,
        "layer_drop_rate": 0.1,
        "linear_units": 64,
        "use_ffn": True,
        "macaron_ffn": True,
        "merge_conv_kernel": 31,
    },
    "loss": [{"name": "hubert", "conf": {"num_classes": 3, "final_dim": 8}}],
    "util": [{"name": "mask", "conf": {"mask_prob": 0.8}}],
    "model": "espnet",
    "model_conf": {},
}
KINDS: dict[str, dict[str, Any]] = {
    "xeus": {},
    "relative positions": {"encoder_conf": {"attention_layer_type": "rel_selfattn", "pos_enc_layer_type": "rel_pos"}},
    "normalised audio": {"frontend_conf": {"normalize_audio": True}},
    "normalised features": {"normalize": "utterance_mvn", "normalize_conf": {"norm_vars": True}},
    "checkpointed gradients": {"encoder_conf": {"gradient_checkpoint_layers": [0, 1]}},
}


@pytest.fixture(scope="module")
def task() -> Any:
    """The real SSLTask, imported as the loader imports it: without nltk's downloads."""
    # CI sets this, so that tests which were never run there cannot pass for tests that ran.
    if "BEANS_NEED_ESPNET" not in os.environ:
        pytest.importorskip("espnet2", reason="needs ESPnet (make xeus)")
    from evaluator.backbones.espnet import _import_task, _quietly

    with _quietly():
        return _import_task()


def small(**changes: Any) -> dict[str, Any]:
    return {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else changes.get(key, value)
            for key, value in XEUS.items()}  # fmt: skip


def save(directory: Path, task: Any, config: dict[str, Any], keys: str = "") -> Path:
    """Make a model with SSLTask, pretraining head and all, and save it as ESPnet does. Returns the submission."""
    from argparse import Namespace

    directory.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = task.build_model(Namespace(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), directory / "checkpoint.pth")
    return submission(directory, f'config = "config.yaml"\ncheckpoint = "checkpoint.pth"\n{keys}')


def submission(directory: Path, keys: str) -> Path:
    return write_submission(directory / "small.toml", f'loader = "espnet"\n{keys}')


def load(path: Path) -> Loaded:
    return ready(Submission.read(path).load())


def original(task: Any, directory: Path) -> Any:
    """The model as ESPnet itself loads it."""
    model, _ = task.build_model_from_file(directory / "config.yaml", directory / "checkpoint.pth")
    return model.eval()


def encode(model: Loaded, *sounds: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    with torch.inference_mode():
        layers, frames = model.backbone.encode(torch.stack(sounds), torch.tensor([len(sound) for sound in sounds]))
    assert isinstance(frames, torch.Tensor)
    return layers, frames


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_espnets_own_block_by_block(tmp_path: Path, task: Any, kind: str) -> None:
    """Against what ESPnet's own loading and inference_encode return, and against hooks on its blocks."""
    ours, frames = encode(load(save(tmp_path / "m", task, small(**KINDS[kind]))), sound(9_000))
    reference = original(task, tmp_path / "m")
    seen: list[torch.Tensor] = []

    def keep(value: Any) -> None:
        seen.append(value[0] if isinstance(value, tuple) else value)

    reference.encoder.encoders[0].register_forward_pre_hook(lambda module, args: keep(args[0]))
    for block in reference.encoder.encoders:
        block.register_forward_hook(lambda module, args, output: keep(output[0]))
    with torch.no_grad():
        _, theirs, count = reference.inference_encode(
            sound(9_000)[None], torch.tensor([9_000]), use_mask=False, use_final_output=False
        )
    assert len(ours) == len(seen) == len(theirs) + 1 == 4
    for mine, hooked in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, hooked, atol=1e-5, rtol=0)
    for mine, returned in zip(ours[1:], theirs, strict=True):
        torch.testing.assert_close(mine, returned, atol=1e-5, rtol=0)
    assert frames.tolist() == count.tolist() == [ours[0].shape[1]]


def test_layer_0_is_what_enters_block_1_positions_included(tmp_path: Path, task: Any) -> None:
    ours, _ = encode(load(save(tmp_path / "m", task, small())), sound(9_000))
    reference = original(task, tmp_path / "m")
    with torch.no_grad():
        features, lengths = reference.frontend(sound(9_000)[None], torch.tensor([9_000]))
        expected = reference.encoder.embed(reference.preencoder(features, lengths)[0])
    torch.testing.assert_close(ours[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_silenced_block_is_only_its_own_final_norm_of_the_layer_before_it(
    tmp_path: Path, task: Any, block: int
) -> None:
    """Proves the order of the layers, and that the residuals and the block's norm are in, with nothing on top."""
    model = load(save(tmp_path / "m", task, small()))
    silenced = model.backbone.model.encoder.encoders[block - 1]  # type: ignore[attr-defined]
    for linear in (silenced.feed_forward_macaron.w_2, silenced.merge_proj, silenced.feed_forward.w_2):
        linear.weight.zero_()
        linear.bias.zero_()
    layers, _ = encode(model, sound(8_000))
    blocks = model.backbone.model.encoder.encoders  # type: ignore[attr-defined]
    same = [
        torch.allclose(layers[index], blocks[index - 1].norm_final(layers[index - 1]), atol=1e-5)
        for index in range(1, 4)
    ]
    assert same == [index == block for index in range(1, 4)]


@pytest.mark.parametrize("kind", ["xeus", "normalised audio", "normalised features"])
def test_clips_of_equal_length_do_not_change_one_another(tmp_path: Path, task: Any, kind: str) -> None:
    """ESPnet normalises audio over the whole batch: a quiet clip beside a loud one would become another clip.

    In double precision, where a leak stays and rounding goes: features that are divided by their deviation over time
    round to no better than 1e-4 in single precision.
    """
    model = load(save(tmp_path / "m", task, small(**KINDS[kind])))
    assert isinstance(model.backbone, torch.nn.Module)
    model.backbone.double()
    sounds = [one.double() for one in (sound(9_000) * 0.01, sound(9_000, 1) * 5, sound(9_000, 2))]
    together, _ = encode(model, *sounds)
    for place, one in enumerate(sounds):
        for layer, mine in zip(together, encode(model, one)[0], strict=True):
            torch.testing.assert_close(layer[place], mine[0], atol=1e-10, rtol=0)


def test_padding_would_change_a_clip_so_unequal_clips_do_not_share_a_batch(tmp_path: Path, task: Any) -> None:
    """ESPnet's masks do not reach the convolutions inside the blocks; real runs must not depend on them."""
    from evaluator.features.clips import Clip
    from evaluator.features.cuts import Cut
    from evaluator.features.extraction import Extractor
    from tasks.sound import Header

    model = load(save(tmp_path / "m", task, small()))
    alone, count = encode(model, sound(9_000))
    padded = torch.nn.functional.pad(sound(9_000), (0, 7_000))
    with torch.inference_mode():
        among, _ = model.backbone.encode(torch.stack([padded, sound(16_000, 1)]), torch.tensor([9_000, 16_000]))
    assert float((among[-1][0, : count[0]] - alone[-1][0]).abs().max()) > 1e-3
    assert not model.exact_masking
    extractor = Extractor.of(model, torch.device("cpu"))
    lengths = [5_000, 16_000, 9_000, 5_000]
    sounds = [sound(length, seed) for seed, length in enumerate(lengths)]
    clips = [
        Clip(i, SimpleNamespace(path=Path(f"{i}.wav"), id=str(i)), Header(16_000, n), Cut(0, n, n), n)  # type: ignore[arg-type]
        for i, n in enumerate(lengths)
    ]
    together = extractor.encode(clips, sounds, frames=False)
    for place in range(len(clips)):
        single = extractor.encode(clips[place : place + 1], sounds[place : place + 1], frames=False)
        torch.testing.assert_close(together.pooled[0][:, place], single.pooled[0][:, 0], atol=1e-5, rtol=0)


def test_the_record_says_what_is_done_to_the_amplitude(tmp_path: Path, task: Any) -> None:
    plain = load(save(tmp_path / "plain", task, small()))
    normal = load(save(tmp_path / "normal", task, small(frontend_conf={"normalize_audio": True})))
    assert (plain.normalisation, normal.normalisation) == ("none", "zero mean and unit variance per clip")
    assert plain.options != normal.options
    assert plain.backbone.sample_rate == 16_000
    assert load(save(tmp_path / "rate", task, small(frontend_conf={"fs": "8k"}))).backbone.sample_rate == 8_000


def test_the_shortest_clip_gives_one_frame(tmp_path: Path, task: Any) -> None:
    model = load(save(tmp_path / "m", task, small()))
    assert model.min_samples == 400
    layers, frames = encode(model, sound(400))
    assert layers[-1].shape == (1, 1, 32)
    assert frames.tolist() == [1]


def test_under_bfloat16_autocast_layers_are_espnets_own_too(tmp_path: Path, task: Any) -> None:
    """Bit by bit, with ESPnet's own fused attention, which the loader always takes."""
    model = load(save(tmp_path / "m", task, small()))
    reference = original(task, tmp_path / "m")
    for block in reference.encoder.encoders:
        block.attn.use_sdpa = True
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ours, _ = encode(model, sound(8_000))
        _, theirs, _ = reference.inference_encode(sound(8_000)[None], torch.tensor([8_000]))
    for mine, returned in zip(ours[1:], theirs, strict=True):
        torch.testing.assert_close(mine, returned, atol=0, rtol=0)


def test_the_pretraining_head_is_neither_needed_nor_counted(tmp_path: Path, task: Any) -> None:
    path = save(tmp_path / "m", task, small())
    full = load(path)
    weights = torch.load(tmp_path / "m" / "checkpoint.pth")
    encoder = {k: v for k, v in weights.items() if not k.startswith(("losses.", "util_modules.", "global_step"))}
    assert len(encoder) < len(weights)
    torch.save(encoder, tmp_path / "m" / "checkpoint.pth")
    assert load(path).weights_sha256 == full.weights_sha256
    assert full.parameters == sum(value.numel() for value in encoder.values())
    # As DeepSpeed saves it.
    torch.save({"module": weights}, tmp_path / "m" / "checkpoint.pth")
    assert load(path).weights_sha256 == full.weights_sha256


@pytest.mark.parametrize("how", ["missing", "of another shape", "unexpected"])
def test_weights_that_do_not_fit_exactly_are_refused(tmp_path: Path, task: Any, how: str) -> None:
    """ESPnet's own loading is not strict: it would go on with random tensors."""
    path = save(tmp_path / "m", task, small())
    weights = torch.load(tmp_path / "m" / "checkpoint.pth")
    name = "encoder.encoders.1.merge_proj.weight"
    if how == "missing":
        del weights[name]
    elif how == "of another shape":
        weights[name] = torch.zeros(3, 3)
    else:
        name = "masker.mask_emb"
        weights[name] = torch.zeros(2)
    torch.save(weights, tmp_path / "m" / "checkpoint.pth")
    with pytest.raises(UserError, match=f"1 tensors {how} .{name}"):
        load(path)


def test_random_weights_are_the_same_every_time_and_leave_other_random_numbers_alone(tmp_path: Path, task: Any) -> None:
    pretrained = load(save(tmp_path / "m", task, small()))
    control = submission(tmp_path / "m", 'config = "config.yaml"\nweights = "random"\nseed = 3')
    torch.manual_seed(11)
    first = load(control)
    following = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(3), following), "loading a control moved the caller's random numbers"
    assert load(control).weights_sha256 == first.weights_sha256 != pretrained.weights_sha256
    assert first.parameters == pretrained.parameters
    assert isinstance(first.backbone, torch.nn.Module)
    assert not first.backbone.training
    assert torch.equal(*(encode(first, sound(5_000))[0][-1] for _ in range(2))), "dropout is on"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frontend": "default"}, "this loader takes 'wav2vec_cnn' and 'e_branchformer'"),
        ({"encoder": "conformer"}, "this loader takes"),
        ({"encoder_conf": {"input_layer": "conv2d"}}, "input_layer"),
        ({"encoder_conf": {"attention_heads": 5}}, "does not make a model: AssertionError"),
        ({"encoder_conf": {"blocks": 5}}, "does not make a model: TypeError: .*blocks"),
    ],
)
def test_a_config_of_another_model_is_one_sentence(
    tmp_path: Path, task: Any, change: dict[str, Any], said: str
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small(**change)))
    with pytest.raises(UserError, match=said) as caught:
        load(submission(tmp_path, 'config = "config.yaml"\nweights = "random"'))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('config = "config.yaml"', "checkpoint is missing"),
        ('config = "config.yaml"\ncheckpoint = "c.pth"\nweights = "random"', "goes without checkpoint"),
        ('config = "nowhere.yaml"\nweights = "random"', r"nowhere\.yaml does not exist"),
        ('config = "broken.yaml"\nweights = "random"', "not valid YAML"),
        ('config = "text.yaml"\nweights = "random"', "lacks frontend"),
        ('config = "config.yaml"\ncheckpoint = "config.yaml"\nsha256 = "00"', "not the file that was pinned"),
    ],
)
def test_a_wrong_submission_is_one_sentence(tmp_path: Path, task: Any, keys: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(XEUS))
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "text.yaml").write_text("just words")
    with pytest.raises(UserError, match=said) as caught:
        load(submission(tmp_path, keys))
    assert "\n" not in str(caught.value)


def test_without_espnet_one_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs no ESPnet: the import is made to fail as it does where it is not installed."""
    for name in [name for name in sys.modules if name == "espnet2" or name.startswith("espnet2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "espnet2", None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(XEUS))
    with pytest.raises(UserError, match=r"needs ESPnet, but .*: run `make xeus`") as caught:
        load(submission(tmp_path, 'config = "config.yaml"\nweights = "random"'))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_loading_prints_nothing_downloads_nothing_and_leaves_logging_as_it_was(tmp_path: Path, task: Any) -> None:
    """In a fresh process: importing ESPnet prints, sets up logging, and lets nltk write dictionaries to the home."""
    path = save(tmp_path / "m", task, small())
    program = (
        "import logging, sys; from pathlib import Path; from evaluator.submission import Submission\n"
        "import nltk; nltk.download = lambda *a, **k: sys.exit('nltk.download was called')\n"
        f"Submission.read(Path({str(path)!r})).load()\n"
        "assert not logging.getLogger().handlers, logging.getLogger().handlers\n"
        "assert logging.root.manager.disable == logging.NOTSET\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert logging.root.manager.disable == logging.NOTSET
