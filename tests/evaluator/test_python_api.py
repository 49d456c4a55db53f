"""The suite from Python: the same results as the command line, the same vectors as the feature store."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from builders import Run, tone, write_clips_task, write_submission
from safetensors.numpy import load_file

from evaluator import Protocol, UserError, embed, embed_parts, evaluate, load_submission
from evaluator.backbone import ready
from evaluator.features.extraction import Extractor
from evaluator.features.store import FeatureStore
from leaderboard import Results, load_board, load_record
from leaderboard.records.flags import FLAGS
from tasks.manifest import read_manifest
from tasks.sound import read_header
from tasks.task import load_task

ROOT = Path(__file__).parents[2]
QUICK = Protocol(trials=3, seeds=2)
OPTIONS = ("--trials", 3, "--seeds", 2, "--device", "cpu", "--json")
KEYS = ["record_id", "submission", "task", "track"]


def home_with_mlflow(place: Path, empty_database: Path) -> Path:
    """A home in which MLflow's tables exist: making them takes longer than all else."""
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_database, place / "mlflow.db")
    return place


@pytest.fixture
def tiny(tmp_path: Path, checkpoints: dict[str, Path]) -> Path:
    """A submission file for a small HuBERT."""
    return write_submission(tmp_path / "tiny.toml", f'loader = "huggingface"\nmodel = "{checkpoints["group"]}"')


def fresh(code: str, *options: str) -> str:
    """Standard output of a fresh Python."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        "from evaluator import evaluate",
        "import evaluator.evaluate",
        "from evaluator.evaluate import Evaluation",
        "import importlib; importlib.import_module('evaluator.evaluate')",
        "from evaluator import *",
    ],
)
def test_evaluate_is_the_function_whatever_was_imported_before(first: str) -> None:
    """Python sets the module of the same name as an attribute of the package."""
    fresh(
        f"{first}\n"
        "import evaluator.evaluate\n"
        "from evaluator import evaluate\n"
        "from evaluator.evaluate import Evaluation\n"
        "assert evaluate is evaluator.evaluate and evaluate.__module__ == 'evaluator.api.evaluation', evaluate\n"
        "assert Evaluation.__module__ == 'evaluator.evaluate'\n"
    )


def test_importing_the_packages_and_listing_their_names_loads_nothing_heavy() -> None:
    out = fresh(
        "import sys, evaluator, leaderboard\n"
        "assert set(evaluator.__all__) <= set(dir(evaluator)) and set(leaderboard.__all__) <= set(dir(leaderboard))\n"
        "heavy = {'torch', 'mlflow', 'streamlit', 'pandas', 'numpy', 'pydantic', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert not hasattr(evaluator, 'evalute') and not hasattr(leaderboard, 'load')\n"
        "from evaluator import Protocol\n"
        "assert 'torch' not in sys.modules\n"
        "print(Protocol(trials=4).name)\n"
    )
    assert out == "beans-probe/2+trials=4\n"


def test_the_package_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "evaluator", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "beans submit submissions/statistics.toml" in done.stdout, done.stderr


def test_evaluate_makes_the_records_of_the_command_line_and_the_frames_hold_their_numbers(
    beans: Run, own_home: Path, tmp_path: Path, tiny: Path, clips_task: Path, windows_task: Path, empty_database: Path
) -> None:
    other = home_with_mlflow(tmp_path / "other-home", empty_database)
    results = evaluate(tiny, [clips_task, str(windows_task)], ["ta", "twa"], QUICK, home=other, device="cpu")
    code, out, err = beans("submit", tiny, "--tasks", f"{clips_task},{windows_task}", "--track", "ta,twa", *OPTIONS)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert not any(row["reused"] for row in rows)
    records = [json.loads(Path(row["record"]).read_text()) for row in rows]
    assert [stored.record.id for stored in results] == [record["id"] for record in records]
    assert {stored.path.parent for stored in results} == {other / "records"}

    scores = results.scores()
    assert list(scores.columns[:4]) == KEYS
    for (_, line), row in zip(scores.iterrows(), rows, strict=True):
        for key in ("submission", "task", "track", "protocol", "metric", "valid", "test", "test_std", "ci_low",
                    "ci_high", "best_layer", "best_layer_name", "lr", "epoch"):  # fmt: skip
            assert line[key] == row[key], key
        assert pd.isna(line["limit"]) and pd.isna(line["vram_bytes"])
        for key in ("looks", "valid_recordings", "optimism"):
            assert line[key] == row[key], key
        assert line["reference_test"] == row["reference"]["test"]

    layers, trials, predictions = results.layers(), results.trials(), results.predictions()
    for row, record in zip(rows, records, strict=True):
        of_record = layers[layers["record_id"] == record["id"]]
        assert of_record[["layer", "name", "valid", "test"]].rename(columns={"layer": "index"}).to_dict("records") == [
            {key: layer[key] for key in ("index", "name", "valid", "test")} for layer in row["layers"]
        ]
        assert of_record.loc[of_record["chosen"], "layer"].tolist() == [row["best_layer"]]
        assert of_record.loc[of_record["alike"], "layer"].tolist() == row["layers_alike"]
        found = trials[trials["record_id"] == record["id"]]
        assert len(found) == 3 * 4
        for trial in record["trials"]:
            of_trial = found[found["trial"] == trial["number"]].sort_values("layer")
            assert of_trial["valid"].tolist() == trial["valid"] and of_trial["epoch"].tolist() == trial["epoch"]
            assert of_trial["loss"].tolist() == trial["loss"]
            assert set(of_trial["lr"]) == {trial["lr"]}

        stored = load_file(Path(row["record"]).parent / record["predictions"]["file"])
        seeds, items, classes = stored["scores"].shape
        said = predictions[predictions["record_id"] == record["id"]]
        np.testing.assert_array_equal(said["logit"].to_numpy().reshape(seeds, items, classes), stored["scores"])
        assert said["label"].iloc[:classes].tolist() == record["task"]["labels"]
        targets = said["target"].to_numpy().reshape(seeds, items, classes)
        wanted = np.eye(classes)[stored["targets"]] if stored["targets"].ndim == 1 else stored["targets"]
        np.testing.assert_array_equal(targets, np.broadcast_to(wanted, targets.shape))
        if record["metric"] == "accuracy":
            top = said.loc[said.groupby(["seed", "item"], observed=True)["logit"].idxmax()]
            assert top.groupby("seed")["target"].mean().tolist() == pytest.approx(record["test_seeds"])
    tones = predictions[(predictions["task"] == "tones") & (predictions["track"] == "ta")]
    by_item = {item.id: item for item in read_manifest(load_task(str(clips_task), data=Path())).items["test"]}
    assert set(tones["item"]) == set(by_item)
    names = ("high", "low", "mid", "top")
    for _, line in tones[tones["target"]].iterrows():
        assert names.index(line["label"]) == by_item[line["item"]].labels[0]
        assert line["recording"] == by_item[line["item"]].recording

    # Again, in the command line's home: nothing is computed, and the record is the same file.
    before = Path(rows[0]["record"]).read_bytes()
    again = evaluate(load_submission(tiny), clips_task, protocol=QUICK, device="cpu")
    assert again.record.id == records[0]["id"] and again[0].path.read_bytes() == before
    assert again[0].confirmed is not None, "it counts as submitted again"
    assert own_home in again[0].path.parents

    loaded = load_record(again.record.id)
    pd.testing.assert_frame_equal(loaded.layers(), again.layers())
    pd.testing.assert_frame_equal(load_record(again[0].path, home=other).predictions(), again.predictions())
    assert len(Results([*loaded, *results[1:]]).scores()) == 4
    with pytest.raises(UserError, match="There are 4 records"):
        _ = results.record
    with pytest.raises(UserError, match="No record in"):
        load_record("0123456789abcdef")
    assert Results(()).layers().empty


def test_a_board_has_the_numbers_of_the_command_line(
    beans: Run, tmp_path: Path, own_home: Path, empty_database: Path, clips_task: Path, windows_task: Path
) -> None:
    home_with_mlflow(own_home, empty_database)
    with pytest.raises(UserError, match="board is empty"):
        load_board()
    for bands in (24, 32):
        path = write_submission(tmp_path / f"floor-{bands}.toml", f'loader = "statistics"\nbands = {bands}')
        evaluate(path, [clips_task, windows_task] if bands == 24 else clips_task, protocol=QUICK)
    evaluate(path, clips_task, protocol=QUICK, limit=20)
    code, out, err = beans("leaderboard", "show", "--json")
    assert code == 0, err
    (shown,) = json.loads(out)
    board = load_board(track="ta", protocol=QUICK, tasks="own")
    pd.testing.assert_frame_equal(board, load_board())
    assert board["submission"].tolist() == [row["submission"] for row in shown["rows"]]
    assert set(board["track"]) == {"ta"} and set(board["protocol"]) == {QUICK.name}
    for (_, line), row in zip(board.iterrows(), shown["rows"], strict=True):
        for key in ("rank", "mean", "parameters", "limit"):
            assert line[key] == row[key] or (pd.isna(line[key]) and row[key] is None), key
        if row["standing"]:
            assert (line["rank_low"], line["rank_high"]) == (row["standing"]["rank_low"], row["standing"]["rank_high"])
        for column, cell in zip(shown["columns"], row["cells"], strict=True):
            if cell["result"] is None:
                assert pd.isna(line[column["task"]]) and line[f"{column['task']}.note"] == cell["reason"]
            else:
                assert line[column["task"]] == cell["result"]["test"]
                assert line[f"{column['task']}.ci_low"] == cell["result"]["ci_low"]
                assert line[f"{column['task']}.record_id"] == cell["result"]["record_id"]
    with pytest.raises(UserError, match=r"no such board\. There are: track='ta', .*trials=3.* tasks='own'"):
        load_board(track="twa")


def test_what_cannot_be_used_is_one_sentence_before_anything_is_computed(
    own_home: Path, statistics: Path, clips_task: Path, tmp_path: Path
) -> None:
    for wrong, said in (
        ({"task": "no-such-task"}, "no task 'no-such-task'"),
        ({"task": [clips_task, "mini-calls"]}, "Task mini-calls: not prepared: run `beans tasks prepare mini-calls`"),
        ({"task": []}, "name at least one task"),
        ({"track": "lstm"}, "no track 'lstm'.*ta, twa"),
        ({"device": "tpu"}, "Device 'tpu' is unknown: choose from auto, cpu, cuda"),
        ({"protocol": Protocol(train="low")}, "no few-label split"),
        ({"submission": tmp_path / "none.toml"}, "none.toml does not exist"),
        ({"task": [clips_task, write_clips_task(tmp_path / "same")]}, "Two tasks are called 'tones'"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate(**{"submission": statistics, "task": clips_task, **wrong})  # type: ignore[arg-type]
    assert not own_home.exists()


def test_a_task_that_fails_is_raised_at_the_end_and_the_others_are_kept(
    own_home: Path, empty_database: Path, statistics: Path, clips_task: Path, tmp_path: Path
) -> None:
    home_with_mlflow(own_home, empty_database)
    broken = write_clips_task(tmp_path / "broken", "broken")
    (broken.parent / "audio/clip_001.flac").write_bytes(b"no audio at all")
    with pytest.raises(UserError, match=r"statistics · broken · ta: .*clip_001\.flac is not audio"):
        evaluate(statistics, [broken, clips_task], protocol=QUICK)
    (kept,) = (own_home / "records").glob("statistics.tones.ta.????????????????.json")
    before = kept.stat().st_mtime_ns
    assert evaluate(statistics, clips_task, protocol=QUICK)[0].path == kept and kept.stat().st_mtime_ns == before


def test_a_server_that_is_down_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, statistics: Path, clips_task: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match=r"statistics · tones · ta: .*127\.0\.0\.1"):
        results = evaluate(statistics, clips_task, protocol=QUICK)
    assert 0 <= results.record.test <= 1


def clips_of(task: Path) -> list[Path]:
    """Test files of a task, in the order of its manifest."""
    return [item.path for item in read_manifest(load_task(str(task), data=Path())).items["test"]]


def test_vectors_and_frames_are_those_of_the_feature_store_to_the_bit(
    tmp_path: Path, tiny: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several shards.
    monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", 2.0)
    device = torch.device("cpu")
    extractor = Extractor.of(ready(load_submission(tiny).load()), device)
    manifest = read_manifest(load_task(str(clips_task), data=Path()))
    features = FeatureStore(tmp_path / "features").extract(extractor, manifest, frames=True)
    assert len(features.plans["test"]) > 1
    vectors = embed(tiny, clips_of(clips_task), device="cpu")
    frames = embed(tiny, clips_of(clips_task), frames=True, device="cpu")
    assert list(vectors) == [0, 1, 2, 3] == list(frames)
    pooled = features.samples("test", [0, 1, 2, 3], device, frames=False)
    framed = features.samples("test", [0, 1, 2, 3], device, frames=True)
    for position in range(len(manifest.items["test"])):
        index = torch.tensor([[position]])
        stored = next(iter(next(iter(pooled.batches(index))).pieces()))[1]
        pieces = torch.cat([inputs.clone() for batch in framed.batches(index) for _, inputs, _ in batch.pieces()])
        for layer in vectors:
            np.testing.assert_array_equal(vectors[layer][position], stored[layer, 0].numpy())
            assert frames[layer][position].dtype == np.float32
            np.testing.assert_array_equal(frames[layer][position], pieces[layer, 0].numpy())


def test_the_order_of_the_files_is_kept_and_each_row_is_a_plain_forward_pass(
    tmp_path: Path, tiny: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", 1.0)
    files = [str(path) for path in reversed(clips_of(clips_task))]
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([tone(500, 0.7, 16_000, 1), tone(900, 0.7, 16_000, 2)], 1) * 0.3, 16_000)
    files = [files[0], str(stereo), *files[1:], str(stereo)]
    backbone = load_submission(tiny).load()
    name = backbone.layers[2].name
    found = embed(tiny, (file for file in files), layers=[-1, name, 0], device="cpu")
    assert list(found) == [-1, name, 0]
    ready(backbone)
    for position, file in enumerate(files):
        sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
        if rate != 16_000:
            continue
        waveform = torch.from_numpy(sound.mean(1))[None]
        with torch.inference_mode():
            outputs, _ = backbone.encode(waveform, torch.tensor([waveform.shape[1]]))
        for key, layer in ((-1, 3), (name, 2), (0, 0)):
            expected = outputs[layer][0].mean(0).numpy()
            np.testing.assert_allclose(found[key][position], expected, atol=1e-5)
    parts = list(embed_parts(tiny, files, layers=[-1], device="cpu"))
    assert len(parts) > 2 and sorted(place for part in parts for place in part.positions) == list(range(len(files)))
    for part in parts:
        np.testing.assert_array_equal(part.vectors[-1], found[-1][part.positions])
        assert part.frames is None

    short = embed(tiny, [stereo], layers=[-1], max_duration=0.35, device="cpu")[-1]
    sound = torch.from_numpy(soundfile.read(stereo, dtype="float32")[0].mean(1))[None, : int(0.35 * 16_000)]
    with torch.inference_mode():
        outputs, _ = backbone.encode(sound, torch.tensor([sound.shape[1]]))
    np.testing.assert_allclose(short[0], outputs[-1][0].mean(0).numpy(), atol=1e-5)
    assert embed(tiny, [], layers=[0], device="cpu")[0].shape == (0, backbone.layers[0].width)


def test_what_cannot_be_embedded_is_one_sentence(tmp_path: Path, tiny: Path, clips_task: Path) -> None:
    files = clips_of(clips_task)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no audio at all")
    broken = tmp_path / "broken.toml"
    write_submission(broken, 'loader = "python"\ntarget = "nowhere:Model"')
    # Files are looked at before the model is loaded, which would fail here.
    with pytest.raises(UserError, match=r"noise\.wav is not audio.*gone\.wav is missing: replace the files or take"):
        embed(broken, [*files, noise, tmp_path / "gone.wav"])
    damaged = tmp_path / "damaged.flac"
    sound = np.random.default_rng(0).standard_normal(32_000) * 0.1
    soundfile.write(damaged, sound, 16_000)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    assert read_header(damaged).frames == 32_000, "its header is whole"
    with pytest.raises(UserError, match=r"damaged\.flac .*: replace the file or take it out of the list"):
        embed(tiny, [*files, damaged], device="cpu")
    with pytest.raises(UserError, match=r"Submission tiny has no layer 4: it has 0 to 3 \("):
        embed(tiny, files, layers=[4])
    with pytest.raises(UserError, match="has no layer 'blok 1'"):
        embed(tiny, files, layers=["blok 1"])
    with pytest.raises(UserError, match="give a list of files"):
        embed(tiny, files[0])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Precision 'fp8' is unknown"):
        embed(tiny, files, precision="fp8")
    with pytest.raises(UserError, match="max_duration -1 is not a positive number"):
        embed(tiny, files, max_duration=-1)
    np.savez(tmp_path / "tones.npz", ids=["a"], layer=np.zeros((1, 3), np.float32))
    elsewhere = write_submission(
        tmp_path / "elsewhere.toml", 'loader = "features"\ndirectory = "."\nsample_rate = 16000'
    )
    with pytest.raises(UserError, match="computed elsewhere: it cannot encode audio files"):
        embed(elsewhere, files)


def test_memory_holds_no_more_than_some_shards_of_audio(
    tiny: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of files that is longer than the memory must not be decoded at once."""
    from evaluator.features import clips

    monkeypatch.setattr(clips, "_SHARD_SECONDS", 1.0)
    decoded: list[int] = []
    decode = clips._decode_file
    monkeypatch.setattr(clips, "_decode_file", lambda group, rate: decoded.append(len(group)) or decode(group, rate))
    files = [item for item in clips_of(clips_task) for _ in range(4)]
    parts = embed_parts(tiny, files, layers=[0], device="cpu")
    first = next(parts)
    assert sum(decoded) <= 4 * max(4, len(first.positions)) < len(files)
    parts.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_page_about_python_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path, empty_database: Path
) -> None:
    """Block after block, in a project with the task that the page names."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "submissions", project / "submissions")
    home_with_mlflow(project / ".beans", empty_database)
    (project / ".beans/data").symlink_to(prepared)
    monkeypatch.chdir(project)
    monkeypatch.delenv("BEANS_HOME")
    text = (ROOT / "docs/python.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, flags=re.MULTILINE)]
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for sentence in FLAGS.values():
            warnings.filterwarnings("ignore", f".*: {re.escape(sentence)}")
        for block in blocks:
            exec(block, names)
    found = type("Names", (), names)
    assert round(found.results.record.test, 3) == 0.640, "README names this number"
    assert found.accuracy.mean() == pytest.approx(found.results.record.test)
    assert len(found.curve) == len(found.results.record.layers) and len(found.both) == 3
    assert found.board["submission"].tolist() == [found.best] == ["statistics"]
    assert "There is no task 'mini-cals'" in text and str(found.vectors[-1].shape) in text
    np.testing.assert_array_equal(found.table, found.vectors[-1])
    # The page states every column of every frame.
    for frame in ("scores", "layers", "trials", "predictions"):
        (line,) = re.findall(rf"^\| `{frame}\(\)` \|[^|]*\|(.*)\|$", text, flags=re.MULTILINE)
        assert re.findall(r"`(\w+)`", line) == list(getattr(found, frame).columns[4:])
