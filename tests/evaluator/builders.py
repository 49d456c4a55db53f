"""Small sounds, small tasks and small checkpoints, in the formats that real ones have."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

Run = Callable[..., tuple[int, str, str]]


def tone(frequency: float, seconds: float, rate: int, seed: int, noise: float = 0.3) -> np.ndarray:
    """A tone in noise: (samples,) float64."""
    time = np.arange(int(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * frequency * time) + noise * np.random.default_rng(seed).standard_normal(len(time))


def write_clips_task(directory: Path, name: str = "tones", per_label: int = 15, noise: float = 0.3) -> Path:
    audio = directory / "audio"
    audio.mkdir(parents=True)
    rows = []
    for number in range(4 * per_label):
        label, rate = ("low", "mid", "high", "top")[number % 4], (16_000, 22_050, 32_000)[number % 3]
        frequency = {"low": 400, "mid": 900, "high": 1800, "top": 3600}[label] * (1 + 0.02 * (number % 5))
        file = audio / f"clip_{number:03d}.{'flac' if number % 2 else 'wav'}"
        soundfile.write(file, tone(frequency, 0.3 + 0.1 * (number % 4), rate, number, noise) * 0.4, rate)
        split = ("train", "train", "train", "valid", "test")[(number // 4) % 5]
        rows.append((f"audio/{file.name}", label, split))
    with (directory / "clips.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(("path", "label", "split"))
        writer.writerows(rows)
    task = directory / f"{name}.toml"
    task.write_text(f'name = "{name}"\nkind = "classification"\nmetric = "accuracy"\nclips = "clips.csv"\n')
    return task


def write_windows_task(directory: Path, name: str = "scape", noise: float = 0.2) -> Path:
    """A detection task: two overlapping kinds of tone in 12-s recordings of noise."""
    (directory / "audio").mkdir(parents=True)
    rate = 16_000
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        rows = []
        for number in range(count):
            generator = np.random.default_rng([number, count])
            sound = noise * generator.standard_normal(12 * rate)
            annotations = []
            for label, frequency in (("low", 500), ("high", 2500)):
                for _ in range(2):
                    start = float(generator.uniform(0, 9))
                    call = tone(frequency, 2.0, rate, number, noise=0.0)
                    sound[int(start * rate) : int(start * rate) + len(call)] += call
                    annotations.append({"st": start, "ed": start + 2.0, "label": label})
            path = f"audio/{split}_{number}.wav"
            soundfile.write(directory / path, sound * 0.3, rate)
            rows.append(json.dumps({"path": path, "length": 12.0, "annotations": annotations}))
        (directory / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    task = directory / f"{name}.toml"
    task.write_text(
        f'name = "{name}"\nkind = "detection"\nmetric = "map"\nwindow_width = 2\nwindow_shift = 1\n'
        'train = "train.jsonl"\nvalid = "valid.jsonl"\ntest = "test.jsonl"\n'
    )
    return task


def save_checkpoint(directory: Path, kind: str, *, do_normalize: bool = True) -> Path:
    """A checkpoint made by the real classes: ``group`` is HuBERT base in small, ``layer`` WavLM large in small."""
    torch.manual_seed(0)
    if kind == "group":
        model = HubertModel(HubertConfig(**SMALL))
    else:
        model = WavLMModel(WavLMConfig(**SMALL, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True))
    model.save_pretrained(directory)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=kind == "layer").save_pretrained(
        directory
    )
    return directory


def write_submission(path: Path, keys: str) -> Path:
    path.write_text(f'[submission]\nname = "{path.stem}"\n{keys}\n')
    return path
