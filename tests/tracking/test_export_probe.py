"""An exported probe answers raw sound as its record says, in a process of its own; anything else is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import soundfile
import torch
from builders import save_checkpoint, tone, write_clips_task, write_submission
from mlflow_server import Server
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ports import free_port

from evaluator.evaluate import evaluate
from evaluator.export.model import ProbeModel
from evaluator.export.retrain import export_probe, protocol_of, register, require_registrable
from evaluator.submission import Submission
from leaderboard.records.files import read_record
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import HeadInfo, Record
from leaderboard.records.stored import find_record
from tasks.manifest import read_manifest
from tasks.subsets import limit, shots
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.task import Task, load_task

CPU = torch.device("cpu")
RATE = 8_000
# A model with two layers, of which the second shares no hop with the first; written as a user would.
OWN_MODEL = """
from pathlib import Path

import numpy as np
import torch
from evaluator.backbone import Layer

class Bands(torch.nn.Module):
    sample_rate = 8000
    layers = [Layer("bands", 12), Layer("slow", 6)]
    min_samples = 400

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv1d(1, 12, 80, stride=40)
        self.second = torch.nn.Conv1d(12, 6, 5, stride=3)

    def encode(self, waveforms, lengths):
        gain = float(np.load(Path(__file__).parent / "settings" / "gain.npy"))
        first = torch.relu(self.first(gain * waveforms[:, None]))
        second = self.second(first)
        counts = (lengths - 80) // 40 + 1
        return [first.mT, second.mT], [counts, (counts - 5) // 3 + 1]

def model():
    return Bands()
"""
FRESH = """
import builtins, json, sys
import mlflow, pandas, soundfile

asked, really = set(), builtins.__import__

def note(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and (globals or {}).get("__name__", "").partition(".")[0] in ("evaluator", "tasks"):
        asked.add(name.partition(".")[0])
    return really(name, globals, locals, fromlist, level)

builtins.__import__ = note
answers = {}
for directory, files in json.load(sys.stdin).items():
    model = mlflow.pyfunc.load_model(directory)
    code = sys.modules["evaluator.export.model"].__file__
    sounds = [soundfile.read(file, dtype="float32") for file in files]
    table = pandas.DataFrame({"waveform": [s for s, _ in sounds], "sample_rate": [r for _, r in sounds]})
    found = model.predict(table)
    by_path = model.predict([{"path": file} for file in files])
    answers[directory] = {"code": code, "found": found.to_dict("list"), "by_path": by_path["scores"].tolist()}
answers["modules"] = sorted(asked)
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Case:
    """A submission on a task, its record, and what that holds."""

    home: Home
    submission: Submission
    task: Task
    record_file: Path

    @property
    def record(self) -> Record:
        return read_record(self.record_file)

    @property
    def stored(self) -> PredictedScores:
        return read_predictions(self.record_file.parent, self.record)

    def export(self, output: Path, **changes: Any) -> Path:
        known: dict[str, Any] = {"submission": self.submission, "task": self.task, "device": CPU}
        return export_probe(self.record_file, home=self.home, output=output, **{**known, **changes})


def evaluated(home: Home, submission: Path, task_file: Path, rules: Protocol, track: str, items: int | None) -> Case:
    task = load_task(str(task_file), data=home.data)
    read = Submission.read(submission)
    manifest = read_manifest(task)
    if items is not None:
        manifest = limit(manifest, items)
    if rules.train != "all":
        manifest = shots(manifest, 3, seed=1)
    (outcome,) = evaluate(read, [manifest], [track], rules, home, device=CPU, limit=items)
    assert outcome.path is not None, outcome.error
    return Case(home, read, task, outcome.path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Home:
    home = Home.at(tmp_path_factory.mktemp("home"))
    shutil.copy(empty_database, home.root / "mlflow.db")
    return home


@pytest.fixture(scope="module")
def clips(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A Hugging Face checkpoint in a directory, frames weighted, trained on three shots a class."""
    place = tmp_path_factory.mktemp("clips")
    save_checkpoint(place / "checkpoint", "layer")
    submission = write_submission(place / "small.toml", 'loader = "huggingface"\nmodel = "checkpoint"')
    rules = Protocol(grid=(1e-2,), seeds=2, epochs=6, train="3-shot-seed1")
    return evaluated(home, submission, write_clips_task(place / "task"), rules, "twa", None)


@pytest.fixture(scope="module")
def windows(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A Python model that reads a file, on the windows of recordings, time-averaged, limited."""
    place = tmp_path_factory.mktemp("windows")
    (place / "own_model.py").write_text(OWN_MODEL)
    (place / "settings").mkdir()
    np.save(place / "settings/gain.npy", 2.0)
    keys = 'loader = "python"\ntarget = "own_model:model"\nfiles = ["settings"]'
    submission = write_submission(place / "own.toml", keys)
    for number, (split, count) in enumerate((("train", 4), ("valid", 2), ("test", 2))):
        lines = []
        for recording in range(count):
            file, start = f"{split}{recording}.wav", 1.0 + recording % 3
            sound = 0.05 * np.random.default_rng([number, recording]).standard_normal(6 * RATE)
            call = tone(600 if recording % 2 else 2000, 2.0, RATE, 0, noise=0.0)
            sound[int(start * RATE) : int(start * RATE) + len(call)] += 0.5 * call
            # Another rate than the model's, so that windows are cut before they are resampled.
            soundfile.write(place / file, np.repeat(sound, 2) * 0.5, 2 * RATE)
            call_now = {"st": start, "ed": start + 2, "label": "low" if recording % 2 else "high"}
            lines.append(json.dumps({"path": file, "length": 6.0, "annotations": [call_now]}))
        (place / f"{split}.jsonl").write_text("\n".join(lines))
    task = place / "scape.toml"
    task.write_text(
        'name = "scape"\nkind = "detection"\nwindow_width = 1.5\nwindow_shift = 0.75\n'
        'train = "train.jsonl"\nvalid = "valid.jsonl"\ntest = "test.jsonl"\n'
    )
    return evaluated(home, submission, task, Protocol(grid=(1e-2,), seeds=2, epochs=6), "ta", 20)


@pytest.fixture(scope="module")
def exported(clips: Case, windows: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("exported")
    found = {"clips": clips.export(place / "clips"), "windows": windows.export(place / "windows", seed=1)}
    # Away from where they were made: what a model still reads from there is missing now.
    return {name: Path(shutil.move(path, tmp_path_factory.mktemp("moved") / name)) for name, path in found.items()}


@pytest.fixture(scope="module")
def answers(
    exported: dict[str, Path], clips: Case, windows: Case, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a process that knows only the two directories says of the test sounds."""
    files = {
        str(exported["clips"]): [str(clips.task.root / one) for one in clips.stored.ids],
        str(exported["windows"]): [str(windows.task.root / f"test{number}.wav") for number in range(2)],
    }
    sources = ((clips, "checkpoint"), (windows, "own_model.py"), (windows, "settings"))
    hidden = [case.submission.path.parent / name for case, name in sources]
    for path in hidden:
        path.rename(path.with_name(f"{path.name}.hidden"))
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FRESH],
            input=json.dumps(files),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path_factory.mktemp("elsewhere"),
        )
    finally:
        for path in hidden:
            path.with_name(f"{path.name}.hidden").rename(path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"modules": found["modules"], **{name: found[str(path)] for name, path in exported.items()}}


def test_clips_get_the_label_and_scores_of_the_record(clips: Case, answers: dict[str, Any]) -> None:
    found, stored = answers["clips"]["found"], clips.stored.scores[0]
    np.testing.assert_allclose(found["scores"], stored, atol=1e-4)
    labels = clips.record.task.labels
    assert found["label"] == [labels[row.argmax()] for row in stored]
    assert found["item"] == list(range(len(stored))), "answers do not say which sound they are about"
    odds = np.exp(stored - stored.max(1, keepdims=True))
    np.testing.assert_allclose(found["probabilities"], odds / odds.sum(1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(answers["clips"]["by_path"], found["scores"], atol=1e-6)


def test_whole_recordings_get_the_windows_and_scores_of_the_record(windows: Case, answers: dict[str, Any]) -> None:
    found, stored = answers["windows"]["found"], windows.stored
    table = {}
    for item, start, end, labels, scores in zip(
        *(found[name] for name in ("item", "start", "end", "labels", "scores")), strict=True
    ):
        table[f"test{item}.wav@{start:g}-{end:g}"] = scores
        named = zip(windows.record.task.labels, scores, strict=True)
        assert labels == [label for label, score in named if 1 / (1 + np.exp(-score)) > 0.5]
    assert set(table) >= set(stored.ids), "windows are not cut as the task cuts them"
    # Seed 1, and the limited record holds only some of the windows.
    np.testing.assert_allclose([table[one] for one in stored.ids], stored.scores[1], atol=1e-4)


def test_model_runs_the_code_it_brought(exported: dict[str, Path], answers: dict[str, Any]) -> None:
    assert Path(answers["clips"]["code"]).is_relative_to(exported["clips"]), "the suite's next version would change it"
    assert not list(exported["clips"].rglob("*.pkl")), "a pickle runs code when it is loaded"


def test_pins_bring_all_that_the_model_imports(exported: dict[str, Path], answers: dict[str, Any]) -> None:
    pins = [Requirement(line) for line in (exported["clips"] / "requirements.txt").read_text().split()]
    assert all(version(pin.name) in pin.specifier for pin in pins), "other versions are asked for than were checked"
    brought: set[str] = set()
    todo = [pin.name for pin in pins]
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in brought:
            brought.add(name)
            needs = [Requirement(line) for line in requires(name) or []]
            todo += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    assert {"torch", "soundfile", "transformers"} < set(answers["modules"]), "imports were not noted"
    providers = packages_distributions()
    for module in set(answers["modules"]) - {"evaluator", "tasks"} - sys.stdlib_module_names:
        names = {canonicalize_name(one) for one in providers.get(module, ())}
        assert names & brought, f"{module} is neither in the model nor among its requirements"


def test_one_layer_one_seed_one_record_is_named(clips: Case, exported: dict[str, Path]) -> None:
    metadata = mlflow.models.get_model_info(str(exported["clips"])).metadata
    assert metadata is not None
    record = clips.record
    wanted = {"record": record.id, "layer": record.best_layer, "seed": 0, "labels": record.task.labels, "track": "twa"}
    assert {key: metadata[key] for key in wanted} == wanted


@pytest.mark.slow
def test_registered_model_comes_back_from_the_server(
    clips: Case, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(clips.home.root, clips.home.database_url, server.uri, clips.home.optuna_storage)
    directory = clips.export(tmp_path / "model")
    uris = [register(directory, "frogs and birds", clips.record_file, home) for _ in range(2)]
    assert uris == ["models:/frogs and birds/1", "models:/frogs and birds/2"]
    client = mlflow.MlflowClient(tracking_uri=server.uri)
    version = client.get_model_version("frogs and birds", "1")
    assert client.get_run(version.run_id).data.tags["record_id"] == clips.record.id, "the version names no result"
    assert version.tags == {"record_id": clips.record.id, "seed": "0"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    rows = [{"path": str(clips.task.root / one)} for one in clips.stored.ids[:3]]
    found = mlflow.pyfunc.load_model(uris[0]).predict(rows)
    np.testing.assert_allclose(found["scores"].tolist(), clips.stored.scores[0, :3], atol=1e-4)


def test_server_that_is_down_leaves_the_exported_model(clips: Case, exported: dict[str, Path], tmp_path: Path) -> None:
    home = Home(tmp_path, clips.home.database_url, f"http://127.0.0.1:{free_port()}", clips.home.optuna_storage)
    with pytest.raises(UserError, match=r"The probe is in .*windows but was not registered: .*refused"):
        register(exported["windows"], "any", clips.record_file, home)
    assert (exported["windows"] / "MLmodel").is_file()


def altered(case: Case, place: Path, **changes: Any) -> Case:
    """The record with other values, beside the same predictions."""
    place.mkdir(exist_ok=True)
    record = case.record
    predictions = case.record_file.parent / record.predictions.file
    shutil.copy(predictions, place / predictions.name)
    path = place / case.record_file.name
    path.write_text(record.model_copy(update=changes).model_dump_json())
    return Case(case.home, case.submission, case.task, path)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("lr", lambda record: 2 * record.lr),
        ("epoch", lambda record: record.epoch % 6 + 1),
        ("best_layer", lambda record: 1 - record.best_layer),
    ],
)
def test_record_whose_probe_gives_other_scores_is_refused(
    windows: Case, tmp_path: Path, field: str, other: Callable[[Record], object]
) -> None:
    wrong = altered(windows, tmp_path / "records", **{field: other(windows.record)})
    with pytest.raises(UserError, match=r"does not give the record's test scores \(they differ by up to"):
        wrong.export(tmp_path / "model")
    assert not list(tmp_path.glob("*model*")), "half a model is left"


def test_other_weights_of_the_same_name_are_refused(clips: Case, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", "group")
    other = Submission.read(write_submission(tmp_path / "small.toml", 'loader = "huggingface"\nmodel = "checkpoint"'))
    with pytest.raises(UserError, match=r"small\.toml is small with weights of sha256 .* name the submission file"):
        clips.export(tmp_path / "model", submission=other)


def test_task_with_other_items_is_refused(clips: Case, tmp_path: Path) -> None:
    other = load_task(str(write_clips_task(tmp_path / "task", per_label=10)), data=tmp_path)
    with pytest.raises(UserError, match=r"The items of tones here are not those of record .* split hashes differ"):
        clips.export(tmp_path / "model", task=other)


def test_what_cannot_be_exported_says_why(clips: Case, windows: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--seed 2: the record has the seeds 0 to 1"):
        clips.export(tmp_path / "model", seed=2)
    with pytest.raises(UserError, match=r"is of the task tones, not scape: name its task file"):
        clips.export(tmp_path / "model", task=windows.task)
    embeddings = clips.record.submission.model_copy(update={"loader": "features"})
    with pytest.raises(UserError, match=r"computed elsewhere: there is no backbone to export"):
        altered(clips, tmp_path / "records", submission=embeddings).export(tmp_path / "model")
    with pytest.raises(UserError, match=r"is of track '\.\./up', which is not installed here: install the package"):
        altered(windows, tmp_path / "track", track="../up").export(tmp_path / "model")
    older = HeadInfo(help="another mean", version=7)
    with pytest.raises(UserError, match=r"was made with version 7 of the head ta, and version \d is installed"):
        altered(windows, tmp_path / "older", head=older).export(tmp_path / "model")
    impossible = "which no probe of this suite can have"
    unreadable = "is not a record of schema version 1 .epoch: Input should be"
    wrong = [({"epoch": 0}, unreadable), ({"epoch": 10**9}, unreadable)]
    wrong += [({"epoch": 10**5}, impossible), ({"best_layer": 9}, impossible)]
    for number, (fields, sentence) in enumerate(wrong):
        with pytest.raises(UserError, match=sentence):
            altered(windows, tmp_path / f"wrong{number}", **fields).export(tmp_path / "model")
    fewer = altered(clips, tmp_path / "fewer", layers=clips.record.layers[:3], best_layer=0)
    with pytest.raises(UserError, match=r"has 4 layers here, and had 3 when record"):
        fewer.export(tmp_path / "model")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"taken exists and is no export of record"):
        clips.export(taken)
    assert (taken / "thesis.txt").read_text() == "mine"
    for name in ("a/b", "a:b", "", "a\nb"):
        with pytest.raises(UserError, match="--register"):
            require_registrable(name)


def test_export_again_replaces_the_earlier_one(windows: Case, tmp_path: Path) -> None:
    first = windows.export(tmp_path / "model")
    (first / "left-over").touch()
    assert windows.export(tmp_path / "model") == first
    assert not (first / "left-over").exists()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"waveform": [0.1] * 4000}, "row 1: sample_rate is None"),
        ({"waveform": [0.1] * 4000, "sample_rate": 0}, "row 1: sample_rate is 0"),
        ({"waveform": [0.1] * 4000, "sample_rate": float("inf")}, "row 1: sample_rate is inf"),
        ({"waveform": [], "sample_rate": RATE}, "row 1 has no sound"),
        ({"waveform": [[0.1, 0.1]] * 9, "sample_rate": RATE}, "row 1 has no sound"),
        ({}, "row 1 has no sound"),
        ({"waveform": [float("nan")] * 4000, "sample_rate": RATE}, "row 1: the waveform holds samples that are not"),
        ({"path": "nowhere.wav"}, "nowhere.wav is missing"),
    ],
)
def test_row_that_is_no_sound_is_named(exported: dict[str, Path], row: dict[str, Any], says: str) -> None:
    model = ProbeModel(exported["windows"] / "data" / "probe", CPU)
    with pytest.raises(UserError, match=says):
        model.predict([{"waveform": [0.1] * 4000, "sample_rate": RATE}, row])


def test_sound_shorter_than_a_window_gets_one_answer(exported: dict[str, Path]) -> None:
    model = ProbeModel(exported["windows"] / "data" / "probe", CPU)
    found = model.predict([{"waveform": [0.1] * 100, "sample_rate": RATE}])
    assert found[["item", "start", "end"]].to_numpy().tolist() == [[0, 0.0, 1.5]]
    assert list(model.predict([]).columns) == list(found.columns), "no sound is no error"


def test_rules_are_read_back_from_their_name(clips: Case) -> None:
    for rules in (
        Protocol(),
        Protocol(trials=4, seeds=3, precision="bf16", train="low"),
        Protocol(grid=(1e-4, 3e-2), weight_decay=0.0, train="5-shot"),
    ):
        assert protocol_of(clips.record.model_copy(update={"protocol": rules.name})) == rules
    for foreign in ("beans-probe/3", "beans-probe/2+colour=red", "beans-probe/2+seeds=many", "other"):
        with pytest.raises(UserError, match="not rules of this version"):
            protocol_of(clips.record.model_copy(update={"protocol": foreign}))


def test_command_line_exports_by_id(
    windows: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from evaluator.cli import main

    monkeypatch.setenv("BEANS_HOME", str(windows.home.root))
    monkeypatch.chdir(tmp_path)
    task = windows.task.root / "scape.toml"

    def beans(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["beans", "records", "export-probe", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert beans(windows.record.id, "--task", str(task)) == 2
    assert "submissions/own.toml does not exist: name the file" in capsys.readouterr().err
    assert beans(windows.record.id) == 2
    assert "scape is a task of your own: name its file with --task" in capsys.readouterr().err
    assert beans("0" * 16) == 2
    assert "No record in" in capsys.readouterr().err
    named = ("--task", str(task), "--submission", str(windows.submission.path), "--json")
    assert beans(windows.record.id, *named, "--device", "cpu") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["record"] == windows.record.id and answer["model_uri"] is None
    assert Path(answer["path"]).parent == windows.home.root / "probes"
    assert (Path(answer["path"]) / "MLmodel").is_file()
    assert find_record(windows.record.id, windows.home.records) == windows.record_file
