"""The file a submitter writes: what to load, and what people need to know of it."""

import inspect
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from evaluator.backbones import LOADERS, Backbone, loader
from tasks.errors import UserError
from tasks.task import explain

Domain = Literal["speech", "general audio", "music", "animals", "none"]


class Pretraining(BaseModel):
    """One data set that the weights have seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    domain: Domain
    hours: Annotated[float, Field(ge=0)] | None = None


class About(BaseModel):
    """The table ``[about]``, for readers; nothing in it changes a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    family: str
    authors: str
    licence: str
    paper: str = ""
    code: str = ""
    pretraining: tuple[Pretraining, ...] = ()


class Submission(BaseModel):
    """One submission file. ``arguments`` are the loader's own keys of ``[submission]``."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    loader: Literal["biomamba", "espnet", "features", "huggingface", "python", "statistics", "torchaudio"]
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
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"Submission file {path} is not valid TOML: {error}.") from error
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
        if "loader" not in keys:
            raise UserError(f"Submission file {path} has no key loader in [submission]; it has {', '.join(keys)}.")
        if path.resolve().parent.name == "submissions" and "about" not in tables:
            raise UserError(
                f"Submission file {path} has no table [about], which files under submissions/ need for readers."
            )
        arguments = {key: value for key, value in keys.items() if key not in ("name", "loader")}
        try:
            submission = cls(
                name=keys.get("name", ""),
                loader=keys.get("loader", ""),
                arguments=arguments,
                about=tables.get("about"),
                path=path,
            )
        except ValidationError as error:
            raise UserError(f"Submission file {path}: {explain(error)}.") from error
        return submission

    def load(self) -> Backbone:
        """Load the backbone on the CPU.

        Raises:
            UserError: a key that the loader does not have or of the wrong type, or a model that does not load.
        """
        function = loader(self.loader)
        parameters = inspect.signature(function).parameters
        fields: dict[str, Any] = {
            name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in parameters.items()
            if name != "base"
        }
        # The loader's signature is the one description of its keys; pydantic checks a file against it.
        model = create_model("arguments", __config__=ConfigDict(extra="forbid", strict=True), **fields)
        try:
            arguments = model.model_validate(self.arguments)
        except ValidationError as error:
            raise UserError(f"Submission file {self.path}, loader {self.loader!r}: {explain(error)}.") from error
        values = {name: getattr(arguments, name) for name in fields}
        if "base" in parameters:
            values["base"] = self.path.resolve().parent
        try:
            return function(**values)
        except UserError as error:
            raise UserError(f"Submission {self.name} ({self.path}): {error}") from error


assert set(LOADERS) == set(Submission.model_fields["loader"].annotation.__args__)  # type: ignore[union-attr]
