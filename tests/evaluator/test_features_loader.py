"""Embeddings computed elsewhere must meet the right clips, or every number is of something else."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch
from builders import Run, write_submission

from evaluator.backbones.statistics import load as statistics
from tasks.sound import resample

QUICK = ("--trials", 3, "--seeds", 2, "--json")


def embed(beans: Run, task: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """What an outsider would do: list the items, read the audio with her own library, run her own model."""
    code, out, err = beans("tasks", "items", task)
    assert code == 0, err
    model = statistics()
    ids, rows = [], []
    for item in csv.DictReader(io.StringIO(out)):
        samples, rate = soundfile.read(item["path"], dtype="float32", always_2d=True)
        if item["end"]:
            samples = samples[int(float(item["start"]) * rate) : int(float(item["end"]) * rate)]
        sound = resample(torch.from_numpy(samples.mean(1)), rate, model.sample_rate)[None]
        layers, _ = model.encode(sound, torch.tensor([sound.shape[1]]))
        ids.append(item["id"])
        rows.append([layer[0].mean(0).numpy() for layer in layers])
    return ids, {f"layer_{index}": np.stack([row[index] for row in rows]) for index in range(len(rows[0]))}


def write_npz(directory: Path, task: str, ids: list[str], layers: dict[str, np.ndarray]) -> None:
    directory.mkdir(exist_ok=True)
    np.savez(directory / f"{task}.npz", ids=np.array(ids), **layers)


def write_parquet(directory: Path, task: str, ids: list[str], layers: dict[str, np.ndarray]) -> None:
    directory.mkdir(exist_ok=True)
    columns = {"id": ids, **{name: list(values) for name, values in layers.items()}}
    pyarrow.parquet.write_table(pyarrow.table(columns), directory / f"{task}.parquet")


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    return write_submission(tmp_path / "mine.toml", 'loader = "features"\ndirectory = "vectors"\nsample_rate = 32000')


def test_vectors_from_elsewhere_score_as_the_model_that_made_them(
    beans: Run, tmp_path: Path, clips_task: Path, windows_task: Path
) -> None:
    for task, name in ((clips_task, "tones"), (windows_task, "scape")):
        ids, layers = embed(beans, task)
        order = np.random.default_rng(0).permutation(len(ids))
        for write, format in ((write_npz, "npz"), (write_parquet, "parquet")):
            write(tmp_path / format, name, [ids[row] for row in order], {k: v[order] for k, v in layers.items()})
    floor = write_submission(tmp_path / "floor.toml", 'loader = "statistics"')
    mine = [
        write_submission(
            tmp_path / f"{format}.toml", f'loader = "features"\ndirectory = "{format}"\nsample_rate = 32000'
        )
        for format in ("npz", "parquet")
    ]
    tasks = f"{clips_task},{windows_task}"
    code, out, err = beans("submit", *mine, floor, "--tasks", tasks, *QUICK)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    scores = {(row["submission"], row["task"]): (row["valid"], row["test"], row["best_layer"]) for row in rows}
    for task in ("tones", "scape"):
        assert scores["npz", task] == scores["floor", task]
        assert scores["parquet", task] == scores["floor", task]


def test_a_part_of_the_task_takes_its_part_of_the_vectors(
    beans: Run, tmp_path: Path, submission: Path, clips_task: Path
) -> None:
    write_npz(tmp_path / "vectors", "tones", *embed(beans, clips_task))
    code, out, err = beans("submit", submission, "--tasks", clips_task, "--shots", 2, *QUICK)
    assert code == 0, err
    assert json.loads(out)["n_train"] == 8


def test_ids_that_do_not_fit_are_named(beans: Run, tmp_path: Path, submission: Path, clips_task: Path) -> None:
    ids, layers = embed(beans, clips_task)
    wrong = ["nonsense", *ids[1:-1], ids[2]]
    write_npz(tmp_path / "vectors", "tones", wrong, layers)
    code, _, err = beans("submit", submission, "--tasks", clips_task, *QUICK)
    assert code == 2
    assert f"2 ids are missing ({', '.join(sorted((ids[0], ids[-1])))})" in err
    assert "1 ids are no items of the task (nonsense)" in err
    assert f"1 ids are there twice ({ids[2]})" in err
    assert "`beans tasks items tones` lists them all" in err


def test_changed_vectors_are_evaluated_anew(beans: Run, tmp_path: Path, submission: Path, clips_task: Path) -> None:
    ids, layers = embed(beans, clips_task)
    write_npz(tmp_path / "vectors", "tones", ids, layers)
    first = beans("submit", submission, "--tasks", clips_task, *QUICK)[1]
    generator = np.random.default_rng(0)
    write_npz(tmp_path / "vectors", "tones", ids, {k: generator.permutation(v) for k, v in layers.items()})
    second = json.loads(beans("submit", submission, "--tasks", clips_task, *QUICK)[1])
    assert not second["reused"]
    assert second["test"] < json.loads(first)["test"], "old vectors were read for new ones"


def test_layers_may_differ_in_width(beans: Run, tmp_path: Path, submission: Path, clips_task: Path) -> None:
    ids, layers = embed(beans, clips_task)
    first = next(iter(layers.values()))
    write_npz(tmp_path / "vectors", "tones", ids, {"noise": np.random.rand(len(ids), 7), "true": first})
    code, out, err = beans("submit", submission, "--tasks", clips_task, *QUICK)
    assert code == 0, err
    row = json.loads(out)
    assert [layer["name"] for layer in row["layers"]] == ["noise", "true"]
    assert row["best_layer_name"] == "true"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"layer_0": np.zeros((60, 4))}, "has no array ids"),
        ({"ids": np.arange(60).astype(str)}, "holds ids and no layer"),
        (
            {"ids": np.arange(60).astype(str), "a": np.zeros((59, 4))},
            "a is float64 of shape (59, 4), not floating point",
        ),
        ({"ids": np.arange(60).astype(str), "a": np.zeros((60, 4), int)}, "a is int64"),
        ({"ids": np.arange(2).astype(str), "a": np.array([[1.0], [np.nan]])}, "a of 1 is not finite (1 items in all)"),
        ({"ids": np.array(["x", None], object), "a": np.zeros((2, 4))}, "cannot be read as npz"),
    ],
)
def test_a_file_that_is_not_as_described_is_one_sentence(
    beans: Run, tmp_path: Path, submission: Path, clips_task: Path, arrays: dict[str, np.ndarray], says: str
) -> None:
    (tmp_path / "vectors").mkdir()
    np.savez(tmp_path / "vectors" / "tones.npz", **arrays)
    code, _, err = beans("submit", submission, "--tasks", clips_task, *QUICK)
    assert code == 2 and says in err and "Traceback" not in err, err


def test_nothing_to_read_is_one_sentence(
    beans: Run, tmp_path: Path, submission: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = beans("submit", submission, "--tasks", clips_task)
    assert code == 2 and "vectors does not exist: give the directory of the embeddings" in err
    (tmp_path / "work/vectors").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    code, _, err = beans("submit", submission, "--tasks", clips_task)
    assert code == 2 and 'write directory = "work/vectors"' in err
    (tmp_path / "vectors").mkdir()
    code, _, err = beans("submit", submission, "--tasks", clips_task)
    assert code == 2 and "holds no .npz or .parquet file" in err
    write_npz(tmp_path / "vectors", "other", ["a"], {"x": np.zeros((1, 3))})
    code, _, err = beans("submit", submission, "--tasks", clips_task)
    assert code == 2 and "holds no embeddings of tones: add tones.npz or .parquet" in err


def test_the_track_that_reads_frames_is_refused(beans: Run, tmp_path: Path, submission: Path, clips_task: Path) -> None:
    write_npz(tmp_path / "vectors", "tones", *embed(beans, clips_task))
    code, _, err = beans("submit", submission, "--tasks", clips_task, "--track", "twa", *QUICK)
    assert code == 2 and "one vector per clip, and no frames: choose tracks that do not read frames" in err
