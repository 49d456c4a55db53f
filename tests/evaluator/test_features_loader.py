"""Embeddings computed elsewhere must meet the right clips, or every number is of something else."""

import csv
import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch
from builders import Run, write_submission

from evaluator.backbones.statistics import load as statistics
from evaluator.features.lookup import read_table
from tasks.sound import resample
from tasks.support.errors import UserError

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


IDS = [f"clip-{number}" for number in range(6)]
ROWS = np.random.default_rng(0).standard_normal((6, 3))


def saved(file: Path, **arrays: object) -> bytes:
    np.savez(file, **arrays)
    return file.read_bytes()


def table(**columns: object) -> pyarrow.Table:
    return pyarrow.table({"id": IDS, **columns})


def archive(file: Path, **members: bytes) -> None:
    with zipfile.ZipFile(file, "w") as sink:
        for name, content in members.items():
            sink.writestr(name.replace("_", "."), content)


def of_claimed_shape(*shape: int) -> bytes:
    """An array file whose header promises more numbers than any machine can hold."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return content.getvalue()


NPZ = {
    "a float64 that no float32 can hold": ({"a": ROWS * 1e300}, "a of clip-0 is beyond the range of float32"),
    "no channel": ({"a": ROWS[:, :0]}, "a is float64 of shape (6, 0)"),
    "text": ({"a": ROWS.astype(str)}, "not floating point"),
    "complex numbers": ({"a": ROWS + 1j}, "not floating point"),
    "Python objects": ({"a": ROWS.astype(object)}, "it holds Python objects"),
    "one frame too many dimensions": ({"a": ROWS[:, None]}, "of shape (6, 1, 3)"),
    "ids in a column": ({"ids": np.array(IDS)[:, None], "a": ROWS}, "ids is <U6 of shape (6, 1)"),
    "ids as decimal numbers": ({"ids": ROWS[:, 0], "a": ROWS}, "ids is float64"),
}
PARQUET = {
    "a float64 that no float32 can hold": (table(a=list(ROWS * 1e300)), "beyond the range of float32"),
    "dictionaries": (table(a=[{"x": 1.0}] * 6), "a is struct<x: double>, not lists of floating point"),
    "text": (table(a=[["1.5"]] * 6), "a is list<element: string>"),
    "whole numbers": (table(a=[[1]] * 6), "a is list<element: int64>"),
    "lists of lists": (table(a=[[[1.0]]] * 6), "not lists of floating point"),
    "numbers, not lists": (table(a=[1.0] * 6), "a is double"),
    "a row without a vector": (table(a=[None, *ROWS[1:]]), "a has rows without a vector"),
    "an empty entry": (table(a=[[None, 1.0, 2.0], *ROWS[1:]]), "a of clip-0 is not finite"),
    "vectors of two widths": (table(a=[[1.0], *ROWS[1:]]), "different lengths"),
    "no channel": (table(a=pyarrow.array([[]] * 6, pyarrow.list_(pyarrow.float32()))), "of shape (6, 0)"),
    "a row without an id": (table(a=list(ROWS)).set_column(0, "id", [[None, *IDS[1:]]]), "has empty rows"),
    "one layer twice": (table(a=list(ROWS)).append_column("a", [list(ROWS)]), "holds the column a twice"),
}


@pytest.mark.parametrize("case", NPZ)
def test_arrays_that_are_no_vectors_are_refused_and_not_trained_on(tmp_path: Path, case: str) -> None:
    arrays, says = NPZ[case]
    saved(tmp_path / "tones.npz", **{"ids": np.array(IDS), **arrays})
    with pytest.raises(UserError, match=re.escape(says)):
        read_table(tmp_path / "tones.npz")


@pytest.mark.parametrize("case", PARQUET)
def test_columns_that_are_no_vectors_are_refused_and_not_trained_on(tmp_path: Path, case: str) -> None:
    columns, says = PARQUET[case]
    pyarrow.parquet.write_table(columns, tmp_path / "tones.parquet")
    with pytest.raises(UserError, match=re.escape(says)):
        read_table(tmp_path / "tones.parquet")


def test_a_file_that_is_damaged_or_of_another_format_is_one_sentence(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.npz", ids=np.array(IDS), a=ROWS)
    array = io.BytesIO()
    np.save(array, ROWS)
    pyarrow.parquet.write_table(table(a=list(ROWS)), tmp_path / "whole.parquet")
    columns = (tmp_path / "whole.parquet").read_bytes()
    plain = {
        "half.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
        "empty.npz": b"",
        "array.npz": array.getvalue(),
        "pickled.npz": pickle.dumps({"ids": IDS}),
        "half.parquet": columns[: len(columns) // 2],
        "empty.parquet": b"",
        "zip.parquet": whole,
    }
    for name, content in plain.items():
        (tmp_path / name).write_bytes(content)
    archive(tmp_path / "words.npz", hello_txt=b"hello")
    archive(tmp_path / "claims.npz", ids_npy=of_claimed_shape(10**15), a_npy=of_claimed_shape(10**9, 10**6))
    for name in (*plain, "words.npz", "claims.npz"):
        with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
            read_table(tmp_path / name)


def test_two_files_of_one_task_are_refused_and_none_is_silently_left_out(
    beans: Run, tmp_path: Path, submission: Path
) -> None:
    write_npz(tmp_path / "vectors", "tones", IDS, {"a": ROWS})
    write_parquet(tmp_path / "vectors", "tones", IDS, {"a": ROWS})
    code, out, _ = beans("check", submission, "--json")
    assert code == 2 and "are of the same task: remove one of them" in out


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
