"""BEANS' lists and audio as Hugging Face stores them: parquet files of one row an item, written by `datasets`."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Audio, Dataset, Features, Value

TYPES = {str: "string", int: "int64", float: "float64"}
SPLITS = {"train": "train", "valid": "valid", "test": "test", "train-low": "train_low"}
LISTS = {
    "bats": "egyptian_fruit_bats/annotations.{}.csv",
    "cbi": "cbi/annotations.{}.csv",
    "dcase": "dcase/{}.jsonl",
    "dogs": "dogs/annotations.{}.csv",
    "enabirds": "enabirds/{}.jsonl",
    "esc50": "esc50/meta/esc50.{}.csv",
    "hainan-gibbons": "hainan_gibbons/{}.jsonl",
    "hiceas": "hiceas/{}.jsonl",
    "humbugdb": "HumBugDB/data/metadata/{}.csv",
    "rfcx": "rfcx/{}.jsonl",
    "speech-commands": "speech_commands/{}.csv",
    "watkins": "watkins/annotations.{}.csv",
}


def write(task_name: str, beans_root: Path, directory: Path, *, low: bool = True) -> None:
    """Write ``directory/data/SPLIT-00000-of-00001.parquet`` from a finished BEANS checkout.

    The few-label split is written too if the checkout has one and ``low`` asks for it.
    """
    lists = {split: beans_root / "data" / LISTS[task_name].format(split) for split in SPLITS}
    rows = {split: _rows(file) for split, file in lists.items() if file.is_file() and (low or split != "train-low")}
    # A split without annotations does not tell their type.
    labels = [span["label"] for part in rows.values() for row in part for span in row.get("annotations", [])]
    kind = next((TYPES[type(label)] for label in labels if label is not None), None)
    times = {"st": Value("float64"), "ed": Value("float64")}
    features = {"annotations": [{**times, "label": Value(kind)}]} if kind else {}
    for split, part in rows.items():
        store([_with_audio(row, beans_root) for row in part], directory / "data", SPLITS[split], **features)


def store(rows: list[dict[str, Any]], directory: Path, split: str, **features: Any) -> Path:
    """Write rows of which ``path`` is a file's bytes and name; ``features`` names types that cannot be inferred."""
    # Encoding audio needs torchcodec, storing bytes that are encoded already does not: the type is set afterwards.
    struct = {"path": {"bytes": Value("binary"), "path": Value("string")}}
    inferred = Dataset.from_list([{key: value for key, value in row.items() if key != "path"} for row in rows]).features
    table = Dataset.from_list(rows, features=Features({**struct, **inferred, **features}))
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{split}-00000-of-00001.parquet"
    table.cast_column("path", Audio()).to_parquet(file)
    return file


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for span in (span for row in rows for span in row["annotations"]):
            # A column of text has no NaN.
            span["label"] = None if span["label"] != span["label"] else span["label"]
        return rows
    frame = pd.read_csv(file, index_col=0)[["path", "label"]]
    return [{"path": path, "label": label} for path, label in zip(frame["path"], frame["label"], strict=True)]


def _with_audio(row: dict[str, Any], beans_root: Path) -> dict[str, Any]:
    # Only the name of the file is kept, as `datasets` does when it uploads one.
    file = beans_root / row["path"]
    return {**row, "path": {"bytes": file.read_bytes(), "path": file.name}}
