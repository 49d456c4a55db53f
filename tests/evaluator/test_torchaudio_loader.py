"""AVES and its kin: torchaudio's own hidden states, transformers' as well, and no file that is not the right one."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import SMALL, write_submission
from file_server import serving
from torchaudio.models import wav2vec2_model
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from transformers import HubertConfig, HubertModel

from evaluator.backbone import Loaded, ready
from evaluator.backbones.torchaudio.encoder import Wav2Vec2Encoder
from evaluator.submission import Submission
from tasks.prepare import download as downloads
from tasks.support.errors import UserError

# The keys of aves-base-bio.torchaudio.model_config.json, in small.
AVES: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[16, 10, 5], *([[16, 3, 2]] * 4), *([[16, 2, 2]] * 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 64,
    "encoder_ff_interm_dropout": 0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
}
# wav2vec 2.0 large, in small: norms precede the blocks, and every convolution has one.
LARGE = {**AVES, "extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
CONFIGS = {"aves": AVES, "large": LARGE}


def randomised(config: dict[str, Any]) -> torch.nn.Module:
    """A model whose every tensor counts; torch starts norms as ones and zeros, which would hide mix-ups."""
    generator = torch.Generator().manual_seed(0)
    model = wav2vec2_model(**config, aux_num_out=None).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def save(directory: Path, model: torch.nn.Module, config: dict[str, Any], keys: str = "") -> Path:
    """The two files as Earth Species publishes them, and a submission that names them. Returns the submission."""
    directory.mkdir(exist_ok=True)
    (directory / "small.torchaudio.model_config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), directory / "small.torchaudio.pt")
    return submission(
        directory, f'config = "small.torchaudio.model_config.json"\ncheckpoint = "small.torchaudio.pt"\n{keys}'
    )


def submission(directory: Path, keys: str) -> Path:
    return write_submission(directory / "small.toml", f'loader = "torchaudio"\n{keys}')


def load(path: Path) -> Loaded:
    return ready(Submission.read(path).load())


def encode(model: Loaded, *sounds: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    with torch.inference_mode():
        lengths = torch.tensor([len(sound) for sound in sounds])
        layers, frames = model.backbone.encode(torch.nn.utils.rnn.pad_sequence(list(sounds), batch_first=True), lengths)
    assert isinstance(frames, torch.Tensor)
    return layers, frames


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.02


@pytest.mark.parametrize("kind", ["aves", "large"])
def test_layers_are_torchaudios_own_block_by_block(tmp_path: Path, kind: str) -> None:
    """Against extract_features of the original model, and against hooks: block i after its residual, no norm on top."""
    original = randomised(CONFIGS[kind])
    ours, frames = encode(load(save(tmp_path / kind, original, CONFIGS[kind])), sound(9_000), sound(9_000, 1))
    seen: list[torch.Tensor] = []
    blocks: Any = original.encoder.transformer.layers  # type: ignore[union-attr]
    blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for block in blocks:
        block.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    with torch.inference_mode():
        theirs, _ = original.extract_features(torch.stack([sound(9_000), sound(9_000, 1)]))  # type: ignore[operator]
    assert len(ours) == len(seen) == len(theirs) + 1 == 4
    for mine, hooked in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, hooked, atol=1e-5, rtol=0)
    for mine, extracted in zip(ours[1:], theirs, strict=True):
        torch.testing.assert_close(mine, extracted, atol=1e-5, rtol=0)
    assert frames.tolist() == [ours[0].shape[1]] * 2


def test_layer_0_is_what_enters_block_1_positions_and_norm_included(tmp_path: Path) -> None:
    original: Any = randomised(AVES)
    ours, _ = encode(load(save(tmp_path / "m", original, AVES)), sound(9_000))
    with torch.inference_mode():
        projected = original.encoder.feature_projection(original.feature_extractor(sound(9_000)[None], None)[0])
        transformer = original.encoder.transformer
        expected = transformer.layer_norm(projected + transformer.pos_conv_embed(projected))
    torch.testing.assert_close(ours[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_silenced_block_of_a_pre_norm_model_repeats_the_layer_before_it(tmp_path: Path, block: int) -> None:
    """Proves the order of the layers and that the residual is in: with its branches at zero a block is the identity."""
    model = load(save(tmp_path / "m", randomised(LARGE), LARGE))
    assert isinstance(model.backbone, Wav2Vec2Encoder)
    silenced = model.backbone.model.encoder.transformer.layers[block - 1]
    for linear in (silenced.attention.out_proj, silenced.feed_forward.output_dense):
        linear.weight.zero_()
        linear.bias.zero_()
    layers, _ = encode(model, sound(8_000))
    same = [torch.equal(layers[index], layers[index - 1]) for index in range(1, 4)]
    assert same == [index == block for index in range(1, 4)]


@pytest.mark.parametrize("kind", ["aves", "large"])
def test_the_same_weights_give_transformers_hidden_states(tmp_path: Path, kind: str) -> None:
    """An independent implementation of the same network: AVES is a HuBERT, and transformers' HuBERT must agree."""
    large = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True} if kind == "large" else {}
    torch.manual_seed(0)
    hubert = HubertModel(HubertConfig(**SMALL, **large)).eval()
    with torch.no_grad():
        for parameter in hubert.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    config = {**CONFIGS[kind], "encoder_layer_drop": 0.1}
    ours, _ = encode(load(save(tmp_path / kind, import_huggingface_model(hubert), config)), sound(9_000))
    seen: list[torch.Tensor] = []
    hubert.encoder.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    for block in hubert.encoder.layers:
        block.register_forward_hook(
            lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    with torch.inference_mode():
        hubert(sound(9_000)[None])
    assert len(ours) == len(seen) == 4
    for mine, theirs in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_weights_saved_by_an_older_torch_are_the_same_model(tmp_path: Path) -> None:
    """The published files are of 2022 and 2024: weight normalisation was then called weight_g and weight_v."""
    original = randomised(AVES)
    path = save(tmp_path / "m", original, AVES)
    fingerprint = load(path).weights_sha256
    weights = original.state_dict()
    start = "encoder.transformer.pos_conv_embed.conv."
    weights[f"{start}weight_g"] = weights.pop(f"{start}parametrizations.weight.original0")
    weights[f"{start}weight_v"] = weights.pop(f"{start}parametrizations.weight.original1")
    torch.save(weights, tmp_path / "m" / "small.torchaudio.pt")
    assert load(path).weights_sha256 == fingerprint


def test_clips_of_unequal_length_share_a_batch_only_where_that_is_exact(tmp_path: Path) -> None:
    """Every valid frame of every layer, alone and among longer clips."""
    sounds = [sound(length, seed) for seed, length in enumerate((5_000, 16_000, 9_000, 400))]
    exact = {}
    for kind, config in CONFIGS.items():
        model = load(save(tmp_path / kind, randomised(config), config))
        together, frames = encode(model, *sounds)
        differences = []
        for place, one in enumerate(sounds):
            alone, count = encode(model, one)
            assert int(count[0]) == int(frames[place]) == alone[0].shape[1]
            for layer, mine in zip(together, alone, strict=True):
                differences.append(float((layer[place, : int(count[0])] - mine[0]).abs().max()))
        exact[kind] = max(differences) < 1e-5
        assert model.exact_masking == exact[kind], f"{kind}: frames differ by {max(differences)}"
    assert exact == {"aves": False, "large": True}


def test_a_real_run_gives_a_clip_the_same_features_whatever_else_there_is(tmp_path: Path) -> None:
    """Through the extraction that real runs use, with AVES' group norm, which padding would change."""
    from evaluator.features.clips import Clip
    from evaluator.features.cuts import Cut
    from evaluator.features.extraction import Extractor
    from tasks.sound import Header

    extractor = Extractor.of(load(save(tmp_path / "m", randomised(AVES), AVES)), torch.device("cpu"))
    lengths = [5_000, 16_000, 9_000, 5_000, 23_000]
    sounds = [sound(length, seed) for seed, length in enumerate(lengths)]
    clips = [
        Clip(i, SimpleNamespace(path=Path(f"{i}.wav"), id=str(i)), Header(16_000, n), Cut(0, n, n), n)  # type: ignore[arg-type]
        for i, n in enumerate(lengths)
    ]
    together = extractor.encode(clips, sounds, frames=False)
    for place in range(len(clips)):
        alone = extractor.encode(clips[place : place + 1], sounds[place : place + 1], frames=False)
        torch.testing.assert_close(together.pooled[0][:, place], alone.pooled[0][:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["aves", "large"])
def test_amplitude_is_normalised_only_where_the_submission_says_so(tmp_path: Path, kind: str) -> None:
    """AVES was trained without; wav2vec 2.0 large with what torchaudio's bundles do, also under padding."""
    original: Any = randomised(CONFIGS[kind])
    plain = load(save(tmp_path / "plain", original, CONFIGS[kind]))
    normal = load(save(tmp_path / "normal", original, CONFIGS[kind], "do_normalize = true"))
    assert (plain.normalisation, normal.normalisation) == ("none", "zero mean and unit variance per clip")
    assert plain.options != normal.options
    clip = sound(8_000) * 0.01  # so quiet that the groups' own normalisation does not undo the difference
    with torch.inference_mode():
        bundle, _ = original.extract_features(torch.nn.functional.layer_norm(clip, clip.shape)[None])
        raw, _ = original.extract_features(clip[None])
    torch.testing.assert_close(encode(plain, clip)[0][-1], raw[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(encode(normal, clip)[0][-1], bundle[-1], atol=1e-5, rtol=0)
    if kind == "large":
        layers, frames = encode(normal, clip, sound(12_000))
        torch.testing.assert_close(layers[-1][0, : frames[0]], bundle[-1][0], atol=1e-5, rtol=0)
    assert not torch.allclose(raw[-1], bundle[-1], atol=1e-2)


def test_the_shortest_clip_gives_one_frame(tmp_path: Path) -> None:
    model = load(save(tmp_path / "m", randomised(AVES), AVES))
    assert model.min_samples == 400
    layers, frames = encode(model, sound(400))
    assert layers[0].shape == (1, 1, 32)
    assert frames.tolist() == [1]
    assert [layer.name for layer in model.backbone.layers] == ["input of block 1", "block 1", "block 2", "block 3"]


@pytest.mark.parametrize("kind", ["aves", "large"])
def test_under_bfloat16_autocast_layers_are_torchaudios_own_too(tmp_path: Path, kind: str) -> None:
    """Not compared with float32: a network this narrow rounds far more than one of AVES' width."""
    original: Any = randomised(CONFIGS[kind])
    model = load(save(tmp_path / kind, original, CONFIGS[kind]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ours, _ = encode(model, sound(8_000))
        theirs, _ = original.extract_features(sound(8_000)[None])
    for mine, extracted in zip(ours[1:], theirs, strict=True):
        torch.testing.assert_close(mine, extracted, atol=0, rtol=0)


def random(directory: Path, seed: int = 3) -> Path:
    (directory / "c.json").write_text(json.dumps(AVES))
    return submission(directory, f'config = "c.json"\nweights = "random"\nseed = {seed}')


def test_random_weights_are_the_same_every_time_and_leave_other_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    first = load(random(tmp_path)).weights_sha256
    following = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(3), following), "loading a control moved the caller's random numbers"
    assert load(random(tmp_path)).weights_sha256 == first
    assert load(random(tmp_path, seed=4)).weights_sha256 != first


def test_a_control_starts_as_huberts_pretraining_does_and_is_frozen(tmp_path: Path) -> None:
    model = load(random(tmp_path))
    assert isinstance(model.backbone, Wav2Vec2Encoder)
    assert not model.backbone.training
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    # As fairseq's init_bert_params, whose deviation is 0.02; torch's own default would be 0.1 here.
    linear = model.backbone.model.encoder.transformer.layers[0].feed_forward.intermediate_dense
    assert float(linear.weight.std()) == pytest.approx(0.02, rel=0.1)
    assert torch.equal(*(encode(model, sound(5_000))[0][-1] for _ in range(2))), "dropout is on"
    original = wav2vec2_model(**AVES, aux_num_out=None)
    assert model.parameters == sum(parameter.numel() for parameter in original.parameters())


def test_a_config_may_stand_in_the_submission(tmp_path: Path) -> None:
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in AVES.items())
    inline = submission(tmp_path, f'weights = "random"\nseed = 3\n[submission.config]\n{lines}')
    assert load(inline).weights_sha256 == load(random(tmp_path)).weights_sha256


@pytest.mark.parametrize("how", ["missing", "of another shape", "unexpected"])
def test_weights_that_do_not_fit_exactly_are_refused(tmp_path: Path, how: str) -> None:
    """Tensors left at random have been evaluated for months elsewhere."""
    path = save(tmp_path / "m", randomised(AVES), AVES)
    weights = torch.load(tmp_path / "m" / "small.torchaudio.pt")
    name = "encoder.transformer.layers.1.attention.k_proj.weight"
    if how == "missing":
        del weights[name]
    elif how == "of another shape":
        weights[name] = torch.zeros(3, 3)
    else:
        name = "aux.weight"
        weights[name] = torch.zeros(2)
    torch.save(weights, tmp_path / "m" / "small.torchaudio.pt")
    with pytest.raises(UserError, match=f"1 tensors {how} .{name}"):
        load(path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m", randomised(AVES), AVES)
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "m" / "small.torchaudio.pt")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        load(path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('checkpoint = "w.pt"', "config"),
        ('config = "c.json"', "checkpoint is missing"),
        ('config = "c.json"\ncheckpoint = "w.pt"\nweights = "random"', "goes without checkpoint"),
        ('config = "nowhere.json"\nweights = "random"', r"nowhere\.json does not exist"),
        ('config = "."\nweights = "random"', "config [^ ]* is a directory: give the path of the file"),
        ('config = "broken.json"\nweights = "random"', "not valid JSON"),
        ('config = "list.json"\nweights = "random"', "not a JSON object"),
        ('config = "lacking.json"\nweights = "random"', "lacks encoder_embed_dim"),
        ('config = "misspelt.json"\nweights = "random"', "unknown keys encoder_layers"),
        ('config = "odd.json"\nweights = "random"', "does not make a wav2vec 2.0 model"),
        ('config = "c.json"\ncheckpoint = "nowhere.pt"', r"checkpoint .*nowhere\.pt does not exist"),
        ('config = "c.json"\ncheckpoint = "c.json"', "cannot be read as a state dict"),
        ('config = "c.json"\ncheckpoint = "nested.pt"', "not a state dict of tensors"),
        ('config = "c.json"\ncheckpoint = "w.pt"\nsha256 = "00ff"', "not the file that was pinned"),
        ('config = "c.json"\ncheckpoint = "w.pt"\nrevision = "main"', "revision: unknown key"),
    ],
)
def test_a_wrong_submission_is_one_sentence(tmp_path: Path, keys: str, said: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps(AVES))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "lacking.json").write_text(json.dumps({k: v for k, v in AVES.items() if k != "encoder_embed_dim"}))
    (tmp_path / "misspelt.json").write_text(json.dumps({**AVES, "encoder_layers": 3}))
    (tmp_path / "odd.json").write_text(json.dumps({**AVES, "encoder_num_heads": 7}))
    torch.save({"model": {}, "epoch": 3}, tmp_path / "nested.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=said) as caught:
        load(submission(tmp_path, keys))
    assert "\n" not in str(caught.value)


def test_a_path_starts_at_the_submission_file_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(AVES))
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'files/c\.json does not exist, but .*write config = "\.\./c\.json"'):
        load(submission(tmp_path / "files", 'config = "c.json"\nweights = "random"'))
    load(submission(tmp_path / "files", 'config = "../c.json"\nweights = "random"'))


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a directory; a file called cut.pt ends before the length that was announced."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not self.path.endswith("/cut.pt"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"short")
        return None

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts at a download as in earnest, without the waits."""
    monkeypatch.setattr(downloads, "RETRIES", downloads.RETRIES.new(backoff_factor=0.0))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """An HTTP server with AVES in small at /small.torchaudio.pt, and an empty torch.hub directory."""
    served = tmp_path / "served"
    save(served, randomised(AVES), AVES)
    asked: list[str] = []

    class Here(Server):
        def __init__(self, *arguments: Any) -> None:
            self.asked = asked
            super().__init__(*arguments, directory=str(served))

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{service.server_port}"
        yield SimpleNamespace(address=address, asked=asked, files=served, hub=tmp_path / "hub" / "checkpoints")
        service.shutdown()


def remote(server: SimpleNamespace, directory: Path, checkpoint: str = "small.torchaudio.pt", keys: str = "") -> Path:
    config = f"{server.address}/small.torchaudio.model_config.json"
    return submission(directory, f'config = "{config}"\ncheckpoint = "{server.address}/{checkpoint}"\n{keys}')


def test_addresses_are_downloaded_once(tmp_path: Path, server: SimpleNamespace) -> None:
    path = remote(server, tmp_path)
    first = load(path)
    assert load(path).weights_sha256 == first.weights_sha256 == load(server.files / "small.toml").weights_sha256
    assert sorted(server.asked) == ["/small.torchaudio.model_config.json", "/small.torchaudio.pt"]


def test_two_models_with_one_file_name_are_two_files(tmp_path: Path, server: SimpleNamespace) -> None:
    """Many models are called config.yaml and checkpoint.pth: the second must not get the first one's file."""
    save(server.files / "other", randomised({**AVES, "encoder_num_layers": 2}), AVES)
    load(remote(server, tmp_path))
    with pytest.raises(UserError, match="missing"):
        load(remote(server, tmp_path, "other/small.torchaudio.pt"))


@pytest.mark.parametrize(
    ("checkpoint", "keys", "said"),
    [
        ("cut.pt", "", "cannot be downloaded"),
        ("nowhere.pt", "", "the server answers 404"),
        ("small.torchaudio.pt", f'sha256 = "{"0" * 64}"', "not the file that was pinned, and was removed"),
    ],
)
def test_a_download_that_is_not_the_file_leaves_nothing_behind(
    tmp_path: Path, server: SimpleNamespace, checkpoint: str, keys: str, said: str
) -> None:
    """A part that is taken for the whole, or the wrong weights, would be found again at every later run."""
    with pytest.raises(UserError, match=said):
        load(remote(server, tmp_path, checkpoint, keys))
    # The lock of a download is hidden, and what came of one that broke off is called a part.
    kept = [path.name for path in server.hub.iterdir()]
    files = [name[13:] for name in kept if not name.startswith(".") and ".part" not in name]
    assert files == ["small.torchaudio.model_config.json"]


def test_a_checkpoint_that_broke_off_is_continued_by_the_next_run(tmp_path: Path, server: SimpleNamespace) -> None:
    """Over a bad connection gigabytes come in parts: the first part is neither lost nor taken for the whole."""
    content = (server.files / "small.torchaudio.pt").read_bytes()
    half = len(content) // 2
    with serving() as bad:
        address = bad.add("/small.pt", content, drops=[half, *[0] * 5])
        path = remote(server, tmp_path)
        path.write_text(path.read_text().replace(f"{server.address}/small.torchaudio.pt", address))
        with pytest.raises(UserError, match=r"small\.pt cannot be downloaded: .*continues where it stopped"):
            load(path)
        bad.asked.clear()
        assert load(path).weights_sha256 == load(server.files / "small.toml").weights_sha256
        (first,) = bad.ranges("/small.pt")
    assert first is not None and 0 < int(first.removeprefix("bytes=").rstrip("-")) <= half


def test_an_address_without_sha256_says_how_to_pin_it_and_with_it_is_quiet(
    tmp_path: Path, server: SimpleNamespace, recwarn: pytest.WarningsRecorder
) -> None:
    digest = hashlib.sha256((server.files / "small.torchaudio.pt").read_bytes()).hexdigest()
    load(remote(server, tmp_path))
    assert [f'write sha256 = "{digest}"' in str(one.message) for one in recwarn] == [True]
    recwarn.clear()
    load(remote(server, tmp_path, keys=f'sha256 = "{digest.upper()}"'))
    load(save(tmp_path / "here", randomised(AVES), AVES))
    assert not recwarn.list


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path, server: SimpleNamespace) -> None:
    path = remote(server, tmp_path)
    path.write_text(path.read_text().replace(server.address, "http://127.0.0.1:1"))
    with pytest.raises(UserError, match=r"Check the network\. .* get the file another way and give its path as config"):
        load(path)


def test_the_committed_control_has_the_size_of_transformers_hubert_base() -> None:
    """AVES is HuBERT base: a slip in the architecture that the file spells out would make it the control of nothing."""
    control = load(Path(__file__).parents[2] / "submissions" / "random-aves.toml")
    with torch.device("meta"):
        hubert = HubertModel(HubertConfig())
    masking = hubert.masked_spec_embed.numel()  # only used in training, and not in torchaudio's model
    assert control.parameters == sum(parameter.numel() for parameter in hubert.parameters()) - masking
    assert len(control.backbone.layers) == 13
