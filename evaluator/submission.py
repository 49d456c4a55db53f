"""The submission file: the model to load, and its description for readers."""

import inspect
import json
import tomllib
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from evaluator.backbones import LOADERS, Loader
from evaluator.guard.contained import contained
from tasks.support.errors import UserError, instead
from tasks.support.text import LONGEST_TEXT, is_plain

if TYPE_CHECKING:
    from evaluator.backbone import Backbone

# The limits of a record.
_LONGEST_KEY, _DEEPEST = 200, 8

Domain = Literal["speech", "general audio", "music", "animals", "none"]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Pretraining(BaseModel):
    """One data set that the weights have seen, and the ``collections`` that its sounds come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Words
    domain: Domain
    hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    collections: tuple[Words, ...] = ()


class About(BaseModel):
    """The table ``[about]``, for readers; nothing in it changes a result.

    ``pretraining`` is None if the file does not state it, and empty if the weights have seen no data. ``parameters``
    is for models whose parameters the suite cannot count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: Words
    family: Words
    authors: Words
    licence: Words
    paper: str = ""
    code: str = ""
    parameters: Annotated[int, Field(gt=0, lt=2**63, strict=True)] | None = None
    pretraining: tuple[Pretraining, ...] | None = None


def _unrecordable(value: object, where: str = "") -> Iterator[str]:
    """The values that no record can hold, and why. A text with control characters would show as another text."""
    if where.count(".") > _DEEPEST:
        yield f"{where} is nested too deeply"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if is_plain(key) and len(key) <= _LONGEST_KEY:
                yield from _unrecordable(inner, f"{where}.{key}" if where else key)
            else:
                yield f"the key {ascii(key)[:80]} in {where or 'the file'} is too long or has control characters"
    elif isinstance(value, list):
        for inner in value:
            yield from _unrecordable(inner, where)
    elif isinstance(value, str):
        if wrong := next((one for one in value if one not in "\n\t" and not is_plain(one)), None):
            yield f"{where} contains the character {wrong!a}, which cannot be shown: remove it"
        elif len(value) > LONGEST_TEXT:
            yield f"{where} has {len(value)} characters, and {LONGEST_TEXT} are the most"
    # The loader checks the numbers of its own keys, but not those inside a table.
    elif (
        where.startswith("submission.")
        and where.count(".") > 1
        and isinstance(value, int | float)
        and not -(2.0**63) < value < 2.0**63
    ):
        yield f"{where} is {value}, which is no number of 64 bits"


def _is_inside_a_table(where: str) -> bool:
    """Whether a value is inside a table of a loader, which checks only its own keys."""
    return where.startswith("submission.") and where.count(".") > 1


def _known(name: str) -> str:
    """Return the name of a loader after checking that it exists."""
    known = [f"'{loader}'" for loader in LOADERS.names()]
    if f"'{name}'" not in known:
        raise ValueError(
            f'"{name}" is none of {", ".join(known[:-1])} or {known[-1]}; install the package that adds it, if one does'
        )
    return name


class Submission(BaseModel):
    """One submission file. ``arguments`` are the loader's own keys of ``[submission]``."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    loader: Annotated[str, AfterValidator(_known)]
    arguments: dict[str, Any]
    about: About | None
    path: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a submission file without loading the model.

        Raises:
            UserError: the file is missing, is not TOML, or has a wrong or unknown key.
        """
        if not path.is_file():
            raise UserError(
                f"Submission file {path} does not exist: `beans submissions list` shows those that come along."
            )
        try:
            # Editors on Windows put a byte order mark first, which is no part of the text.
            return cls.parse(path.read_text(encoding="utf-8-sig"), path)
        except UnicodeDecodeError as error:
            raise UserError(f"Submission file {path} is not valid TOML: {error}.") from error

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Read and check the text of a submission file at ``path``, which need not exist yet.

        Raises:
            UserError: it is not TOML, or has a wrong or unknown key.
        """
        try:
            tables = tomllib.loads(text)
        # A ValueError is also the answer to a number with thousands of digits.
        except (ValueError, RecursionError) as error:
            raise UserError(f"Submission file {path} is not valid TOML: {error}.") from error
        if wrong := next(_unrecordable(tables), None):
            raise UserError(f"Submission file {path}: {wrong}.")
        unknown = sorted(set(tables) - {"submission", "about"})
        if unknown:
            raise UserError(
                f"Submission file {path}: unknown table or key {', '.join(unknown)}; it has [submission] and [about]."
            )
        keys = tables.get("submission")
        if not isinstance(keys, dict):
            raise UserError(
                f"Submission file {path} has no table [submission]: it needs name, loader and the loader's keys."
            )
        for key in ("name", "loader"):
            if key not in keys:
                raise UserError(f"Submission file {path} has no key {key} in [submission]; it has {', '.join(keys)}.")
        if path.resolve().parent.name == "submissions" and "about" not in tables:
            raise UserError(
                f"Submission file {path} has no table [about], which files under submissions/ need for readers."
            )
        name, loader = keys.pop("name"), keys.pop("loader")
        try:
            return cls(name=name, loader=loader, arguments=keys, about=tables.get("about"), path=path)
        except ValidationError as error:
            raise UserError(f"Submission file {path}: {explain(error)}.") from error

    @model_validator(mode="after")
    def _parameters_only_where_not_counted(self) -> Self:
        if self.about and self.about.parameters is not None and LOADERS.get(self.loader).counted:
            raise ValueError(
                f"about.parameters: the suite counts the parameters of {self.loader} models itself; remove the key"
            )
        return self

    def check_keys(self) -> dict[str, Any]:
        """The loader's keys with its defaults, without loading the model.

        Raises:
            UserError: a key that the loader does not have or of the wrong type.
        """
        model = keys_of(self.loader)
        try:
            return dict(model.model_validate(self.arguments))
        except ValidationError as error:
            sentence = explain(error, ("name", "loader", *model.model_fields))
            raise UserError(f"Submission file {self.path}, loader {self.loader!r}: {sentence}.") from error

    def load(self) -> "Backbone":
        """Load the backbone on the CPU.

        Raises:
            UserError: a key that the loader does not have or of the wrong type, or a model that does not load.
        """
        loader = LOADERS.get(self.loader)
        values = self.check_keys()
        if "base" in inspect.signature(loader.load).parameters:
            values["base"] = self.path.resolve().parent
        try:
            with contained():
                return loader(**values)
        except UserError as error:
            raise UserError(f"Submission {self.name} ({self.path}): {error}") from error


def keys_of(name: str) -> type[BaseModel]:
    """The keys that the loader called ``name`` takes in ``[submission]``, as a model that checks them."""
    load = LOADERS.get(name).load
    fields: dict[str, Any] = {
        key: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for key, parameter in inspect.signature(load).parameters.items()
        if key != "base"
    }
    # Only the loader's signature describes its keys. pydantic checks a file against it. Annotations can be text, with
    # `from __future__ import annotations`. pydantic looks up their names in the loader's module.
    config = ConfigDict(extra="forbid", strict=True)
    return create_model("arguments", __config__=config, __module__=load.__module__, **fields)


def read_key(loader: Loader, key: str, text: str) -> Any:
    """Read the value of a loader's key from TOML or plain text: 16000, true, "text" and text.

    Raises:
        UserError: the loader does not accept the value.
    """
    if key in loader.code and not all(text.partition(":")):
        raise UserError("write module:function, or module:Class")
    field = keys_of(loader.name).model_fields[key]
    read = partial(convert, Annotated[field.annotation, field], strict=True)
    try:
        return read(tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return read(text)
    except UserError:
        # A commit may look like a number, but the key needs text.
        with suppress(UserError):
            return read(text)
        raise


def convert(kind: Any, value: object, *, strict: bool = False) -> Any:
    """Return ``value`` as the type ``kind``, converted by pydantic.

    Raises:
        UserError: pydantic does not accept the value; the message is that of `explain`.
    """
    try:
        return TypeAdapter(kind).validate_python(value, strict=strict)
    except ValidationError as error:
        raise UserError(explain(error)) from error


# What is wrong with a value, by pydantic's name of the error.
_WRONG = {
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "dict_type": "is no table",
    "finite_number": "is no finite number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "greater_than": "is not above {gt}",
    "greater_than_equal": "is below {ge}",
    "int_from_float": "is no whole number",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "less_than": "is not below {lt}",
    "less_than_equal": "is above {le}",
    "list_type": "is no list",
    "literal_error": "is none of {expected}",
    "mapping_type": "is no table",
    "model_attributes_type": "is no table",
    "model_type": "is no table",
    "string_pattern_mismatch": "is no name: write at most 80 letters, digits, . _ and -, the first a letter or digit",
    "string_too_short": "is empty: write a few words",
    "string_type": "is no text: put it in quotes",
    "tuple_type": "is no list",
}
_KEYS_OF: dict[str, type[BaseModel]] = {"about": About, "pretraining": Pretraining}


def explain(error: ValidationError, known: Collection[str] = ()) -> str:
    """Describe the errors of a submission file, or of a value for one, in one sentence.

    Args:
        error: pydantic's error.
        known: the keys that the loader's table may have.
    """
    parts = []
    for problem in error.errors():
        # If a value may have two types, pydantic reports an error per type, with the type at the end of its location.
        where = [str(part) for part in problem["loc"] if part != "str" and "[" not in str(part)]
        if problem["type"] == "extra_forbidden":
            tables = [part for part in where[:-1] if not part.isdecimal()]
            names = _KEYS_OF[tables[-1]].model_fields if tables else known
            words = f"unknown key {instead(where[-1], names)}"
        elif problem["type"] == "missing":
            words = "it is missing"
        elif problem["type"] in _WRONG:
            value = json.dumps(problem["input"], ensure_ascii=False, default=str)
            words = f"{value} {_WRONG[problem['type']].format(**problem.get('ctx', {}))}"
        else:
            words = problem["msg"].removeprefix("Value error, ")
        parts.append(f"{'.'.join(where)}: {words}" if where else words)
    return "; ".join(dict.fromkeys(parts))
