"""Miniatures of the detection tasks' sources, and what BEANS' own preparation makes of them.

``origin`` writes a source as it lies on the disk once its archives are extracted, each into a folder of its name.
``beans`` transcribes BEANS' rule in plain pandas, scikit-learn and torchaudio, and shares nothing with the suite.
"""

import csv
import json
import math
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
import torchaudio
from sklearn.model_selection import train_test_split

Spans = Sequence[tuple[float, float]]

TASKS = ["dcase", "enabirds", "hiceas", "rfcx", "hainan-gibbons"]

HICEAS = "hiceas_1-20_minke-detection"
RFCX = "rfcx-species-audio-detection"

# Sorted as BEANS sorts them. The sixth and the seventh are on both sides of train's end, and a sort by name without
# suffix would exchange them.
GIBBONS = [
    "HGSM3AA_0+1_20160303_054500",
    "HGSM3AB_0+1_20160304_054500",
    "HGSM3AC_0+1_20160305_051500",
    "HGSM3AC_0+1_20160311_052000",
    "HGSM3AD_0+1_20160309_055800",
    "HGSM3B_0+1_20160308_055700-2",
    "HGSM3B_0+1_20160308_055700",
    "HGSM3B_0+1_20160309_054100",
    "HGSM3C_0+1_20160301_051600",
    "HGSM3C_0+1_20160312_055400",
    "HGSM3D_0+1_20160429_051600",
    "HGSM3E_0+1_20160303_052700",
    "HGSM3F_0+1_20160307_061200",
]

# Across a border, to a border, from one, over a whole chunk, without length, ended before it starts (within a chunk,
# and across two), from before the start of the recording, and past the end of it.
ODD: Spans = [
    (0.5, 0.9),
    (58.5, 61.2),
    (50.25, 60.0),
    (120.0, 121.5),
    (59.0, 181.0),
    (30.0, 30.0),
    (60.0, 60.0),
    (20.5, 19.75),
    (61.0, 59.5),
    (-1.5, 0.75),
    (129.4, 900.0),
    (5000.0, 5001.0),
]


def origin(task: str, root: Path) -> None:
    """The extracted files of a task's source."""
    root.mkdir(parents=True, exist_ok=True)
    ORIGINS[task](root)
    _text(root / "__MACOSX" / "._litter.wav", "no audio")
    _text(root / ".DS_Store", "litter")


def beans(task: str, origin_root: Path, root: Path) -> None:
    """A finished BEANS checkout, ``root/data/...``, of what ``origin`` wrote into ``origin_root``."""
    BEANS[task](origin_root, root / "data" / task.replace("-", "_"))


# --- sources ---


def _dcase(root: Path) -> None:
    folder = root / "Development_Set" / "Development_Set"
    birds = ["AMRE", "BBWA", "BTBW", "CHSP", "COYE", "GCTH", "OVEN", "RBGR", "SAVS", "SWTH", "WTSP", "AGGM", "SOCM"]
    calls = ["GIG", "SQT", "GRN", "CCMK", "SNMK"]
    for name, rate, seconds, channels, classes, values in [
        # Six chunks, the last of them 10 s; in each row POS wanders on, and two classes may be positive at once.
        ("Training_Set/BV/2015-09-04_08-04-59_unit03", 24_000, 310.0, 1, birds, ("POS", "NEG", "UNK", "POS", "NEG")),
        # Nine chunks: the second is among the first 12 %.
        ("Training_Set/HT/dcase_HT_a1", 6_000, 530.0, 1, calls, ("NEG", "POS", "UNK")),
        ("Training_Set/JD/jackdaw.a", 22_050, 60.01, 2, ["CALL"], ("POS", "POS", "UNK")),
        ("Training_Set/MT/dcase_MK1", 8_000, 130.3, 1, calls, ("POS", "NEG", "NEG", "UNK")),
        ("Validation_Set/HV/HV_b1", 44_100, 61.0, 1, ["Q"], ("POS", "UNK")),
        # A sample less than a minute in the source is a whole minute after resampling.
        ("Validation_Set/PB/PB_b1", 44_100, 60 - 1 / 44_100, 2, ["Q"], ("POS",)),
    ]:
        _noise(folder / f"{name}.wav", rate, seconds, channels)
        spans = [*ODD, (241.0, 242.5), (299.5, 304.0), (500.0, 501.0)]
        rows = [
            [
                f"{Path(name).name}.wav",
                st,
                ed,
                *(values[(row + column) % len(values)] for column in range(len(classes))),
            ]
            for row, (st, ed) in enumerate(spans)
        ]
        _table(folder / f"{name}.csv", ["Audiofilename", "Starttime", "Endtime", *classes], rows)
    # What the archive does not hold, but a folder beside the extracted one may.
    _noise(root / "other" / "stray.wav", 8_000, 1.0)


def _enabirds(root: Path) -> None:
    species: list[str] = ["EATO", "XXXX", "", "WOTH", "OTHR", "BTNW"]  # one that is not among the 33, one missing
    for recording, segment, rate, seconds, channels in [
        (1, 1, 32_000, 300.0, 1),
        (2, 5, 32_000, 130.2, 2),
        (4, 12, 48_000, 66.0, 1),
    ]:
        stem = f"Recording_{recording}_Segment_{segment:02d}"
        _noise(root / "enabirds_wav" / f"Recording_{recording}" / f"{stem}.wav", rate, seconds, channels)
        header = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]
        rows = [
            [number, "Spectrogram 1", 1, st, ed, 3000.0, 4200.5, species[number % len(species)]]
            for number, (st, ed) in enumerate([*ODD, (239.0, 241.5), (250.0, 251.0)], start=1)
        ]
        table = root / "enabirds_annotation" / f"Recording_{recording}" / f"{stem}.Table.1.selections.txt"
        _table(table, [*header, "Species"], rows, "\t")


def _hiceas(root: Path) -> None:
    spans = {
        "1706_20170706_184235_123": [(3.1, 6.2), (58.0, 63.5)],
        "1706_20170710_000000_000": [],
        "1706_20170801_120001_500": [(12.0, 12.0), (30.0, 32.5), (31.0, 33.0)],
        "1705_20170902_010203_456": [(0, 3)],  # whole numbers, as JSON may have them
        "1705_20170911_235959_999": [(40.25, 43.75)],
    }
    names = list(spans)
    for split, part in (("train", names[:3]), ("valid", names[3:4]), ("test", names[4:])):
        lines = []
        for name in part:
            _noise(root / HICEAS / "wav" / f"{name}.wav", 22_050, 60.0)
            annotations = [{"st": st, "ed": ed, "label": 1} for st, ed in spans[name]]
            lines.append({"path": f"data/hiceas/wav/{name}.wav", "length": 60.0, "annotations": annotations})
        _jsonl(root / HICEAS / f"{split}.jsonl", lines)


def _rfcx(root: Path) -> None:
    folder = root / RFCX
    # In the order of the names; the rows below are in another.
    names = [f"{number * 0x1F2F3:09x}" for number in range(1, 16)]
    for name in reversed(names):
        _noise(folder / "train" / f"{name}.flac", 48_000, 11.0)
    _noise(folder / "train" / f"{names[2]}-2.flac", 48_000, 12.5, 2)
    for name in ("000316da7", "00ffffff0"):
        _noise(folder / "test" / f"{name}.flac", 48_000, 2.0)
    header = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
    # A third of the recordings has annotations, some two; the first row is not of the first recording.
    annotated = [names[index] for index in (13, 1, 4, 7, 10, 1, 4, 12)]
    _table(
        folder / "train_tp.csv",
        header,
        [
            [name, (5 * row) % 24, 1, 0.5 + row, 843.75, 1.9413 + 1.3 * row, 4218.75]
            for row, name in enumerate(annotated)
        ],
    )
    _table(
        folder / "train_fp.csv",
        header,
        [[name, 23, 1, 2.0, 93.75, 4.0, 1000.0] for name in names[:6]],
    )
    _table(folder / "sample_submission.csv", ["recording_id", *(f"s{index}" for index in range(24))], [])


def _gibbons(root: Path) -> None:
    for number, name in enumerate(GIBBONS):
        # Two of each split are long enough for a second chunk that is kept, the fourth minute.
        seconds, channels = (190.0 if number in (0, 5, 6, 12) else 61.0), 1 + (number == 3)
        _noise(root / "Train" / f"{name}.wav", 9_600, seconds, channels)
        # 4 is no known type; whole numbers that pandas reads back as floats.
        rows = [[st, ed, 1 + index % 4] for index, (st, ed) in enumerate([*ODD, (183.0, 184.0 + number)])]
        table = root / "Train_Labels" / "Train_Labels" / f"g_{name}.data"
        _table(table, ["Start", "End", "Type"], rows if number != 7 else [])
    # Labels of the test recordings, which BEANS does not use.
    _table(root / "Train_Labels" / "Train_Labels" / "g_HGSM3A_0+1_20160301_000000.data", ["Start", "End", "Type"], [])


def _noise(file: Path, rate: int, seconds: float, channels: int = 1) -> None:
    # Seeded by the name, so that no two recordings are alike.
    generator = np.random.default_rng(zlib.crc32(file.stem.encode()))
    samples = generator.integers(-300, 300, (round(seconds * rate), channels), dtype=np.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate, subtype="PCM_16")


def _table(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]], separator: str = ",") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as text:
        table = csv.writer(text, delimiter=separator)
        table.writerow(header)
        table.writerows(rows)


def _jsonl(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    _text(file, "".join(json.dumps(line) + "\n" for line in lines))


def _text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


# --- what BEANS makes of them ---


def _beans_dcase(source: Path, folder: Path) -> None:
    def annotations(wav: Path) -> list[dict[str, Any]]:
        spans = []
        for _, row in pd.read_csv(wav.with_suffix(".csv")).iterrows():
            for name, value in row.iloc[3:].items():
                if value == "POS" and name not in {"AGGM", "SOCM"}:
                    spans.append({"st": row["Starttime"], "ed": row["Endtime"], "label": name})
        return spans

    wavs = sorted((source / "Development_Set").glob("**/*.wav"))
    _chunked(wavs, folder, 16_000, annotations, _by_position)


def _beans_enabirds(source: Path, folder: Path) -> None:
    def annotations(wav: Path) -> list[dict[str, Any]]:
        table = source / "enabirds_annotation" / wav.parent.name / f"{wav.stem}.Table.1.selections.txt"
        return [
            {"st": row["Begin Time (s)"], "ed": row["End Time (s)"], "label": row["Species"]}
            for _, row in pd.read_csv(table, sep="\t").iterrows()
        ]

    wavs = sorted((source / "enabirds_wav").glob("Recording_?/*.wav"))
    _chunked(wavs, folder, 32_000, annotations, _by_position)


def _beans_gibbons(source: Path, folder: Path) -> None:
    def annotations(wav: Path) -> list[dict[str, Any]]:
        table = pd.read_csv(source / "Train_Labels" / "Train_Labels" / f"g_{wav.stem}.data")
        return [{"st": row["Start"], "ed": row["End"], "label": row["Type"]} for _, row in table.iterrows()]

    def splits(file: int, chunk: int, chunks: int) -> list[str]:
        if chunk % 3 != 0:
            return []
        if file <= 5:
            return ["train", "train-low"] if file == 0 else ["train"]
        return ["valid"] if file <= 8 else ["test"]

    _chunked(sorted(source.glob("Train/*.wav")), folder, 9_600, annotations, splits)


def _beans_hiceas(source: Path, folder: Path) -> None:
    shutil.copytree(source / HICEAS, folder)


def _beans_rfcx(source: Path, folder: Path) -> None:
    recordings: dict[str, dict[str, Any]] = {}
    (folder / "wav").mkdir(parents=True)
    for flac in sorted((source / RFCX / "train").glob("*.flac")):
        samples, rate = soundfile.read(flac, dtype="int16")
        assert rate == 48_000  # so that SoX, which BEANS asks for 48 kHz, changes nothing
        soundfile.write(folder / "wav" / f"{flac.stem}.wav", samples, rate)
        path = f"data/rfcx/wav/{flac.stem}.wav"
        recordings[flac.stem] = {"path": path, "length": len(samples) / rate, "annotations": []}
    for _, row in pd.read_csv(source / RFCX / "train_tp.csv").iterrows():
        span = {"st": row["t_min"], "ed": row["t_max"], "label": int(row["species_id"])}
        recordings[row["recording_id"]]["annotations"].append(span)
    train, rest = train_test_split(list(recordings.values()), test_size=0.4, random_state=42, shuffle=True)
    valid, test = train_test_split(rest, test_size=0.5, random_state=42, shuffle=True)
    low, _ = train_test_split(train, test_size=0.66, random_state=42, shuffle=True)
    for split, part in (("train", train), ("train-low", low), ("valid", valid), ("test", test)):
        _jsonl(folder / f"{split}.jsonl", sorted(part, key=lambda line: line["path"]))


def _by_position(file: int, chunk: int, chunks: int) -> list[str]:
    if chunk / chunks < 0.12:
        return ["train", "train-low"]
    if chunk / chunks < 0.6:
        return ["train"]
    return ["valid"] if chunk / chunks < 0.8 else ["test"]


def _chunked(
    wavs: Sequence[Path],
    folder: Path,
    rate: int,
    annotations: Callable[[Path], list[dict[str, Any]]],
    splits: Callable[[int, int, int], list[str]],
) -> None:
    """All chunks of all recordings as wav, and those that ``splits`` puts somewhere in its JSON lines."""
    (folder / "wav").mkdir(parents=True)
    lines: dict[str, list[dict[str, Any]]] = {split: [] for split in ("train", "train-low", "valid", "test")}
    for file, wav in enumerate(wavs):
        samples, native = soundfile.read(wav, dtype="float32", always_2d=True)
        waveform = torch.from_numpy(samples.T).mean(dim=0)
        if native != rate:
            waveform = torchaudio.transforms.Resample(native, rate)(waveform)
        chunks = math.ceil(len(waveform) / rate / 60)
        local = defaultdict(list)
        for span in annotations(wav):
            st, ed = span["st"], span["ed"]
            first, last = int(st // 60), int(ed // 60)
            for chunk in range(first, last + 1):
                start = st - chunk * 60 if chunk == first else 0
                end = ed - chunk * 60 if chunk == last else 60
                local[chunk].append({**span, "st": start, "ed": end})
        for chunk in range(chunks):
            piece = waveform[chunk * 60 * rate : (chunk + 1) * 60 * rate]
            name = f"{wav.stem}.{chunk:03d}.wav"
            soundfile.write(folder / "wav" / name, piece.numpy(), rate, subtype="FLOAT")
            line = {
                "path": f"data/{folder.name}/wav/{name}",
                "length": len(piece) / rate,
                "annotations": local[chunk],
            }
            for split in splits(file, chunk, chunks):
                lines[split].append(line)
    for split, part in lines.items():
        _jsonl(folder / f"{split}.jsonl", part)


ORIGINS: dict[str, Callable[[Path], None]] = {
    "dcase": _dcase,
    "enabirds": _enabirds,
    "hiceas": _hiceas,
    "rfcx": _rfcx,
    "hainan-gibbons": _gibbons,
}
BEANS: dict[str, Callable[[Path, Path], None]] = {
    "dcase": _beans_dcase,
    "enabirds": _beans_enabirds,
    "hiceas": _beans_hiceas,
    "rfcx": _beans_rfcx,
    "hainan-gibbons": _beans_gibbons,
}
