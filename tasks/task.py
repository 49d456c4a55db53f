"""A task: its facts from a TOML file, and the items of its three splits."""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.support.errors import UserError
from tasks.support.keys import suggestion
from tasks.support.text import LONGEST, is_plain, read_text, short, why_no_file

Split = Literal["train", "valid", "test"]
Kind = Literal["classification", "detection"]
Metric = Literal["accuracy", "map"]
Group = Literal["core", "auxiliary", "builtin", "own"]

# Directory below the home's data directory, for tasks that are prepared from a user's task file.
OWN = "own"

SPLITS: tuple[Split, ...] = get_args(Split)
GROUPS: tuple[Group, ...] = get_args(Group)
DEFAULT_METRIC: dict[Kind, Metric] = {"classification": "accuracy", "detection": "map"}

# Strict: without it, `true` is 1 second.
Crop = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False, strict=True)]
# A window of more than an hour does not fit into memory, and the ids of windows have microseconds.
Width = Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False, strict=True)]
Shift = Annotated[float, Field(ge=1e-4, le=86_400, allow_inf_nan=False, strict=True)]


class Facts(BaseModel):
    """Information about a data set for readers. Nothing here changes a result. ``native_rate`` is in Hz.

    ``collections`` names the data set and the collections that its sounds come from. A model that was pretrained on one
    of them has an advantage, which the board shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    taxa: str = ""
    source: str = ""
    collections: tuple[str, ...] = ()
    licence: str = ""
    commercial_use: bool | Literal["unknown"] | None = None
    citation: str = ""
    split_rule: str = ""
    grouping: str = ""
    leakage: str = ""
    durations: str = ""
    native_rate: Annotated[int, Field(gt=0)] | None = None
    size: str = ""


Count = Annotated[int, Field(gt=0)]


class Published(BaseModel):
    """Published numbers of the same data, with which `beans tasks verify` compares.

    Attributes:
        items: number of clips or windows per split.
        recordings: number of recordings per split, for a detection task.
        ids_sha256: per split, the sha256 over the sorted ids, one per line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: dict[Split, Count] = {}
    recordings: dict[Split, Count] = {}
    ids_sha256: dict[Split, str] = {}


class Ids(BaseModel):
    """The rule for item ids. An id comes from the name of the audio file, so all copies of a data set give the same.

    Attributes:
        label: whether the label is part of the id, because file names are unique only within a label.
        recording: a regular expression for the file's name without directory and suffix. Its one group is the
            recording, source clip or speaker; items that share it are not independent. "" if the names do not contain
            it: then each file is its own recording.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: bool = False
    recording: str = ""

    @field_validator("recording")
    @classmethod
    def _has_one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression ({error})") from error
        if value and groups != 1:
            raise ValueError(f"{value!r} has {groups} groups and not one: put the recording's name in parentheses")
        return value

    def item(self, path: str | Path, label: str = "") -> str:
        """Return the id of the item whose audio file has this path."""
        stem = Path(path).stem
        return f"{label}/{stem}" if self.label else stem

    def recording_of(self, item: str) -> str:
        """Return the recording of the item with this id."""
        match = re.fullmatch(self.recording, item.rpartition("/")[2]) if self.recording else None
        return match[1] if match else item


Table = TypeVar("Table", bound=BaseModel)


class Prepare(BaseModel):
    """How the task's files are prepared.

    Attributes:
        source: the source that is used if ``--from`` names no other.

    Every further key is the table of one source. The module of the source declares its keys.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    source: Annotated[str, Field(alias="from")]
    __pydantic_extra__: dict[str, dict[str, Any]]

    def has(self, source: str) -> bool:
        """Return whether the task file has a table of that source."""
        return source in self.__pydantic_extra__

    def table(self, source: str, schema: type[Table]) -> Table:
        """Return the table of one source; an empty one if the file has none.

        Raises:
            UserError: the table has wrong keys or values.
        """
        try:
            return schema.model_validate(self.__pydantic_extra__.get(source, {}))
        except ValidationError as error:
            raise UserError(f"The table [prepare.{source}] of the task file: {explain(error)}.") from error


class Task(BaseModel):
    """One task file. Lengths are in seconds; paths are relative to ``root``.

    A classification task names ``clips`` (CSV of path, label, split) and may crop each clip to its first
    ``max_duration`` seconds. A detection task names ``train``, ``valid`` and ``test`` (JSON lines of path, length,
    annotations) and the window to cut. A label that is not in ``labels`` counts as ``unknown_label``, if there is one.
    ``benchmark`` names the benchmark that the task belongs to. ``no_few_labels`` states why there is no few-label
    split, if the reason is known. `beans tasks prepare` prepares a task with ``prepare``; the files of a task without
    it are the user's own. ``file`` is the path of the task file, None for a task of the catalogue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    kind: Kind
    metric: Metric
    group: Group = "own"
    max_duration: Crop | None = None
    window_width: Width | None = None
    window_shift: Shift | None = None
    clips: Path | None = None
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    labels: tuple[str, ...] | None = None
    unknown_label: str | None = None
    benchmark: str = ""
    no_few_labels: str = ""
    facts: Facts = Facts()
    published: Published = Published()
    ids: Ids = Ids()
    prepare: Prepare | None = None
    root: Annotated[Path, Field(exclude=True)] = Path()
    file: Annotated[Path | None, Field(exclude=True)] = None

    @property
    def command(self) -> str:
        """The command that prepares the task."""
        return f"beans tasks prepare {self.file if self.file and self.group == 'own' else self.name}"

    @property
    def has_own_files(self) -> bool:
        """Whether the task's files are the user's own, so that nothing prepares them."""
        return self.group == "own" and self.prepare is None

    def too_short(self, rate: int) -> str | None:
        """Return why no clip or window has a sample at ``rate`` Hz and what to do; None if they have."""
        key = "max_duration" if self.kind == "classification" else "window_width"
        seconds = getattr(self, key)
        if seconds is None or int(seconds * rate):
            return None
        return f"{key} is {seconds:g} s, which is shorter than one sample at {rate} Hz: write seconds"

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, values: dict[str, object]) -> dict[str, object]:
        # A wrong or missing kind is reported once, without a second error about the metric.
        kind = values.get("kind")
        return {"metric": DEFAULT_METRIC["detection" if kind == "detection" else "classification"], **values}

    @field_validator("metric", mode="before")
    @classmethod
    def _metric_spelling(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_text(cls, value: object) -> object:
        if value is not None and not isinstance(value, list | tuple):
            raise ValueError("write a list of names")
        # Several BEANS tasks have integer labels; "1" and 1 are the same class.
        return value and [str(label) if type(label) is int else label for label in value]

    @model_validator(mode="after")
    def _keys_fit_kind(self) -> Self:
        if self.metric != DEFAULT_METRIC[self.kind]:
            raise ValueError(f"metric for {self.kind} must be {DEFAULT_METRIC[self.kind]!r}")
        needed, foreign = (
            (("clips",), ("window_width", "window_shift", "train", "valid", "test"))
            if self.kind == "classification"
            else (("window_width", "window_shift", "train", "valid", "test"), ("clips", "max_duration"))
        )
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"a {self.kind} task needs the key {key!r}")
        for key in foreign:
            if getattr(self, key) is not None:
                raise ValueError(f"a {self.kind} task has no key {key!r}")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a name twice")
        for label in self.labels or ():
            if not label.strip() or not is_plain(label) or len(label) > LONGEST:
                raise ValueError(f"labels holds {short(label)}: write text without control characters")
        if self.unknown_label is not None and self.unknown_label not in (self.labels or ()):
            raise ValueError(f"unknown_label {self.unknown_label!r} is not among labels: add it there")
        if self.labels == ():
            raise ValueError("labels is empty: list the names, or leave the key out to take those of the train split")
        return self

    @model_validator(mode="after")
    def _files_are_of_this_system(self) -> Self:
        for key in ("clips", *SPLITS):
            path = getattr(self, key)
            if path is None:
                continue
            if "\\" in str(path) and os.sep == "/":
                raise ValueError(f"{key} is {str(path)!r}, with backslashes as on Windows: write / between the names")
            if self.prepare and (path.is_absolute() or ".." in path.parts):
                raise ValueError(f"{key} is written by `beans tasks prepare`: give a name without a directory")
        return self


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to predict: a clip, or one window of a recording.

    Attributes:
        id: unique within the task and equal on all machines: the manifest's id, or else the path as written there; for
            a window also its start and end in seconds.
        path: the audio file.
        labels: indices into the manifest's labels: exactly one for classification, any number for detection.
        recording: items that share it are not independent; the bootstrap resamples recordings.
        window: start and end in the file in seconds, or None for a whole clip.
        low: whether the few-label variant of the train split keeps it.
    """

    id: str
    path: Path
    labels: tuple[int, ...]
    recording: str
    window: tuple[float, float] | None = None
    low: bool = False


@dataclass(frozen=True)
class Manifest:
    """All items of a task, per split, in the order of the source files.

    ``warnings`` are sentences about what is probably a mistake in the user's own files. Nothing depends on them.
    """

    task: Task
    labels: tuple[str, ...]
    items: dict[Split, tuple[Item, ...]]
    warnings: tuple[str, ...] = ()

    @property
    def split_hash(self) -> str:
        """sha256 over the sorted ids and labels of each split. Equal manifests have equal hashes on all machines."""
        content = {
            split: sorted((item.id, [self.labels[index] for index in item.labels]) for item in items)
            for split, items in self.items.items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def catalogue_names() -> list[str]:
    """Return the names of the tasks of the catalogue, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _catalogue() if entry.name.endswith(".toml"))


def load_task(name_or_path: str, *, data: Path, data_dir: Path | None = None) -> Task:
    """Load a task by its catalogue name or from a task file.

    Args:
        name_or_path: a name such as ``mini-calls``, or a path that ends in ``.toml``.
        data: the home's data directory. A catalogue task's files are in ``data/NAME``, those of a task file that names
            a source in ``data/own/NAME``.
        data_dir: the start of relative paths in a task file, instead of the directory of the file.

    Raises:
        UserError: no such task, or a task file with a mistake.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        problem = why_no_file(path)
        if problem is not None:
            raise UserError(
                f"Task file {path} {problem}: give the path of a TOML file or a name from `beans tasks list`."
            )
        if data_dir is not None and not data_dir.is_dir():
            raise UserError(
                f"--data-dir {data_dir} is not a directory: name the one that the relative paths of {path} start from,"
                " or leave the option out where they start beside that file."
            )
        task = _parse(read_text(path), str(path))
        # Only tasks of the catalogue may belong to a group, because the groups rank the public board.
        if task.group != "own":
            raise UserError(f"Task file {path}: group: only tasks that come with the suite have one; remove the key.")
        if task.name in catalogue_names():
            raise UserError(
                f"Task file {path}: name: {task.name!r} is a task of the suite, and results are known by the name of"
                " their task; choose another name."
            )
        # Preparing replaces the whole directory, so it must not hold files of the user.
        root = (data_dir or path.parent).resolve() if task.prepare is None else data / OWN / task.name
        return task.model_copy(update={"root": root, "file": path})
    if name_or_path not in catalogue_names():
        raise UserError(
            f"There is no task {name_or_path!r}: choose one of `beans tasks list`, or give a task file (*.toml)."
        )
    text = resources.files("tasks").joinpath("catalogue", f"{name_or_path}.toml").read_text(encoding="utf-8")
    return _parse(text, f"catalogue/{name_or_path}.toml").model_copy(update={"root": data / name_or_path})


def _catalogue() -> Iterable[Traversable]:
    return resources.files("tasks").joinpath("catalogue").iterdir()


def _parse(text: str, where: str) -> Task:
    if not text.strip():
        raise UserError(f"Task file {where} is empty: it needs name, kind and the files of the task.")
    try:
        values = tomllib.loads(text)
        if "root" in values:
            raise UserError(f"Task file {where}: root: unknown key; say --data-dir where the data lie elsewhere.")
        if "file" in values:
            raise UserError(f"Task file {where}: file: unknown key.")
        for key, value in values.items():
            if key not in Task.model_fields and isinstance(value, dict) and "name" in value and "name" not in values:
                raise UserError(f"Task file {where}: remove the line [{key}]; name and kind stand above all tables.")
        return Task.model_validate(values)
    except RecursionError as error:
        raise UserError(f"Task file {where} is not valid TOML: it is nested too deeply.") from error
    except ValidationError as error:
        raise UserError(f"Task file {where}: {explain(error, Task)}.") from error
    # Also of numbers with more digits than Python reads.
    except ValueError as error:
        hints = {
            "overwrite|declare": "; a key or table is there twice",
            "Unescaped": "; write / between the names of directories",
        }
        hint = next((words for pattern, words in hints.items() if re.search(pattern, str(error))), "")
        raise UserError(f"Task file {where} is not valid TOML: {error}{hint}.") from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return a pydantic error as one sentence: every wrong key and what is wrong with it.

    Args:
        error: the error.
        model: what was validated. With it, an unknown key gets a suggestion, and wrong values are in the sentence.
    """
    parts = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key {suggestion(problem['loc'], model)}" if model else "unknown key"
        elif model and problem["type"] not in ("missing", "value_error"):
            message += f", and it is {short(problem['input'])}"
        parts.append(f"{key}: {message}" if key else message)
    return "; ".join(parts)
