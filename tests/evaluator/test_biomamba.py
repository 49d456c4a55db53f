"""BioMamba: the mixer is the recurrence of the Mamba-2 paper, its weights are mamba_ssm's, and nothing loads half."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import SMALL, save_checkpoint, write_submission
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    Mamba2Config,
    Mamba2Model,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from evaluator.backbone import ready
from evaluator.backbones.biomamba.mixers import Mixer, kernels_on
from evaluator.backbones.biomamba.register import BioMambaConfig, BioMambaForPreTraining, BioMambaModel
from evaluator.submission import Submission
from tasks.support.errors import UserError

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "state_size": 8,
    "head_dim": 8,
    "conv_dim": [16] * 7,
    "num_clusters": 5,
}
SHAPES = [
    # hidden, state, head_dim, expand, n_groups, conv kernel, frames
    (16, 4, 8, 2, 1, 4, 1),
    (16, 4, 32, 2, 1, 4, 50),
    (24, 16, 8, 2, 1, 3, 129),
    (32, 8, 8, 3, 4, 4, 301),
    (16, 128, 4, 1, 2, 2, 130),
]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read when huggingface_hub is imported, which is long past."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small wait for a second thread longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(path: Path) -> Any:
    return ready(Submission.read(path).load()).backbone


def submit(tmp_path: Path, keys: str) -> Path:
    return write_submission(tmp_path / "model.toml", f'loader = "biomamba"\n{keys}')


def submit_random(tmp_path: Path, keys: str = "", **config: Any) -> Path:
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**TINY, **config}.items())
    return submit(tmp_path, f'weights = "random"\n{keys}\n[submission.config]\n{table}')


def save(directory: Path, **config: Any) -> Path:
    torch.manual_seed(0)
    BioMambaModel(BioMambaConfig(**{**TINY, **config})).save_pretrained(directory)
    return directory


def sound(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.02


def random_mixer(shape: tuple[int, ...], seed: int = 0) -> tuple[Mixer, Tensor]:
    """A mixer all of whose parameters are far from their initial values, and (2, frames, hidden) input."""
    hidden, state, head_dim, expand, groups, kernel, frames = shape
    torch.manual_seed(seed)
    mixer = Mixer(
        BioMambaConfig(
            hidden_size=hidden,
            state_size=state,
            head_dim=head_dim,
            expand=expand,
            n_groups=groups,
            mixer_conv_kernel=kernel,
        )
    ).eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0, 0.5)
        # From states that last hundreds of frames to such that are gone after one.
        mixer.dt_bias.uniform_(-5, 2)
        mixer.A_log.uniform_(-1, 3)
    return mixer, torch.randn(2, frames, hidden)


def recurrence(mixer: Mixer, hidden_states: Tensor) -> Tensor:
    """Mamba-2 as its paper writes it, frame by frame in double precision: h = exp(dt A) h + dt B x, y = C h + D x."""
    weights = {name: value.detach().double() for name, value in mixer.state_dict().items()}
    inner, heads, size = mixer.intermediate_size, mixer.num_heads, mixer.head_dim
    groups, state, kernel = mixer.n_groups, mixer.ssm_state_size, mixer.conv_kernel_size
    a = -weights["A_log"].exp()
    clips = []
    for clip in hidden_states.double():
        projected = clip @ weights["in_proj.weight"].T
        z, xbc, dt = projected.split([inner, inner + 2 * groups * state, heads], dim=1)
        h = torch.zeros(heads, size, state, dtype=torch.double)
        outputs = []
        for t in range(len(clip)):
            past = [xbc[t - k] if t >= k else torch.zeros_like(xbc[0]) for k in range(kernel)]
            mixed = sum(weights["conv1d.weight"][:, 0, kernel - 1 - k] * past[k] for k in range(kernel))
            x, b, c = functional.silu(mixed + weights["conv1d.bias"]).split([inner, groups * state, groups * state])
            step = functional.softplus(dt[t] + weights["dt_bias"])
            y = torch.zeros(heads, size, dtype=torch.double)
            for head in range(heads):
                group = slice(head // (heads // groups) * state, (head // (heads // groups) + 1) * state)
                own = x[head * size : (head + 1) * size]
                h[head] = torch.exp(step[head] * a[head]) * h[head] + step[head] * torch.outer(own, b[group])
                y[head] = h[head] @ c[group] + weights["D"][head] * own
            gated = (y.flatten() * functional.silu(z[t])).view(groups, -1)
            normed = gated / torch.sqrt(gated.square().mean(1, keepdim=True) + 1e-5)
            outputs.append(weights["out_proj.weight"] @ (normed.flatten() * weights["norm.weight"]))
        clips.append(torch.stack(outputs))
    return torch.stack(clips)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mixer_is_the_recurrence_of_the_paper(shape: tuple[int, ...]) -> None:
    """Else every BioMamba row would be about another model, and weights trained with mamba_ssm would mean nothing."""
    mixer, hidden_states = random_mixer(shape)
    with torch.inference_mode():
        ours = mixer(hidden_states)
    torch.testing.assert_close(ours.double(), recurrence(mixer, hidden_states), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mixer_is_transformers_own(shape: tuple[int, ...]) -> None:
    mixer, hidden_states = random_mixer(shape)
    with torch.inference_mode():
        torch.testing.assert_close(
            mixer(hidden_states), Mamba2Mixer.forward(mixer, hidden_states), atol=1e-4, rtol=1e-4
        )


def documented_shapes(d_model: int, d_state: int, d_conv: int, expand: int, headdim: int, ngroups: int) -> Any:
    """Parameters of mamba_ssm's Mamba2 (read from 2.3.2's source, and found in its state_dict)."""
    d_inner = expand * d_model
    nheads = d_inner // headdim
    convolved = d_inner + 2 * ngroups * d_state
    return {
        "dt_bias": (nheads,),
        "A_log": (nheads,),
        "D": (nheads,),
        "in_proj.weight": (2 * d_inner + 2 * ngroups * d_state + nheads, d_model),  # z, x, B, C, dt
        "conv1d.weight": (convolved, 1, d_conv),
        "conv1d.bias": (convolved,),
        "norm.weight": (d_inner,),
        "out_proj.weight": (d_model, d_inner),
    }


@pytest.mark.parametrize("shape", [*SHAPES, (768, 128, 64, 2, 1, 4, 1)])
def test_names_and_shapes_of_the_weights_are_mamba_ssms(shape: tuple[int, ...]) -> None:
    """So that weights trained with mamba_ssm on a GPU load here without a conversion, and back."""
    hidden, state, head_dim, expand, groups, kernel, _ = shape
    found = {name: tuple(value.shape) for name, value in random_mixer(shape)[0].state_dict().items()}
    assert found == documented_shapes(hidden, state, kernel, expand, head_dim, groups)


@pytest.mark.slow
def test_the_torch_path_is_taken_on_a_cpu_even_where_mamba_ssm_is_installed(tmp_path: Path) -> None:
    """transformers decides at import for Triton kernels, which no CPU can run: machines with a GPU have both."""
    package = tmp_path / "mamba_ssm" / "ops" / "triton"
    package.mkdir(parents=True)
    for directory in (package, package.parent, package.parent.parent):
        (directory / "__init__.py").touch()
    names = ("mamba_chunk_scan_combined", "mamba_split_conv1d_scan_combined")
    (package / "ssd_combined.py").write_text(
        "".join(
            f"def {name}(x, dt, A, B, C, chunk_size, **options):\n    raise SystemExit('a kernel ran')\n"
            for name in names
        )
    )
    (package.parent.parent / "__init__.py").write_text("from mamba_ssm.ops.triton import ssd_combined\n")
    code = """
import torch
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from evaluator.backbones.biomamba.register import BioMambaConfig
from evaluator.backbones.biomamba import mixers
mixer = mixers.Mixer(BioMambaConfig(hidden_size=16, head_dim=8, state_size=4))
mixer.initialise(1)
assert mixer(torch.randn(1, 20, 16)).isfinite().all()
try:
    Mamba2Mixer.forward(mixer.eval(), torch.randn(1, 20, 16))
except SystemExit:
    print("the stand-in was found")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the stand-in was found" in done.stdout


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_hidden_states_are_the_blocks_inputs_and_outputs(direction: str, tmp_path: Path) -> None:
    backbone = load(submit_random(tmp_path, direction=direction))
    seen: list[Tensor] = []
    backbone.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for block in backbone.model.layers:
        block.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.inference_mode():
        ours, frames = backbone.encode(sound(9_000)[None], torch.tensor([9_000]))
    assert len(ours) == len(seen) == len(backbone.layers) == TINY["num_hidden_layers"] + 1
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, seen, strict=True))
    assert frames.tolist() == [ours[0].shape[1]]
    with torch.inference_mode():
        features = backbone.model.feature_extractor(sound(9_000)[None]).mT
        projected = backbone.model.feature_projection(features)[0]
    torch.testing.assert_close(ours[0], projected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_block_that_adds_nothing_leaves_its_layer_equal_to_the_one_before(direction: str, tmp_path: Path) -> None:
    """Proves the order of the layers, which decides what 'best layer 2' means, and that the residual is inside."""
    backbone = load(submit_random(tmp_path, direction=direction))
    waveform, lengths = sound(6_000)[None], torch.tensor([6_000])
    with torch.inference_mode():
        before, _ = backbone.encode(waveform, lengths)
        for name, parameter in backbone.model.layers[1].named_parameters():
            if name.endswith("out_proj.weight"):
                parameter.zero_()
        after, _ = backbone.encode(waveform, lengths)
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert same == [True, True, False, False]
    assert torch.equal(after[2], after[1])


def test_a_bidirectional_block_sums_a_mixer_on_each_order_of_the_frames() -> None:
    torch.manual_seed(0)
    model = BioMambaModel(BioMambaConfig(**TINY, direction="bidirectional")).eval()
    lengths = [9_000, 5_000]
    batch = torch.nn.utils.rnn.pad_sequence([sound(n, n) for n in lengths], batch_first=True)
    mask = torch.arange(9_000) < torch.tensor(lengths)[:, None]
    with torch.inference_mode():
        states = model(batch, attention_mask=mask, output_hidden_states=True).hidden_states
        block = model.layers[1]
        for clip, frames in enumerate(model.count_frames(torch.tensor(lengths)).tolist()):
            normed = block.norm(states[1][clip : clip + 1, :frames])
            both = block.mixer(normed) + block.mixer_backward(normed.flip(1)).flip(1)
            expected = states[1][clip, :frames] + both[0]
            torch.testing.assert_close(states[2][clip, :frames], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_only_a_bidirectional_model_hears_what_comes_later(direction: str, tmp_path: Path) -> None:
    backbone = load(submit_random(tmp_path, direction=direction, feat_extract_norm="layer"))
    waveform = sound(16_000)
    changed = torch.cat([waveform[:12_000], sound(4_000, 1)])
    lengths = torch.tensor([16_000])
    with torch.inference_mode():
        one, other = (backbone.encode(clip[None], lengths)[0][-1][0] for clip in (waveform, changed))
    early = (one[:30] - other[:30]).abs().max()
    assert (early > 1e-4) == (direction == "bidirectional"), early


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_clip_alone_and_among_longer_ones_has_the_same_features(tmp_path: Path, direction: str, norm: str) -> None:
    """Padding that leaks would make a clip's features depend on its neighbours, through the extraction of real runs."""
    from evaluator.features.clips import Clip
    from evaluator.features.cuts import Cut
    from evaluator.features.extraction import Extractor
    from tasks.sound import Header

    model = ready(Submission.read(submit_random(tmp_path, direction=direction, feat_extract_norm=norm)).load())
    assert model.exact_masking == (norm == "layer")
    extractor = Extractor.of(model, torch.device("cpu"))
    lengths = [5_000, 16_000, 9_000, 5_000, 45_000]
    sounds = [sound(length, seed) for seed, length in enumerate(lengths)]
    clips = [
        Clip(i, SimpleNamespace(path=Path(f"{i}.wav"), id=str(i)), Header(16_000, n), Cut(0, n, n), n)  # type: ignore[arg-type]
        for i, n in enumerate(lengths)
    ]
    together = extractor.encode(clips, sounds, frames=False)
    for place in range(len(clips)):
        alone = extractor.encode(clips[place : place + 1], sounds[place : place + 1], frames=False)
        assert together.counts[0][place] == alone.counts[0][0]
        torch.testing.assert_close(together.pooled[0][:, place], alone.pooled[0][:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_no_valid_frame_changes_with_padding(tmp_path: Path, direction: str) -> None:
    wide = {"hidden_size": 128, "conv_dim": [64] * 7}  # fewer channels round more
    backbone = load(submit_random(tmp_path, direction=direction, feat_extract_norm="layer", **wide))
    lengths = torch.tensor([5_000, 16_000, 400, 9_123])
    sounds = [sound(length, length) for length in lengths.tolist()]
    with torch.inference_mode():
        together, counts = backbone.encode(torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True), lengths)
        for place, clip in enumerate(sounds):
            alone, frames = backbone.encode(clip[None], lengths[place : place + 1])
            assert counts[place] == frames[0] == alone[0].shape[1]
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[place, : frames[0]], other[0], atol=1e-5, rtol=0)


def test_the_shortest_clip_gives_one_frame_and_a_shorter_one_none(tmp_path: Path) -> None:
    backbone = load(submit_random(tmp_path))
    assert backbone.min_samples == 400
    counts = backbone.model.count_frames(torch.tensor([399, 400, 719, 720, 16_000]))
    # 20 ms a frame of 25 ms.
    assert counts.tolist() == [0, 1, 1, 2, 49]


def test_parameters_of_the_default_are_those_counted_by_hand() -> None:
    """The board shows this number beside a score; a wrong one makes a model look smaller than it is."""
    with torch.device("meta"):
        model = BioMambaModel(BioMambaConfig())
    convolutions = 512 * 10 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 2 * 512  # without biases; one group norm
    projection = 2 * 512 + 512 * 768 + 768
    inner, heads = 1536, 24
    mixer = 768 * (2 * inner + 2 * 128 + heads) + (inner + 2 * 128) * (4 + 1) + 3 * heads + inner + inner * 768
    assert sum(p.numel() for p in model.parameters()) == convolutions + projection + 768 + 12 * (mixer + 768) + 768


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_loss_falls_in_a_few_steps_and_the_frozen_convolutions_stay(tmp_path: Path, direction: str) -> None:
    torch.manual_seed(0)
    BioMambaForPreTraining(BioMambaConfig(**TINY, direction=direction)).save_pretrained(tmp_path / "start")
    # Read back, because reading makes every parameter trainable.
    model = BioMambaForPreTraining.from_pretrained(tmp_path / "start").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    waveforms = torch.stack([sound(16_000, seed) for seed in range(4)])
    labels = torch.randint(5, (4, 49), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(4, 49, dtype=torch.bool)
    mask[:, 10:40] = True
    losses = []
    for _ in range(15):
        output = model(waveforms, labels, mask_time_indices=mask)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith("biomamba.feature_extractor.")}
    # Whatever else there is has learned, the embedding of masked frames included.
    assert changed == set(before) - frozen


def test_convolutions_can_be_trained_too() -> None:
    torch.manual_seed(0)
    model = BioMambaForPreTraining(BioMambaConfig(**TINY, freeze_feature_encoder=False)).train()
    mask = torch.zeros(1, 49, dtype=torch.bool)
    mask[:, ::2] = True
    model(sound(16_000)[None], torch.ones(1, 49, dtype=torch.long), mask_time_indices=mask).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.biomamba.feature_extractor.parameters())


def test_the_loss_is_over_masked_and_labelled_frames_alone() -> None:
    torch.manual_seed(0)
    model = BioMambaForPreTraining(BioMambaConfig(**TINY)).eval()
    waveforms = torch.stack([sound(16_000, seed) for seed in range(2)])
    labels = torch.randint(5, (2, 49))
    labels[0, 20:30] = -100
    mask = torch.zeros(2, 49, dtype=torch.bool)
    mask[:, 5:25] = True
    with torch.inference_mode():
        output = model(waveforms, labels, mask_time_indices=mask)
    chosen = [(clip, frame) for clip in range(2) for frame in range(5, 25) if labels[clip, frame] != -100]
    assert len(chosen) == 35
    losses = [-output.logits[place].log_softmax(-1)[labels[place]] for place in chosen]
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())


def test_what_is_masked_is_not_heard() -> None:
    """A model that sees what it is to predict learns nothing, and its loss looks wonderful."""
    torch.manual_seed(0)
    model = BioMambaForPreTraining(BioMambaConfig(**TINY)).eval()
    everything = torch.ones(1, 49, dtype=torch.bool)
    with torch.inference_mode():
        one, other = (model(sound(16_000, seed)[None], mask_time_indices=everything).logits for seed in (0, 1))
    assert torch.equal(one, other)


def test_spans_are_drawn_as_aves_does_and_inside_each_clip() -> None:
    import numpy

    numpy.random.seed(0)
    model = BioMambaForPreTraining(BioMambaConfig(**TINY))
    attention = torch.ones(20, 320_080)
    attention[10:, 160_000:] = 0
    mask = model._draw_mask((20, 1000), attention)
    assert not mask[10:, 499:].any()
    # 0.8 x frames / 10 spans of 10 that may overlap leave exp(-0.8) of the frames.
    assert mask[:10].float().mean().item() == pytest.approx(1 - 0.449, abs=0.02)
    assert mask[10:, :499].float().mean().item() == pytest.approx(1 - 0.449, abs=0.02)


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 50\).*\(1, 49\)"):
        BioMambaForPreTraining(BioMambaConfig(**TINY))(sound(16_000)[None], torch.zeros(1, 50, dtype=torch.long))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_pretrained_model_is_the_same_after_saving_whatever_loads_it(tmp_path: Path, direction: str) -> None:
    torch.manual_seed(0)
    model = BioMambaForPreTraining(BioMambaConfig(**TINY, direction=direction)).eval()
    model.save_pretrained(tmp_path / "whole")
    model.biomamba.save_pretrained(tmp_path / "encoder")
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    waveform, lengths = sound(9_000)[None], torch.tensor([9_000])
    with torch.inference_mode():
        expected = model.biomamba(waveform, output_hidden_states=True).hidden_states
        others = [
            AutoModel.from_pretrained(tmp_path / "encoder")(waveform, output_hidden_states=True).hidden_states,
            AutoModel.from_pretrained(tmp_path / "whole")(waveform, output_hidden_states=True).hidden_states,
            AutoModelForPreTraining.from_pretrained(tmp_path / "whole")
            .biomamba(waveform, output_hidden_states=True)
            .hidden_states,
            load(submit(tmp_path, 'model = "encoder"')).encode(waveform, lengths)[0],
            load(submit(tmp_path, 'model = "whole"')).encode(waveform, lengths)[0],
        ]
    for states in others:
        assert len(states) == 4
        assert all(torch.equal(one, other) for one, other in zip(states, expected, strict=True))


def test_a_copied_model_finds_its_features_and_an_altered_one_does_not(tmp_path: Path) -> None:
    first = load(submit(tmp_path, f'model = "{save(tmp_path / "one")}"')).options
    assert load(submit(tmp_path, f'model = "{save(tmp_path / "two")}"')).options == first
    assert load(submit(tmp_path, f'model = "{save(tmp_path / "three", mask_time_length=7)}"')).options != first
    assert first["kernels"] == "transformers"
    json.dumps(first)


@pytest.mark.parametrize(
    ("how", "said"), [("missing", "1 missing"), ("wrong shape", "wrong shape"), ("unexpected", "1 unexpected")]
)
def test_weights_that_do_not_fit_exactly_are_refused(tmp_path: Path, how: str, said: str) -> None:
    directory = save(tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    if how == "missing":
        del weights["layers.1.mixer.A_log"]
    elif how == "wrong shape":
        weights["layers.1.mixer.A_log"] = torch.zeros(3)
    else:
        weights["layers.1.mixer_backward.A_log"] = torch.zeros(8)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{said}.*layers\.1\.mixer"):
        load(submit(tmp_path, 'model = "model"'))


def test_random_weights_are_the_same_every_time_and_disturb_nobody(tmp_path: Path) -> None:
    hashes = []
    for state, seed in ((11, 3), (12, 3), (12, 4)):
        torch.manual_seed(state)
        hashes.append(ready(Submission.read(submit_random(tmp_path, f"seed = {seed}")).load()).weights_sha256)
        drawn = torch.rand(1)
        torch.manual_seed(state)
        assert torch.equal(torch.rand(1), drawn), "loading moved the generator that others draw from"
    assert hashes[0] == hashes[1] != hashes[2]


def test_random_weights_of_a_checkpoints_architecture(tmp_path: Path) -> None:
    save(tmp_path / "model")
    trained = ready(Submission.read(submit(tmp_path, 'model = "model"')).load())
    control = ready(Submission.read(submit(tmp_path, 'model = "model"\nweights = "random"\nseed = 9')).load())
    assert control.weights_sha256 != trained.weights_sha256
    assert control.parameters == trained.parameters


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_random_model_tells_sounds_and_frames_apart(tmp_path: Path, norm: str) -> None:
    """A control whose features are all alike would make every pretrained model look good."""
    backbone = load(submit_random(tmp_path, feat_extract_norm=norm, num_hidden_layers=12))
    waveforms = torch.stack([torch.zeros(16_000), sound(16_000, 0), sound(16_000, 1)])
    with torch.inference_mode():
        layers, _ = backbone.encode(waveforms, torch.full((3,), 16_000))
    for number, layer in enumerate(layers):
        assert layer.isfinite().all()
        # One convolution's worth of noise differs from frame to frame, everywhere.
        assert layer[1:].std(1).amin() > 1e-4, number
        pooled = layer.mean(1)
        assert min((pooled[i] - pooled[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3, number


def test_initial_values_are_in_mamba_ssms_ranges() -> None:
    torch.manual_seed(0)
    model = BioMambaModel(BioMambaConfig(**{**TINY, "hidden_size": 256, "head_dim": 2}))
    for block in model.layers:
        mixer = block.mixer
        decay, step = mixer.A_log.exp(), functional.softplus(mixer.dt_bias)
        assert decay.min() >= 1 and decay.max() <= 16 and decay.mean().item() == pytest.approx(8.5, abs=1)
        assert step.min() >= 0.99e-3 and step.max() <= 1.01e-1
        # Uniform on a logarithmic scale: half lies below the geometric mean.
        assert (step < 1e-2).float().mean().item() == pytest.approx(0.5, abs=0.1)
        assert torch.equal(mixer.D, torch.ones_like(mixer.D))
        # torch's own default for linear layers, and the last one divided by the root of the number of blocks.
        assert mixer.in_proj.weight.abs().max().item() == pytest.approx(256**-0.5, rel=0.01)
        assert mixer.out_proj.weight.abs().max().item() == pytest.approx((3 * 512) ** -0.5, rel=0.01)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_bfloat16_stays_near_float32(tmp_path: Path, direction: str) -> None:
    backbone = load(submit_random(tmp_path, direction=direction))
    waveform, lengths = sound(48_000)[None], torch.tensor([48_000])
    with torch.inference_mode():
        exact, _ = backbone.encode(waveform, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = backbone.encode(waveform, lengths)
    for one, other in zip(exact, rounded, strict=True):
        # Eight bits round by 0.4 % at most, and this passes seven convolutions and up to 6 mixers.
        assert (one - other).norm() < 0.05 * one.norm()


def test_amplitude_is_normalised_only_where_asked_for_and_as_transformers_does(tmp_path: Path) -> None:
    plain, normalising = (
        load(submit_random(tmp_path, f"do_normalize = {flag}", feat_extract_norm="layer")) for flag in ("false", "true")
    )
    assert plain.normalisation == "none" and normalising.normalisation != "none"
    lengths = torch.tensor([8_000, 5_000])
    clips = [sound(8_000) * 5, sound(5_000, 1)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    prepared = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)(
        [clip.numpy() for clip in clips], sampling_rate=16_000, padding=True, return_tensors="pt"
    ).input_values
    with torch.inference_mode():
        ours = normalising.encode(batch, lengths)[0][-1]
        theirs = plain.encode(prepared, lengths)[0][-1]
    frames = plain.model.count_frames(lengths)
    for clip in range(2):
        torch.testing.assert_close(ours[clip, : frames[clip]], theirs[clip, : frames[clip]], atol=1e-5, rtol=0)


def test_rate_and_normalisation_are_the_models_unless_the_submission_says_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "model", sampling_rate=32_000, do_normalize=True)
    own = load(submit(tmp_path, 'model = "model"'))
    assert (own.sample_rate, own.do_normalize) == (32_000, True)
    other = load(submit(tmp_path, 'model = "model"\nsample_rate = 8000\ndo_normalize = false'))
    assert (other.sample_rate, other.do_normalize) == (8_000, False)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "give model"),
        ('model = "no/such-model"', "hub"),
        ('model = "x"\nrevison = "main"', "revison: unknown key"),
        ('weights = "random"\nkernels = "cuda"', "kernels"),
        ('weights = "random"\nsample_rate = 0', "sample_rate: 0 is below 1"),
        ('model = "hubert"', "'hubert' model"),
        ('model = "hubert"\nrevision = "main"', "revision names a commit of the hub, but .* is a directory"),
        ('weights = "random"\nrevision = "main"', "revision is for a model of the hub"),
        ('model = "hubert"\nweights = "random"\nconfig = { hidden_size = 3 }', "config goes with"),
        ('weights = "random"\nconfig = { hidden_sise = 3, dept = 3 }', "dept, hidden_sise; it has .*hidden_size"),
        ('weights = "random"\nconfig = { hidden_size = 30 }', r"expand x hidden_size \(60\).*head_dim \(64\)"),
        ('weights = "random"\nconfig = { hidden_size = "wide" }', "hidden_size|int"),
        ('weights = "random"\nconfig = { direction = "backward" }', "direction|backward"),
        ('weights = "random"\nconfig = { state_size = 0 }', "state_size must be at least 1"),
        ('weights = "random"\nconfig = { conv_dim = [8, 8] }', "one entry for each convolution"),
    ],
)
def test_a_wrong_submission_is_one_sentence(tmp_path: Path, keys: str, said: str) -> None:
    if '"hubert"' in keys:
        save_checkpoint(tmp_path / "hubert", "group")
    with pytest.raises(UserError, match=said) as caught:
        load(submit(tmp_path, keys))
    assert "\n" not in str(caught.value)


def test_a_path_starts_at_the_submission_file_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model")
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'files/model does not exist, but .*write model = "../model"'):
        load(submit(tmp_path / "files", 'model = "model"'))
    load(submit(tmp_path / "files", 'model = "../model"'))


def test_mamba_ssm_is_refused_where_it_cannot_run_and_left_out_where_it_may_be(tmp_path: Path) -> None:
    if find_spec("mamba_ssm") is None:
        with pytest.raises(UserError, match="install mamba-ssm"):
            load(submit_random(tmp_path, 'kernels = "mamba_ssm"'))
        assert kernels_on(torch.device("cuda"), "auto") == "transformers"
    else:
        with pytest.raises(UserError, match="needs a CUDA device"):
            load(submit_random(tmp_path, 'kernels = "mamba_ssm"'))
    assert kernels_on(torch.device("cpu"), "auto") == "transformers"
    assert kernels_on(torch.device("cuda"), "transformers") == "transformers"


def speech_checkpoint(directory: Path, kind: str) -> Path:
    if kind != "wav2vec2":
        return save_checkpoint(directory, kind)
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**SMALL)).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["group", "layer", "wav2vec2"])
def test_convolutions_are_taken_over_from_a_speech_model(tmp_path: Path, kind: str) -> None:
    """The paper keeps them frozen, so with random ones no pretraining could make up for them."""
    directory = speech_checkpoint(tmp_path / "speech", kind)
    layer = {"feat_extract_norm": "layer", "conv_bias": True} if kind == "layer" else {}
    model = BioMambaModel(BioMambaConfig(**TINY, **layer)).eval()
    model.load_feature_encoder(directory)
    original = AutoModel.from_pretrained(directory).eval().feature_extractor
    with torch.inference_mode():
        assert torch.equal(model.feature_extractor(sound(9_000)[None]), original(sound(9_000)[None]))


def test_convolutions_of_another_kind_or_without_weights_are_refused(tmp_path: Path) -> None:
    layer = save_checkpoint(tmp_path / "layer", "layer")
    model = BioMambaModel(BioMambaConfig(**TINY))
    with pytest.raises(UserError, match="conv_bias, feat_extract_norm differ"):
        model.load_feature_encoder(layer)
    with pytest.raises(UserError, match="cannot be read"):
        model.load_feature_encoder("no/such-model")
    torch.manual_seed(0)
    Mamba2Model(
        Mamba2Config(hidden_size=16, num_heads=4, head_dim=8, num_hidden_layers=1, vocab_size=8)
    ).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="conv_dim"):
        model.load_feature_encoder(tmp_path / "text")
    group = save_checkpoint(tmp_path / "group", "group")
    weights = load_file(group / "model.safetensors")
    del weights["feature_extractor.conv_layers.3.conv.weight"]
    save_file(weights, group / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights.*conv_layers\.3"):
        model.load_feature_encoder(group)


def test_the_control_is_the_default_model_with_random_weights() -> None:
    entry = Submission.read(ROOT / "submissions" / "random-biomamba.toml")
    assert entry.loader == "biomamba"
    assert entry.arguments == {"weights": "random", "seed": 0}
