"""beans submit, end to end through the command line: a file in, a ranked row out, and a sentence for every mistake."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import Run, write_clips_task, write_submission
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leaderboard.database.store import Store
from leaderboard.records.files import read_record
from leaderboard.records.predictions import read_predictions
from leaderboard.records.reproduce import caveat, command, file_name, submission_file
from tasks.support.home import Home

QUICK = ("--trials", 4, "--seeds", 2)


def results(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def test_a_checkpoint_becomes_a_row_with_every_promised_field(
    beans: Run, own_home: Path, tmp_path: Path, checkpoints: dict[str, Path], clips_task: Path, windows_task: Path
) -> None:
    submission = write_submission(tmp_path / "tiny.toml", f'loader = "huggingface"\nmodel = "{checkpoints["group"]}"')
    tasks = f"{clips_task},{windows_task}"
    code, out, err = beans("submit", submission, "--tasks", tasks, "--track", "ta,twa", *QUICK, "--json")
    assert code == 0, err
    found = results(out)
    assert [(row["task"], row["track"]) for row in found] == [
        ("tones", "ta"), ("tones", "twa"), ("scape", "ta"), ("scape", "twa")
    ]  # fmt: skip
    for row in found:
        assert row["submission"] == "tiny"
        assert row["protocol"] == "beans-probe/2+trials=4+seeds=2"
        assert row["metric"] == ("accuracy" if row["task"] == "tones" else "map")
        assert 0 <= row["ci_low"] <= row["test"] <= row["ci_high"] <= 1  # type: ignore[operator]
        assert row["n_layers"] == len(row["layers"]) == 4  # type: ignore[arg-type]
        assert row["layers"][row["best_layer"]]["name"] == row["best_layer_name"]  # type: ignore[index]
        assert row["valid"] == max(layer["valid"] for layer in row["layers"])  # type: ignore[attr-defined]
        assert {"load", "features", "search", "test"} <= set(row["seconds"])  # type: ignore[call-overload]
        assert (row["n_train"], row["n_valid"], row["n_test"]) == (
            (36, 12, 12) if row["task"] == "tones" else (44, 22, 22)
        )
        record = read_record(Path(str(row["record"])))
        assert record.test == row["test"] and len(record.trials) == 4
        run = MlflowClient(f"sqlite:///{own_home / 'mlflow.db'}").get_run(str(row["mlflow_run_id"]))
        assert run.data.metrics["test"] == pytest.approx(record.test)
    board = {(r.submission, r.task, r.track): r.test for r in Store(Home.from_environment().database_url).results()}
    assert board == {("tiny", row["task"], row["track"]): row["test"] for row in found}
    code, out, _ = beans("leaderboard", "show", "--json")
    assert code == 0
    assert {(b["track"], b["rows"][0]["rank"]) for b in json.loads(out)} == {("ta", 1), ("twa", 1)}


def test_the_reported_score_is_what_the_stored_predictions_give_also_when_submitted_again(
    beans: Run, statistics: Path, clips_task: Path, own_home: Path
) -> None:
    command = ("submit", statistics, "--tasks", clips_task, *QUICK, "--device", "cpu", "--json")
    _, out, _ = beans(*command)
    (row,) = results(out)
    record = read_record(Path(str(row["record"])))
    stored = read_predictions(own_home / "records", record)
    per_seed = [(seed.argmax(-1) == stored.targets).mean() for seed in stored.scores]
    assert row["test"] == pytest.approx(np.mean(per_seed))
    assert row["test_std"] == pytest.approx(np.std(per_seed, ddof=1))
    assert record.test_seeds == pytest.approx(per_seed)
    # On a machine without a GPU the memory column is empty, with the reason.
    assert record.efficiency.vram_bytes is None
    assert "no GPU" in record.efficiency.reason
    # Submitting again changes nothing and repeats the numbers.
    (again,) = results(beans(*command)[1])
    assert (row["reused"], again["reused"]) == (False, True)
    assert {**row, "reused": None} == {**again, "reused": None}
    assert len(Store(Home.from_environment().database_url).results()) == 1


def test_the_floor_solves_tones_as_scikit_learn_does(beans: Run, statistics: Path, clips_task: Path) -> None:
    """An independent pipeline (numpy spectrum, logistic regression) solves it, so the suite must come close to it."""
    _, out, _ = beans("submit", statistics, "--tasks", clips_task, "--json")
    (row,) = results(out)
    features: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[str]] = {"train": [], "test": []}
    for line in (clips_task.parent / "clips.csv").read_text().splitlines()[1:]:
        path, label, split = line.split(",")
        if split in features:
            sound, rate = soundfile.read(clips_task.parent / path)
            spectrum = np.abs(np.fft.rfft(sound, n=rate))[:8_000]
            features[split].append(np.log(spectrum.reshape(40, 200).mean(1) + 1e-6))
            labels[split].append(label)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features["train"], labels["train"])
    assert model.score(features["test"], labels["test"]) > 0.9
    assert row["test"] >= 0.75  # type: ignore[operator]


def test_the_test_split_never_chooses(beans: Run, statistics: Path, clips_task: Path, own_home: Path) -> None:
    """With the test labels permuted, layer, rate, epoch and validation stay what they were."""
    _, out, _ = beans("submit", statistics, "--tasks", clips_task, *QUICK, "--json")
    (before,) = results(out)
    lines = (clips_task.parent / "clips.csv").read_text().splitlines()
    swap = {"low": "mid", "mid": "high", "high": "top", "top": "low"}
    changed = []
    for line in lines:
        path, label, split = line.split(",")
        changed.append(f"{path},{swap[label] if split == 'test' else label},{split}")
    (clips_task.parent / "clips.csv").write_text("\n".join(changed) + "\n")
    _, out, _ = beans("submit", statistics, "--tasks", clips_task, *QUICK, "--json")
    (after,) = results(out)
    for key in ("best_layer", "lr", "epoch", "valid"):
        assert after[key] == before[key]
    assert after["test"] < before["test"]  # type: ignore[operator]


def test_a_corrected_fact_reaches_the_board_without_a_new_result(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    about = '[about]\ndescription = "{}"\nfamily = "f"\nauthors = "a"\nlicence = "MIT"'
    keys = 'loader = "statistics"\nsample_rate = 16000\n'
    submission = write_submission(tmp_path / "s.toml", keys + about.format("first"))
    beans("submit", submission, "--tasks", clips_task, *QUICK, "--json")
    write_submission(submission, keys + about.format("second"))
    _, out, _ = beans("submit", submission, "--tasks", clips_task, *QUICK, "--json")
    (row,) = results(out)
    assert row["reused"]
    store = Store(Home.from_environment().database_url)
    (result,) = store.results()
    record = store.record(result.record_id)
    assert record is not None and record.submission.about["description"] == "second"


def test_a_limited_run_is_marked_and_not_ranked(beans: Run, statistics: Path, clips_task: Path) -> None:
    code, out, _ = beans("submit", statistics, "--tasks", clips_task, *QUICK, "--limit", 8, "--json")
    assert code == 0
    (row,) = results(out)
    assert row["limit"] == 8 and row["n_train"] == 8
    _, out, _ = beans("leaderboard", "show", "--json")
    (board,) = json.loads(out)
    assert [(r["rank"], r["limit"]) for r in board["rows"]] == [(None, 8)]


def test_a_grid_of_rates_replaces_the_search_and_is_ranked_apart(
    beans: Run, statistics: Path, clips_task: Path
) -> None:
    _, out, _ = beans("submit", statistics, "--tasks", clips_task, "--lr", "1e-3,1e-2", "--json")
    (row,) = results(out)
    assert row["lr"] in (1e-3, 1e-2)
    assert row["protocol"] == "beans-probe/2+grid=0.001,0.01"


@pytest.mark.parametrize(
    "options",
    [
        ("--shots", "2", "--shots-seed", "3", "--trials", "2", "--seeds", "2"),
        ("--lr", "1e-3,1000000", "--limit", "20"),
        ("--low", "--lr", "1.23456789e-2", "--seeds", "1"),
    ],
)
def test_the_command_on_a_results_page_repeats_the_result(
    beans: Run, statistics: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """Run beside its submission file it finds the record that it was made for, instead of measuring another thing."""
    rows = (clips_task.parent / "clips.csv").read_text().splitlines()
    marked = [f"{row},{number % 2}" for number, row in enumerate(rows[1:])]
    (clips_task.parent / "clips.csv").write_text("\n".join([f"{rows[0]},low", *marked]) + "\n")
    code, out, err = beans("submit", statistics, "--tasks", clips_task, *options, "--json")
    assert code == 0, err
    (first,) = results(out)
    record = read_record(Path(str(first["record"])))
    assert caveat(record) == ""
    monkeypatch.chdir(clips_task.parent)
    Path(file_name(record)).write_text(submission_file(record))
    program, *arguments = shlex.split(command(record))
    assert program == "beans"
    code, out, err = beans(*arguments, "--json")
    assert code == 0, err
    (again,) = results(out)
    assert again["reused"] and again["record"] == first["record"]


def test_rates_that_differ_in_the_seventh_digit_are_different_results(
    beans: Run, statistics: Path, clips_task: Path
) -> None:
    """Under one name the second would be answered with the scores of the first."""
    found = []
    for rate in ("1e-2", "1.00000001e-2"):
        code, out, err = beans("submit", statistics, "--tasks", clips_task, "--lr", rate, "--seeds", 1, "--json")
        assert code == 0, err
        found += results(out)
    assert [row["lr"] for row in found] == [1e-2, 1.00000001e-2]
    assert [row["reused"] for row in found] == [False, False]


def test_the_table_says_what_sets_a_result_apart(beans: Run, statistics: Path, clips_task: Path) -> None:
    code, out, err = beans("submit", statistics, "--tasks", clips_task, "--lr", "1e-2,1e6", "--seeds", 1)
    assert code == 0, err
    assert "ta (grid=0.01,1e+06, seeds=1)" in out


def test_a_dry_run_says_what_is_missing_and_computes_nothing(
    beans: Run, statistics: Path, clips_task: Path, own_home: Path
) -> None:
    _, out, _ = beans("submit", statistics, "--tasks", clips_task, "--dry-run", "--json")
    (plan,) = results(out)
    assert plan["items"] == {"train": 36, "valid": 12, "test": 12}
    assert plan["seconds"] == plan["total_seconds"] == pytest.approx(60 * 0.45, rel=0.1)
    assert plan["bytes"] > 0 and plan["free_bytes"] > 0  # type: ignore[operator]
    assert not list(own_home.rglob("*.safetensors")) and not list(own_home.rglob("*.json"))


def test_a_failed_task_is_named_and_the_others_still_run(
    beans: Run, statistics: Path, tmp_path: Path, windows_task: Path
) -> None:
    broken = write_clips_task(tmp_path / "broken", "broken")
    (broken.parent / "audio/clip_001.flac").write_bytes(b"no audio at all")
    code, out, err = beans("submit", statistics, "--tasks", f"{broken},{windows_task}", *QUICK, "--json")
    assert code == 2
    assert [row["task"] for row in results(out)] == ["scape"]
    assert "clip_001.flac is not audio" in err and "Traceback" not in err
    assert f"({broken.parent / 'clips.csv'}, line 3): replace" in err and "--data-dir" not in err
    code, out, _ = beans("submit", statistics, "--tasks", f"{broken},{windows_task}", *QUICK, "--json", "--fail-fast")
    assert code == 2 and results(out) == []


def test_audio_that_is_not_there_is_named_with_its_line_and_where_paths_start(
    beans: Run, statistics: Path, clips_task: Path, windows_task: Path
) -> None:
    """The usual cause is data that lie elsewhere, and with many clips the line is hard to find."""
    for task, lost, where in ((clips_task, "clip_007.flac", "clips.csv, line 9"),
                              (windows_task, "train_1.wav", "train.jsonl, line 2")):  # fmt: skip
        (task.parent / "audio" / lost).unlink()
        code, _, err = beans("submit", statistics, "--tasks", task, "--dry-run")
        assert code == 2 and f"{lost} is missing ({task.parent / where})" in err
        assert f"relative paths start at {task.parent}, and --data-dir names another place" in err
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--data-dir", "/nowhere")
    assert code == 2 and f"name the one that the relative paths of {clips_task} start from" in err


def test_a_failed_submission_leaves_the_others_to_run(
    beans: Run, statistics: Path, tmp_path: Path, clips_task: Path
) -> None:
    lost = write_submission(tmp_path / "lost.toml", 'loader = "huggingface"\nmodel = "no/where"')
    code, out, err = beans("submit", lost, statistics, "--tasks", clips_task, *QUICK, "--json")
    assert code == 2
    assert "lost" in err and "hub" in err and "Traceback" not in err
    assert [row["submission"] for row in results(out)] == ["statistics"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tasks", "no-such-task"), "no task 'no-such-task'"),
        (("--tasks", "no-such.toml"), "does not exist"),
        (("--tasks", "mini-calls"), "Task mini-calls: not prepared: run `beans tasks prepare mini-calls`"),
        ((), "No task is prepared"),
        (("--track", "lstm"), "--track"),
        (("--lr", "1e-3,fast"), '--lr: "fast" is no number; write for example --lr 1e-'),
        (("--lr", "0"), '--lr: "0" is below 1e-12; write'),
        (("--lr", "1e300"), '--lr: "1e300" is above 1000000.0; write'),
        (("--lr", "nan"), '--lr: "nan" is no finite number; write'),
        (("--shots", "0"), '--shots: "0" is not above 0; write for example --shots 1,5,10'),
        (("--shots", "1,2.5"), '--shots: "2.5" is no whole number; write'),
        ((".",), "is a directory: name a submission file in it"),
        (("--track", "ta", "twa"), "join tracks by commas, as in --track ta,twa"),
        (("--device", "tpu"), "'--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("--precision", "fp8"), "'--precision': 'fp8' is not one of 'fp32', 'bf16'"),
        (("--seeds", "0"), "'--seeds': Input should be greater than or equal to 1"),
        (("--seeds", "1001"), "'--seeds': Input should be less than or equal to 1000"),
        (("--trials", "100001"), "'--trials': Input should be less than or equal to 100000"),
        (("--lr", ","), "--lr names no number: write for example --lr 1e-4,1e-3, or leave the option out"),
        (("--shots", ""), "--shots names no number"),
        (("--shots", "9" * 30), "is above 999999999999999999"),
        (("--shots", "1", "--shots-seed", "9" * 30), "'--shots-seed': Input should be less than or equal to"),
        (("--frames-budget", "nan"), "'--frames-budget': Input should be less than or equal to 1000000"),
        (("--frames-budget", "inf"), "'--frames-budget': Input should be less than or equal to 1000000"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    beans: Run, statistics: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = beans("submit", statistics, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err and len([line for line in err.splitlines() if line.startswith("Error")]) == 1


def test_cuda_that_is_not_there_is_said(beans: Run, statistics: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    code, _, err = beans("submit", statistics, "--device", "cuda")
    assert code == 2 and "no CUDA device" in err


def test_two_tasks_of_one_name_are_refused(beans: Run, statistics: Path, tmp_path: Path) -> None:
    """Their results would be taken for each other's."""
    one, other = write_clips_task(tmp_path / "a"), write_clips_task(tmp_path / "b")
    code, _, err = beans("submit", statistics, "--tasks", f"{one},{other}")
    assert code == 2 and "Two tasks are called 'tones'" in err


def test_layers_of_unequal_width_and_hop_go_through_both_tracks(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    from test_backbones import OWN

    (tmp_path / "mine.py").write_text(OWN)
    submission = write_submission(tmp_path / "mine.toml", 'loader = "python"\ntarget = "mine:Tiny"')
    code, out, err = beans("submit", submission, "--tasks", clips_task, "--track", "ta,twa", *QUICK, "--json")
    assert code == 0, err
    assert [row["track"] for row in results(out)] == ["ta", "twa"]
    for row in results(out):
        assert [layer["name"] for layer in row["layers"]] == ["conv", "pooled"]  # type: ignore[attr-defined]


FAULTY = """
import torch
from evaluator.backbone import Layer

class Faulty(torch.nn.Module):
    sample_rate, layers = 16_000, [Layer("one", 4)]
    def encode(self, waveforms, lengths):
        {}
"""


# What encode does, and what the sentence about it must say.
FAULTS = {
    "return undefined_name": "NameError",
    "return torch.zeros(3)": "encode failed|returned",
    "return None": r"nothing \(None\) and not two values",
    "raise KeyError('two\\nlines')": r"KeyError.*mine3\.py, line",
    "raise SystemExit(3)": "SystemExit",
    "return [torch.zeros(len(waveforms), 5, 3)], torch.full_like(lengths, 5)": "width 4",
    "return [torch.full((len(waveforms), 5, 4), torch.nan)], torch.full_like(lengths, 5)": "not finite",
    "return [torch.zeros(len(waveforms), 5, 4)], torch.full_like(lengths, 9)": "counts 9 as valid",
    "return [torch.zeros(len(waveforms), 5, 4)], torch.zeros_like(lengths)": "no frame",
}


def test_each_faulty_own_model_is_one_sentence_and_the_next_submission_runs(
    beans: Run, tmp_path: Path, clips_task: Path
) -> None:
    submissions = []
    for number, body in enumerate(FAULTS):
        (tmp_path / f"mine{number}.py").write_text(FAULTY.format(body))
        keys = f'loader = "python"\ntarget = "mine{number}:Faulty"'
        submissions.append(write_submission(tmp_path / f"mine{number}.toml", keys))
    floor = write_submission(tmp_path / "floor.toml", 'loader = "statistics"\nsample_rate = 16000')
    code, out, err = beans("submit", *submissions, floor, "--tasks", clips_task, *QUICK, "--json")
    assert code == 2 and "Traceback" not in err
    sentences = [line for line in err.splitlines() if line.startswith("Error")]
    assert len(sentences) == len(FAULTS), err
    for number, (sentence, said) in enumerate(zip(sentences, FAULTS.values(), strict=True)):
        assert re.search(said, sentence) and f"mine{number}" in sentence, sentence
    assert [row["submission"] for row in results(out)] == ["floor"], "the other submissions still run"


def test_a_home_that_cannot_be_made_is_one_sentence(
    beans: Run, statistics: Path, clips_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BEANS_HOME", str(tmp_path / "file"))
    code, _, err = beans("submit", statistics, "--tasks", clips_task, *QUICK)
    assert code == 2 and "Traceback" not in err and str(tmp_path / "file") in err


def test_ctrl_c_says_how_to_continue(
    beans: Run, statistics: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.features.store.FeatureStore.extract", interrupted)
    code, _, err = beans("submit", statistics, "--tasks", clips_task, *QUICK)
    assert code == 130 and "run the same command to continue" in err and "Traceback" not in err


def test_what_was_submitted_last_counts_also_when_it_was_there_already(
    beans: Run, tmp_path: Path, clips_task: Path
) -> None:
    submission = write_submission(tmp_path / "floor.toml", 'loader = "statistics"')
    table = clips_task.parent / "clips.csv"
    first_split = table.read_text()
    lines = first_split.splitlines()
    second_split = "\n".join([lines[0], *(line.replace("test", "valid") for line in lines[1:5]), *lines[5:]])
    other_split = second_split.replace("top,train", "top,test", 1)

    def submit() -> dict[str, object]:
        code, out, err = beans("submit", submission, "--tasks", clips_task, *QUICK, "--json")
        assert code == 0, err
        return results(out)[0]

    def on_board() -> str:
        code, out, _ = beans("leaderboard", "show", "--json")
        assert code == 0
        return str(json.loads(out)[0]["rows"][0]["cells"][0]["record_id"])

    def made(row: dict[str, object]) -> str:
        return str(json.loads(Path(str(row["record"])).read_text())["id"])

    first = submit()
    table.write_text(other_split)
    second = submit()
    assert on_board() == made(second) != made(first)
    table.write_text(first_split)
    again = submit()
    assert again["reused"] and made(again) == made(first)
    assert on_board() == made(first), "the board shows the result of data that are not there any more"
    code, _, err = beans("leaderboard", "rebuild")
    assert code == 0, err
    assert on_board() == made(first), "a rebuilt board forgets what was submitted last"


def test_another_model_of_the_same_name_is_announced(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    submission = write_submission(tmp_path / "mine.toml", 'loader = "statistics"')
    beans("submit", submission, "--tasks", clips_task, *QUICK)
    write_submission(tmp_path / "mine.toml", 'loader = "statistics"\nbands = 32')
    code, _, err = beans("submit", submission, "--tasks", clips_task, *QUICK)
    assert code == 0
    assert "The name mine was used with other weights" in err, "one model takes the other's place without a word"
