"""Miniatures of the classification data sets, as their authors publish them and as BEANS' own preparation leaves them.

``beans`` follows BEANS' rules in plain pandas and scikit-learn; it shares nothing with what it is compared with.
"""

import io
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torchaudio.transforms import Resample

LITTER = b"Mac OS X        "  # how the files begin that a Mac adds to archives


def origin(task: str, root: Path) -> None:
    """Write the extracted files of a task's origin below ``root``, each archive in a folder of its own."""
    ORIGINS[task](root)


def beans(task: str, origin_root: Path, root: Path) -> None:
    """Write what BEANS' preparation makes of that origin: ``root/data/...``."""
    COPIES[task](origin_root, root / "data")


def _sound(file: Path, seconds: float, rate: int, channels: int = 1, format: str = "WAV") -> None:
    # Every file of a data set sounds different, and every channel too.
    generator = np.random.default_rng([ord(character) for character in file.name])
    time = np.arange(max(1, round(seconds * rate)))[:, None] / rate
    pitch = generator.uniform(0.02, 0.2, channels) * rate
    samples = 0.4 * np.sin(2 * np.pi * pitch * time) + 0.02 * generator.standard_normal((len(time), channels))
    _save(file, samples.astype(np.float32), rate, format)


def _save(file: Path, samples: NDArray[np.float32], rate: int, format: str) -> None:
    # By way of memory: libsndfile waits for the disk after each of hundreds of files.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate, format=format)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded.getvalue())


def _litter(folder: Path, name: str) -> None:
    (folder / "__MACOSX").mkdir(parents=True, exist_ok=True)
    (folder / "__MACOSX" / f"._{name}").write_bytes(LITTER)


def _table(file: Path, rows: list[dict[str, object]], seed: int = 5) -> None:
    """Write rows in an order that is neither theirs nor sorted."""
    random.Random(seed).shuffle(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(file, index=False)


# --- as the authors publish them ---


WATKINS_SHARED = (("Clymene_Dolphin", 5), ("Walrus", 3))


def _watkins(root: Path) -> None:
    folder = root / "watkins"
    rates = (44100, 10240, 81920, 600, 166600)
    rows: list[dict[str, object]] = []
    for species, count in {
        "Clymene_Dolphin": 12,
        "Beluga,_White_Whale": 13,
        "Grampus,_Rissos_Dolphin": 11,
        "Weddell_Seal": 2,
        "Walrus": 14,
    }.items():
        for i in range(count):
            # The cuts' names are letters and digits; a cut may lie in the folders of two species.
            cut = f"{len(rows) + 61025}{i:02X}{'ABCDEF'[i % 6]}"
            name = f"{species}/{'72010001' if (species, i) in WATKINS_SHARED else cut}.wav"
            _sound(folder / name, 0.1 if i else 3.5, rates[i % 5] if i else 10240, channels=1 + (i == 3))
            rows.append({"path": name, "species": species})
    _table(folder / "annotations.csv", rows)
    _litter(folder, "annotations.csv")


def _bats(root: Path) -> None:
    folder = root / "egyptian_fruit_bats"
    rows: list[dict[str, object]] = []
    for emitter, count in {111: 12, 210: 10, 231: 14}.items():
        for i in range(count):
            name = f"{emitter * 7 + 13 * i}.wav"
            _sound(folder / "audio" / name, 0.02, 250000)
            rows.append({"File Name": name, "Emitter": emitter, "Addressee": 0, "Context": i % 12})
    _table(folder / "annotations.csv", rows)
    _litter(folder, "annotations.csv")


def _cbi(root: Path) -> None:
    folder = root / "birdsong-recognition"
    # One recordist is not known, and one is called None, which is a name.
    recordists: list[str | None] = [f"Recordist {i}" for i in range(28)] + [None, "None"]
    rates = (44100, 48000, 32000, 22050)
    codes = ("aldfly", "ameavo", "y00475")
    rows: list[dict[str, object]] = []
    for i in range(90):
        code, name = codes[i % 3], f"XC{134874 + 37 * i}.mp3"
        _sound(folder / "train_audio" / code / name, 11.0 if i == 4 else 0.3, rates[i % 4], 1 + i % 2, format="MP3")
        known = recordists[i * i % len(recordists)] if i >= 30 else recordists[i]
        rows.append(
            {"rating": 4.0, "ebird_code": code, "filename": name, "recordist": known, "country": "United States"}
        )
    _table(folder / "train.csv", rows)
    (folder / "test.csv").write_text("site,row_id,seconds,audio_id\nsite_1,site_1_0a_5,5,0a\n")
    (folder / "sample_submission.csv").write_text("row_id,birds\nsite_1_0a_5,aldfly\n")
    _sound(folder / "example_test_audio" / "ORANGE-7-CAP_20190606_093000.mp3", 0.3, 32000, format="MP3")


def _dogs(root: Path) -> None:
    folder = root / "dog_barks"
    rows: list[dict[str, object]] = []
    for dog, count in {"Mac": 12, "Farley": 11, "Zoe": 13}.items():
        for i in range(count):
            # Some names hold a dot too many, some files are WAV.
            name = f"{dog}-{i // 4}-{'ACP'[i % 3]}-{i}{'a.' if i == 2 else ''}{'.wav' if i == 5 else '.aif'}"
            rate = 48000 if i == 7 else 44100
            _sound(folder / "audio" / name, 0.1, rate, 1 + i % 2, format="WAV" if i == 5 else "AIFF")
            # Some files are named in two rows.
            for _ in range(2 if i % 3 == 0 else 1):
                rows.append({"filename": name, "name": dog, "context": "play", "age": 5, "weight": 34})
    _table(folder / "annotations.csv", rows)
    _litter(folder, "annotations.csv")


def _humbugdb(root: Path) -> None:
    # A class of its own has more than 100 rows: 100 are rare.
    species = {None: 104, "an arabiensis": 101, "ae aegypti": 100, "an dirus": 3, "culex pipiens complex": 110}
    rows: list[dict[str, object]] = []
    for name, count in species.items():
        for _ in range(count):
            number, rate = 53 + 4 * len(rows), 8000 if len(rows) % 3 else 44100
            _sound(root / f"humbugdb_neurips_2021_{1 + number % 4}" / f"{number}.wav", 0.02, rate)
            sound_type = "mosquito" if name else "background"
            rows.append({"id": number, "length": 0.02, "name": "a, b.wav", "sound_type": sound_type, "species": name})
    _table(root / "neurips_2021_zenodo_0_0_1.csv", rows)
    _litter(root / "humbugdb_neurips_2021_1", "53.wav")


def _esc50(root: Path) -> None:
    folder = root / "esc50" / "ESC-50-master"
    rows: list[dict[str, object]] = []
    for fold in range(1, 6):
        for target, category in {0: "dog", 10: "rain", 49: "hand_saw"}.items():
            for take in "AB":
                source = 100000 + 100 * fold + target
                name = f"{fold}-{source}-{take}-{target}.wav"
                _sound(folder / "audio" / name, 0.1, 44100)
                rows.append({"filename": name, "fold": fold, "target": target, "category": category, "take": take})
    _table(folder / "meta" / "esc50.csv", rows)
    (folder / "meta" / "esc50-human.xlsx").write_bytes(b"")


def _speech_commands(root: Path) -> None:
    folder = root / "speech_commands_v0.02"
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for word in ("zero", "backward", "bed"):
        for i in range(100):
            # A speaker's number is a hash, so that alphabetical order mixes the splits.
            speaker = f"{(i * 2654435761) % 2**32:08x}"
            name = f"{word}/{speaker}_nohash_{i % 3}.wav"
            _sound(folder / name, 0.03, 16000)
            if i < 20:
                lists["testing_list.txt" if i % 2 else "validation_list.txt"].append(name)
    for file, names in lists.items():
        names.append(names[3])  # a line twice
        (folder / file).write_text("\n".join(names) + "\n")
    _sound(folder / "_background_noise_" / "doing_the_dishes.wav", 0.5, 16000)
    (folder / "_background_noise_" / "README.md").write_text("Noise\n")


ORIGINS: dict[str, Callable[[Path], None]] = {
    "bats": _bats,
    "cbi": _cbi,
    "dogs": _dogs,
    "esc50": _esc50,
    "humbugdb": _humbugdb,
    "speech-commands": _speech_commands,
    "watkins": _watkins,
}
TASKS = tuple(ORIGINS)


# --- as BEANS leaves them ---


def divide(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each split of a table of path and label, at random and stratified."""
    train, rest = train_test_split(frame, test_size=0.4, random_state=42, shuffle=True, stratify=frame["label"])
    valid, test = train_test_split(rest, test_size=0.5, random_state=42, shuffle=True, stratify=rest["label"])
    low, _ = train_test_split(train, test_size=0.8, random_state=42, shuffle=True, stratify=train["label"])
    parts = {"train": train, "train-low": low, "valid": valid, "test": test}
    return {name: part.sort_index() for name, part in parts.items()}


def _write(folder: Path, pattern: str, parts: dict[str, pd.DataFrame]) -> None:
    for name, part in parts.items():
        file = folder / pattern.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        part.to_csv(file)


def _wav_at_44100(source: Path, target: Path, mono: bool, seconds: float | None) -> None:
    """What BEANS has SoX do; torchaudio's kernel stands in for SoX's."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    if mono:
        samples = samples.mean(axis=1, keepdims=True)
    resampled = _resampler(rate)(torch.from_numpy(samples.T.copy())).numpy().T
    _save(target, resampled[: round(seconds * 44100)] if seconds else resampled, 44100, "WAV")


@cache
def _resampler(rate: int) -> Resample:
    return Resample(rate, 44100)


def _watkins_copy(source: Path, data: Path) -> None:
    shutil.copytree(source / "watkins", data / "watkins")
    frame = pd.read_csv(data / "watkins" / "annotations.csv")
    frame = pd.DataFrame({"path": "data/watkins/" + frame["path"], "label": frame["species"]})
    _write(data / "watkins", "annotations.{}.csv", divide(frame[frame["label"] != "Weddell_Seal"]))


def _bats_copy(source: Path, data: Path) -> None:
    folder = data / "egyptian_fruit_bats"
    shutil.copytree(source / "egyptian_fruit_bats", folder)
    frame = pd.read_csv(folder / "annotations.csv")
    paths = "data/egyptian_fruit_bats/audio/" + frame["File Name"]
    _write(folder, "annotations.{}.csv", divide(pd.DataFrame({"path": paths, "label": frame["Emitter"]})))


def _cbi_copy(source: Path, data: Path) -> None:
    folder = data / "cbi"
    frame = pd.read_csv(source / "birdsong-recognition" / "train.csv", keep_default_na=False, na_values=[""])
    state = random.getstate()
    random.seed(42)
    names = np.array(list(frame["recordist"].unique()), dtype=object)
    random.shuffle(names)
    random.setstate(state)
    train, valid = list(names[: int(0.6 * len(names))]), list(names[int(0.6 * len(names)) : int(0.8 * len(names))])
    rows: list[dict[str, str]] = []
    for code, file, name in zip(frame["ebird_code"], frame["filename"], frame["recordist"], strict=True):
        wav = f"wav/{Path(file).stem}.wav"
        audio = source / "birdsong-recognition" / "train_audio" / code / file
        _wav_at_44100(audio, folder / wav, mono=True, seconds=10)
        # `in` compares by identity too, which finds NaN.
        split = "train" if name in train else "valid" if name in valid else "test"
        rows.append({"path": f"data/cbi/{wav}", "label": code, "split": split})
    frame = pd.DataFrame(rows)
    splits = {split: frame[frame["split"] == split] for split in ("train", "valid", "test")}
    _write(folder, "annotations.{}.csv", splits)


def _dogs_copy(source: Path, data: Path) -> None:
    frame = pd.read_csv(source / "dog_barks" / "annotations.csv")
    paths = []
    for file in frame["filename"]:
        wav = f"wav/{Path(file).stem}.wav"
        _wav_at_44100(source / "dog_barks" / "audio" / file, data / "dogs" / wav, mono=False, seconds=None)
        paths.append(f"data/dogs/{wav}")
    _write(data / "dogs", "annotations.{}.csv", divide(pd.DataFrame({"path": paths, "label": frame["name"]})))


def _humbugdb_copy(source: Path, data: Path) -> None:
    folder = data / "HumBugDB" / "data"
    (folder / "audio").mkdir(parents=True)
    for part in range(1, 5):
        for file in (source / f"humbugdb_neurips_2021_{part}").glob("*.wav"):
            shutil.copy(file, folder / "audio")
    _write(folder / "metadata", "{}.csv", divide(humbugdb_frame(source / "neurips_2021_zenodo_0_0_1.csv")))


def humbugdb_frame(table: Path) -> pd.DataFrame:
    """Path and label of every row of HumBugDB's table, as BEANS derives them."""
    frame = pd.read_csv(table)
    species = ["non-mosquito" if pd.isna(name) else name for name in frame["species"]]
    counts = Counter(species)
    labels = [name if counts[name] > 100 else "others" for name in species]
    return pd.DataFrame({"path": [f"data/HumBugDB/data/audio/{number}.wav" for number in frame["id"]], "label": labels})


def _esc50_copy(source: Path, data: Path) -> None:
    shutil.copytree(source / "esc50" / "ESC-50-master", data / "esc50")
    frame = pd.read_csv(data / "esc50" / "meta" / "esc50.csv")
    paths = "data/esc50/audio/" + frame["filename"]
    frame = pd.DataFrame({"path": paths, "label": frame["target"], "fold": frame["fold"]})
    folds = {"train": (1, 2, 3), "train-low": (1,), "valid": (4,), "test": (5,)}
    _write(data / "esc50", "meta/esc50.{}.csv", {name: frame[frame["fold"].isin(fold)] for name, fold in folds.items()})


def _speech_commands_copy(source: Path, data: Path) -> None:
    folder = data / "speech_commands"
    shutil.copytree(source / "speech_commands_v0.02", folder)
    names = {
        f"{file.parent.name}/{file.name}" for file in folder.glob("*/*.wav") if file.parent.name != "_background_noise_"
    }
    valid = set((folder / "validation_list.txt").read_text().split())
    test = set((folder / "testing_list.txt").read_text().split())
    train = sorted(names - valid - test)
    low = [name for i, name in enumerate(train) if i % 100 == 0]
    parts = {
        name: pd.DataFrame(
            {"path": [f"data/speech_commands/{file}" for file in part], "label": [file.split("/")[0] for file in part]}
        )
        for name, part in {"train": train, "train-low": low, "valid": sorted(valid), "test": sorted(test)}.items()
    }
    _write(folder, "{}.csv", parts)


COPIES: dict[str, Callable[[Path, Path], None]] = {
    "bats": _bats_copy,
    "cbi": _cbi_copy,
    "dogs": _dogs_copy,
    "esc50": _esc50_copy,
    "humbugdb": _humbugdb_copy,
    "speech-commands": _speech_commands_copy,
    "watkins": _watkins_copy,
}
