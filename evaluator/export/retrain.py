"""Export a record as a model: retrain the chosen probe, compare it with the record, save it for MLflow."""

import json
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluator.backbone import ready
from evaluator.backbones import LOADERS
from evaluator.export.model import ABOUT, BACKBONE, PARAMETERS, SCALE, ProbeInfo, ProbeModel
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Extractor
from evaluator.features.scale import Scale
from evaluator.features.store import Features, FeatureStore
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit, predict
from evaluator.probes.head import Head
from evaluator.probes.heads import HEADS
from evaluator.probes.trainer import input_scale, read_inputs
from evaluator.submission import Submission
from evaluator.tracking.connection import TrackingError, connect
from evaluator.tracking.runs import log_record
from leaderboard.records.protocol import VERSIONS, Protocol
from leaderboard.records.record import Record
from leaderboard.records.reproduce import toml
from leaderboard.records.stored import StoredRecord
from tasks.manifest import read_manifest
from tasks.sound import decode, read_header
from tasks.subsets import limit, select_train
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.support.progress import Report, silent
from tasks.task import SPLITS, Item, Manifest, Task
from tasks.train_part import TrainPart

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

# Two devices round differently, and training enlarges the difference. A wrong layer, rate or weight differs far more.
_TOLERANCE = 1e-3
# Number of test items for which the saved model must return the scores of the probe.
_CHECKED_ITEMS = 8
# The packages that an exported model imports.
_PACKAGES = (
    "mlflow", "numpy", "pandas", "pydantic", "safetensors", "soundfile", "soxr", "torch", "torchaudio", "transformers",
)  # fmt: skip
_REGISTERED_NAME = re.compile(r"[^/:\x00-\x1f]{1,200}")


def export_probe(
    record_file: Path,
    submission: Submission,
    task: Task,
    home: Home,
    *,
    device: torch.device,
    output: Path | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Path:
    """Save a record's backbone and chosen probe as an MLflow model; ``mlflow.pyfunc.load_model`` loads it.

    The probe is trained again on the same features, as for the record's test. Its test scores must equal the scores
    of the record. The saved model must then return the same scores for raw waveforms.

    Args:
        record_file: the record, with its predictions beside it.
        submission: the submission that was measured.
        task: the task it was measured on, prepared here.
        home: the home with the cached features.
        device: where the backbone runs; preferably the kind of device that the record was made on.
        output: the directory to make; below the home's ``probes`` if None.
        seed: the seed of the protocol to export.
        report: receives the progress.

    Returns:
        The model's directory.

    Raises:
        UserError: the submission, the task or the predictions are not those of the record, or ``output`` is taken.
    """
    stored = StoredRecord.read(record_file)
    record = stored.record
    if not LOADERS.get(record.submission.loader).needs_audio:
        raise UserError(
            f"{record.submission.name} is a table of embeddings computed elsewhere: there is no backbone to export."
        )
    rules = protocol_of(record)
    head = _head(record)
    if not 1 <= record.epoch <= rules.epochs or record.best_layer >= len(record.layers):
        raise UserError(
            f"Record {record.id} names epoch {record.epoch} and layer {record.best_layer} of"
            f" {len(record.layers)}, which no probe of this suite can have: export it with the version that made it."
        )
    if not 0 <= seed < rules.seeds:
        raise UserError(f"--seed {seed}: the record has the seeds 0 to {rules.seeds - 1}.")
    directory = output or home.root / "probes" / (record.stem + (f".seed{seed}" if seed else ""))
    _require_place(directory, record.id)
    manifest = _manifest(record, rules, task)
    extractor = _extractor(record, rules, submission, device)
    features = FeatureStore(home.features).extract(
        extractor,
        manifest,
        frames=head.reads_frames,
        on_progress=lambda progress: report(f"{submission.name} · {task.name}: audio", progress.done, progress.total),
    )
    report(f"{submission.name} · {task.name}: probe", 0, 1)
    parameters, logits = _retrain(features, record, head, rules, device)
    predictions = stored.predictions
    if predictions.ids != [item.id for item in manifest.items["test"]]:
        raise UserError(f"The predictions of {record_file} are of other test items than {task.name} has here.")
    _require_equal(logits, predictions.scores, f"The probe that was trained again for record {record.id}", record)
    info = ProbeInfo(
        record=record.id,
        submission=record.submission.name,
        task=record.task.name,
        protocol=record.protocol,
        kind=record.task.kind,
        labels=manifest.labels,
        track=record.track,
        head=HEADS.source(head.name),
        layer=record.best_layer,
        layer_name=record.best_layer_name,
        seed=seed,
        precision=rules.precision,
        max_duration=task.max_duration,
        window_width=task.window_width,
        window_shift=task.window_shift,
        weights_sha256=record.submission.weights_sha256,
    )
    # Made beside its place, and moved there when it is complete and returns the right scores.
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.{uuid4().hex}.new")
    try:
        data = scratch / "probe"
        scale = input_scale(features, head, rules, record.best_layer)
        _write(data, info, {name: tensor[seed] for name, tensor in parameters.items()}, scale, submission)
        report(f"{submission.name} · {task.name}: saved model", 0, 1)
        _require_right_answers(data, manifest, logits[seed], record, device)
        _save_model(scratch / "model", data, info, head, submission.loader)
        if directory.exists():
            shutil.rmtree(directory)
        (scratch / "model").rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def register(directory: Path, name: str, record_file: Path, home: Home) -> str:
    """Register an exported model in MLflow's model registry, as a new version of ``name``.

    Its files become artifacts of the record's run. The record is logged first if it has no run yet.

    Returns:
        The address that loads it, ``models:/NAME/VERSION``.

    Raises:
        UserError: MLflow cannot be reached or refuses; the exported directory stays.
    """
    info = ProbeInfo.model_validate_json((directory / "data" / "probe" / ABOUT).read_bytes())
    place = f"probe-seed{info.seed}"
    try:
        run = log_record(StoredRecord.read(record_file), home.tracking_uri, home.artifacts)
        with connect(home.tracking_uri, record_file.parent) as client:
            client.log_artifacts(run.run_id, str(directory), place)
            source = f"{client.get_run(run.run_id).info.artifact_uri}/{place}"
            _require_registered(client, name)
            tags = {"record_id": info.record, "seed": str(info.seed)}
            made = client.create_model_version(name, source, run.run_id, tags=tags)
            return f"models:/{name}/{made.version}"
    except TrackingError as error:
        raise UserError(f"The probe is in {directory} but was not registered: {error}") from error


def require_registrable(name: str) -> None:
    """Check a name for MLflow's registry, before the work of an export.

    Raises:
        UserError: the registry would refuse the name; the message states which names are allowed.
    """
    if not _REGISTERED_NAME.fullmatch(name):
        raise UserError(f"--register {name!r}: a registered model's name is 1 to 200 characters without / and :.")


def protocol_of(record: Record) -> Protocol:
    """The protocol of a record, from its name.

    Raises:
        UserError: it is no protocol of this version of the suite.
    """
    try:
        return Protocol.parse(record.protocol)
    except UserError as error:
        raise UserError(
            f"Record {record.id} was made under {record.protocol}, which are not rules of this version of the suite"
            f" ({', '.join(VERSIONS)}): export it with the version that made it."
        ) from error


def _head(record: Record) -> Head:
    """The head that a record was made with."""
    if record.track not in HEADS.names():
        raise UserError(
            f"Record {record.id} is of track {record.track!r}, which is not installed here: install the package that"
            " adds this head."
        )
    head = HEADS.get(record.track)
    if record.head is not None and record.head.version != head.version:
        raise UserError(
            f"Record {record.id} was made with version {record.head.version} of the head {head.name}, and version"
            f" {head.version} is installed: export it with the version that made it."
        )
    return head


def _manifest(record: Record, rules: Protocol, task: Task) -> Manifest:
    """The items that the record's probe was trained and tested on."""
    if task.name != record.task.name:
        raise UserError(f"Record {record.id} is of the task {record.task.name}, not {task.name}: name its task file.")
    manifest = read_manifest(task)
    if record.limit is not None:
        manifest = limit(manifest, record.limit)
    manifest = select_train(manifest, TrainPart.parse(rules.train))
    if manifest.split_hash != record.task.split_hash or list(manifest.labels) != record.task.labels:
        raise UserError(
            f"The items of {task.name} here are not those of record {record.id} (their split hashes differ):"
            " prepare the data that it was made with."
        )
    return manifest


def _extractor(record: Record, rules: Protocol, submission: Submission, device: torch.device) -> Extractor:
    model = ready(submission.load(), device)
    if submission.name != record.submission.name or model.weights_sha256 != record.submission.weights_sha256:
        raise UserError(
            f"{submission.path} is {submission.name} with weights of sha256 {model.weights_sha256}, but record"
            f" {record.id} is of {record.submission.name} with {record.submission.weights_sha256}: name the submission"
            " file that was evaluated."
        )
    if len(model.backbone.layers) != len(record.layers):
        raise UserError(
            f"{submission.path} has {len(model.backbone.layers)} layers here, and had {len(record.layers)} when record"
            f" {record.id} was made: export it with the code that made it."
        )
    return Extractor.of(model, device, rules.precision)


def _retrain(
    features: Features, record: Record, head: Head, rules: Protocol, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Train the chosen probe again. Returns its parameters (seeds, ...) and test logits (seeds, items, classes)."""
    layers = (record.best_layer,)
    train, valid, test = (read_inputs(features, head, rules, split, layers, device) for split in SPLITS)
    stack = stack_of(head, train.width, len(features.manifest.labels), device)
    fitted = fit(
        stack,
        train,
        valid,
        metric=record.metric,
        rates=[record.lr],
        seeds=range(rules.seeds),
        protocol=rules,
        keep=torch.tensor([record.epoch]),
    )
    assert fitted.state is not None
    logits = predict(stack, fitted.state, test, rules.seeds)[0, :, 0].float().cpu()
    return {name: tensor[:, 0].cpu() for name, tensor in fitted.state.items()}, logits


def _require_equal(logits: Tensor, stored: NDArray[np.float32], who: str, record: Record) -> None:
    again = logits.numpy()
    if again.shape == stored.shape and np.allclose(again, stored, rtol=_TOLERANCE, atol=_TOLERANCE):
        return
    apart = f"{np.abs(again - stored).max():.2g}" if again.shape == stored.shape else f"{again.shape}, {stored.shape}"
    raise UserError(
        f"{who} does not give the record's test scores (they differ by up to {apart}), so it is not exported. It was"
        f" made on {record.environment.device} with torch {record.environment.packages.get('torch', 'unknown')}: use"
        " that kind of device, that version of torch and the code of that time, or submit again."
    )


def _require_place(directory: Path, record_id: str) -> None:
    """Raise a UserError if ``directory`` exists and is not an earlier export of the same record."""
    if not directory.exists():
        return
    about = directory / "data" / "probe" / ABOUT
    if not about.is_file() or json.loads(about.read_text()).get("record") != record_id:
        raise UserError(
            f"{directory} exists and is no export of record {record_id}: name another directory with --output."
        )


def _write(
    data: Path, info: ProbeInfo, parameters: dict[str, Tensor], scale: Scale | None, submission: Submission
) -> None:
    """Write all files that the model needs, apart from its code, below ``data``."""
    from safetensors.torch import save_file

    file = data / BACKBONE
    file.parent.mkdir(parents=True)
    arguments = _bundle(submission, file.parent)
    about = submission.about.model_dump(mode="json", exclude_none=True) if submission.about else None
    tables: dict[str, dict[str, Any]] = {
        "submission": {"name": submission.name, "loader": submission.loader, **arguments},
        **({"about": about} if about else {}),
    }
    file.write_text(toml(tables), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in parameters.items()}, data / PARAMETERS)
    if scale is not None:
        save_file({"shift": scale.shift, "factor": scale.factor}, data / SCALE)
    (data / ABOUT).write_text(info.model_dump_json(indent=2), encoding="utf-8")


def _bundle(submission: Submission, directory: Path) -> dict[str, Any]:
    """Copy the files that a submission names into ``directory``. Returns its arguments with the new paths."""
    base = submission.path.resolve().parent
    arguments = dict(submission.arguments)
    chosen = LOADERS.get(submission.loader)
    for key in chosen.files:
        value = arguments.get(key)
        if isinstance(value, list):
            for name in value:
                # The code of the model finds a file at its place beside the code.
                if not (base / name).resolve().is_relative_to(base):
                    raise UserError(
                        f"{key}: {name} is outside {base}, so that the model cannot be exported: move it beside the"
                        " submission file."
                    )
                _copy(base / name, directory / (base / name).resolve().relative_to(base))
            continue
        if not isinstance(value, str) or not value or not (base / value).exists():
            continue  # absent, a table, an address, or a hub id
        source = (base / value).resolve()
        target = directory / key / source.name
        _copy(source, target)
        arguments[key] = f"{key}/{source.name}"
    for key in arguments.keys() & set(chosen.code):
        module = Path(*str(arguments[key]).partition(":")[0].split(".")).with_suffix(".py")
        if (base / module).is_file():
            (directory / module).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(base / module, directory / module)
    return arguments


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _require_right_answers(
    data: Path, manifest: Manifest, logits: Tensor, record: Record, device: torch.device
) -> None:
    """Check that the saved model returns, from the waveforms of some test items, the scores of the probe."""
    items = manifest.items["test"][:_CHECKED_ITEMS]
    answers = ProbeModel(data, device).predict([_sound(manifest.task, item) for item in items])
    scores = torch.tensor(answers["scores"].tolist())
    _require_equal(scores, logits[: len(items)].numpy(), f"The model saved for record {record.id}", record)


def _sound(task: Task, item: Item) -> dict[str, Any]:
    """The waveform of an item, as an input row at the file's own sample rate."""
    header = read_header(item.path)
    cut = Cut.window(header, *item.window) if item.window else Cut.whole(header, task.max_duration)
    waveform = decode(item.path, header, cut.stop, cut.start)
    waveform = torch.nn.functional.pad(waveform, (0, cut.padded - len(waveform)))
    return {"waveform": waveform.numpy(), "sample_rate": header.sample_rate}


def _requirement(loader: str) -> str:
    """The installed package that adds a loader, as pip names it with its version; empty for loaders of the suite."""
    added = LOADERS.distribution(loader)
    return "" if added is None else f"{added.name}=={added.version}"


def _save_model(directory: Path, data: Path, info: ProbeInfo, head: Head, loader: str) -> None:
    """Write MLflow's directory."""
    import warnings

    # The code is copied, so that later changes of the suite do not change the model. Nothing is pickled.
    modules = ("evaluator", "tasks", re.split("[.:]", info.head)[0])
    code = [_code(name) for name in dict.fromkeys(modules)]
    package = _requirement(loader)
    with warnings.catch_warnings():
        # MLflow warns that there is no example of the input. An example would publish one of the task's recordings.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            str(directory),
            loader_module="evaluator.export.model",
            data_path=str(data),
            code_paths=code,
            signature=_signature(),
            pip_requirements=[
                *(f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES),
                *dict.fromkeys([*([package] if package else []), *_required(head)]),
            ],
            metadata=info.model_dump(mode="json", exclude_none=True),
        )


def _code(module: str) -> str:
    """The folder of a package, or the file of a module that is not in one."""
    file = Path(str(sys.modules[module].__file__))
    return str(file.parent if file.name == "__init__.py" else file)


def _required(head: Head) -> list[str]:
    """What the package of a head asks for, beside this suite."""
    package = HEADS.distribution(head.name)
    lines = (package.requires if package else None) or []
    return [line for line in lines if "extra ==" not in line and not re.match(r"beans[-_.]probe\b", line)]


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    columns = (
        # Double also accepts single precision. With single precision, MLflow would refuse a plain list.
        ColSpec(Array(DataType.double), "waveform", required=False),
        ColSpec(DataType.long, "sample_rate", required=False),
        ColSpec(DataType.string, "path", required=False),
    )
    return ModelSignature(inputs=Schema(list(columns)))


def _require_registered(client: "MlflowClient", name: str) -> None:
    """Create the registered model ``name`` if it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
