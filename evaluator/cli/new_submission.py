"""``beans submissions new``: a few questions, each answer checked as it is given, and a file that is valid."""

import os
import shlex
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import typer

from evaluator.cli.console import warn
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

EXAMPLE = (
    "Example: `beans submissions new` asks. A script gives every answer: "
    "beans submissions new --name my-hubert --loader huggingface --set model=facebook/hubert-base-ls960 "
    "--set revision=dba3bb02fda4248b6e082697eee756de8fe8aa8a --family HuBERT "
    "--description 'HuBERT base' --authors 'Hsu et al. 2021' --licence Apache-2.0 "
    "--pretraining 'LibriSpeech; speech; 960'"
)
_LOADERS = ("huggingface", "torchaudio", "espnet", "biomamba", "python", "features", "statistics")
_ABOUT = {
    "description": "Description, in a sentence",
    "family": "Family, such as HuBERT",
    "authors": "Authors",
    "licence": "Licence of the weights",
    "paper": "Address of the paper (empty: none)",
    "code": "Address of the code (empty: none)",
}
_OPTIONAL = ("paper", "code")
_PRETRAINING = (
    "--pretraining 'DATA; DOMAIN; HOURS; COLLECTION, COLLECTION', --pretraining none for weights that have seen"
    " nothing, or --pretraining unknown"
)


class Question(NamedTuple):
    """One key of a loader; ``when`` is for which weights it is asked, ``file`` whether it may name a file."""

    key: str
    text: str
    needed: bool = True
    when: Literal["always", "pretrained", "random"] = "always"
    file: bool = False


_MODEL = (
    Question("model", "Hub id of the model, or its directory", when="pretrained", file=True),
    Question("revision", "Commit of the hub to pin (empty: none)", needed=False, when="pretrained"),
)
# What the loader wants to be told of an encoder of waveforms whose directory has no preprocessor_config.json.
_WAVEFORMS = (
    Question("do_normalize", "Was the model trained on clips of zero mean and unit variance? (true or false)"),
    Question("sample_rate", "Sample rate in Hz that the model was trained at"),
)
_FILES = (
    Question("config", "File or https address of the model's configuration", file=True),
    Question("checkpoint", "File or https address of the weights", when="pretrained", file=True),
    Question("sha256", "sha256 of the weights (empty: not pinned)", needed=False, when="pretrained"),
)
_QUESTIONS: dict[str, tuple[Question, ...]] = {
    "huggingface": (
        *_MODEL,
        Question("architecture", "Architecture to start anew, such as hubert", when="random"),
        Question(
            "trust_remote_code",
            "Run code that comes with the model? The board shows it (true or false; empty: false)",
            needed=False,
            when="pretrained",
        ),
    ),
    "torchaudio": _FILES,
    "espnet": _FILES,
    "biomamba": _MODEL,
    "python": (Question("target", "module:function of a module beside the submission file"),),
    "features": (
        Question("directory", "Directory of the embeddings, one file a task", file=True),
        Question("sample_rate", "Sample rate in Hz at which the model heard the audio"),
    ),
    "statistics": (),
}


def new(
    path: Annotated[
        Path | None, typer.Argument(help="The file to write; by default submissions/NAME.toml.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="How the board calls it.")] = None,
    loader: Annotated[str | None, typer.Option(help=", ".join(_LOADERS))] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A key of the loader; may be repeated.")
    ] = None,
    family: Annotated[str | None, typer.Option(help=_ABOUT["family"] + ".")] = None,
    description: Annotated[str | None, typer.Option(help=_ABOUT["description"] + ".")] = None,
    authors: Annotated[str | None, typer.Option(help=_ABOUT["authors"] + ".")] = None,
    licence: Annotated[str | None, typer.Option(help=_ABOUT["licence"] + ".")] = None,
    paper: Annotated[str | None, typer.Option(help="Address of the paper.")] = None,
    code: Annotated[str | None, typer.Option(help="Address of the code.")] = None,
    parameters: Annotated[
        int | None, typer.Option(help="Number of parameters, where the suite cannot count them (loader features).")
    ] = None,
    pretraining: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'DATA; DOMAIN; HOURS; COLLECTIONS'",
            help="A data set that the weights have seen; may be repeated. HOURS and COLLECTIONS (that its sounds are "
            "drawn from, comma-separated) may be left out. none: they have seen nothing. unknown: nothing is said.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a submission file: asks for what no option answers, and checks every answer as it is given.

    Without a terminal nothing is asked, and an answer that is needed and missing is an error.
    """
    about = {
        "description": description,
        "family": family,
        "authors": authors,
        "licence": licence,
        "paper": paper,
        "code": code,
    }
    try:
        target, replaced = _write(path, name, loader, settings or [], about, parameters, pretraining, force=force)
    except (KeyboardInterrupt, EOFError, typer.Abort) as stop:
        print(file=sys.stderr)
        raise UserError("Stopped before the last answer: nothing was written.") from stop
    print(f"{'Replaced' if replaced else 'Wrote'} {target}.")
    print(f"Next: beans check {shlex.quote(str(target))}")


def _write(
    path: Path | None,
    name: str | None,
    loader: str | None,
    settings: list[str],
    about: Mapping[str, str | None],
    parameters: int | None,
    pretraining: list[str] | None,
    *,
    force: bool,
) -> tuple[Path, bool]:
    """Ask what is open, and write the file; returns it, and whether it replaced another."""
    from evaluator.submission import About, Submission
    from leaderboard.records.reproduce import toml
    from tasks.support.files import write_atomically

    if path is not None:
        _refuse_existing(path, force=force)
        name = path.stem if name is None and not _asks() else name
    called = _ask("Name on the board (letters, digits, . _ -)", "--name", name, partial(_is, Submission, "name"))
    target = path
    if target is None:
        target = Path("submissions") / f"{called}.toml"
        _refuse_existing(target, force=force)
    chosen = _ask(f"Loader ({', '.join(_LOADERS)})", "--loader", loader, _loader)
    keys = _loader_keys(chosen, settings, target.parent)
    told: dict[str, object] = {
        key: _ask(_ABOUT[key], f"--{key}", given, partial(_is, About, key), needed=key not in _OPTIONAL)
        for key, given in about.items()
    }
    if parameters is not None or (chosen == "features" and _asks()):
        told["parameters"] = _ask(
            "Number of parameters of the model (empty: unknown)",
            "--parameters",
            None if parameters is None else str(parameters),
            lambda text: _is(About, "parameters", _number(text)),
            needed=False,
        )
    untrained = chosen == "statistics" or keys.get("weights") == "random"
    told["pretraining"] = [] if untrained and pretraining is None else _pretraining(pretraining)
    told = {key: value for key, value in told.items() if value not in (None, "")}
    content = {"submission": {"name": called, "loader": chosen, **keys}, "about": told}
    text = toml(content)
    Submission.parse(text, target).check_keys()
    replaced = target.exists()
    write_atomically(target, text)
    for reason in overlaps(told):
        print(f"To be disclosed on the board: {reason}.", file=sys.stderr)
    return target, replaced


def _asks() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _ask(question: str, option: str, given: str | None, check: Callable[[str], object], *, needed: bool = True) -> Any:
    """An answer that ``check`` accepts: the option's, or else asked for until it is right; None where none is needed.

    Raises:
        UserError: the option's value is wrong, or it is missing and nobody is there to ask.
    """
    if given is None and not _asks():
        if needed:
            raise UserError(f"{option} is missing: give it, or run this in a terminal to be asked.")
        return None
    while True:
        text = given if given is not None else str(typer.prompt(question, default="", show_default=False, err=True))
        text = text.strip()
        if not text and not needed:
            return None
        try:
            # What a terminal sends may be no text in its encoding.
            text.encode()
            if text:
                return check(text)
            error = UserError("this needs an answer")
        except UnicodeEncodeError:
            error = UserError("this is not valid text")
        except UserError as wrong:
            error = wrong
        if given is not None:
            raise UserError(f"{option}: {error}.")
        print(f"  {error}.", file=sys.stderr)


def _is(model: "type[BaseModel]", key: str, value: object) -> Any:
    """``value`` as the model's own field takes it."""
    from pydantic import ConfigDict, ValidationError, create_model

    from evaluator.submission import explain

    field = model.model_fields[key]
    config = ConfigDict(strict=bool(model.model_config.get("strict")))
    fields: dict[str, Any] = {key: (field.annotation, field)}
    try:
        return getattr(create_model("answer", __config__=config, **fields).model_validate({key: value}), key)
    except ValidationError as error:
        raise UserError(explain(error, keys=False)) from error


def _loader(text: str) -> str:
    if text not in _LOADERS:
        raise UserError(f"there is no loader {text!r}: choose one of {', '.join(_LOADERS)}")
    return text


def _number(text: str) -> object:
    digits = text.replace("_", "").replace(",", "")
    return int(digits) if digits.isdecimal() else text


def _refuse_existing(target: Path, *, force: bool) -> None:
    if target.suffix != ".toml" or target.is_dir():
        raise UserError(f"{target} is no name of a submission file: give one that ends in .toml.")
    if not target.exists() or force:
        return
    if not _asks() or not typer.confirm(f"{target} exists. Replace it?", default=False, err=True):
        raise UserError(f"{target} exists and was left as it is: give another name, or --force to replace it.")


def _loader_keys(loader: str, settings: list[str], base: Path) -> dict[str, Any]:
    """The loader's keys: those of ``--set``, and the answers to what is open of its questions."""
    from evaluator.submission import keys_of
    from tasks.support.errors import instead

    model = keys_of(loader)
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise UserError(f"--set {setting!r}: write KEY=VALUE.")
        if key not in model.model_fields:
            raise UserError(f"--set {setting!r}: {loader} has no key {key!r} {instead(key, model.model_fields)}.")
        found[key] = _ask(key, f"--set {key}", text, partial(_key, model, key))
    weights = "random" if found.get("weights") == "random" else "pretrained"
    for question in _QUESTIONS[loader]:
        key = question.key
        open_one = key not in found and question.when in ("always", weights)
        if key == "architecture":
            open_one = open_one and "model" not in found
        if key == "revision":
            open_one = open_one and not _from(base, str(found.get("model"))).is_dir()
        if open_one:
            value = _ask(
                question.text,
                f"--set {key}=…",
                None,
                partial(_key, model, key),
                needed=question.needed,
            )
            if value is not None and value != model.model_fields[key].default:
                found[key] = value
        if question.file and isinstance(found.get(key), str):
            found[key] = _seen_from(base, found[key], hub=key == "model")
    directory = _from(base, str(found["model"])).resolve() if "model" in found else None
    if directory is not None and directory.is_dir():
        if "revision" in found:
            raise UserError(f"--set revision names a commit of the hub, but {directory} is a directory: leave it out.")
        if loader == "huggingface":
            _waveforms(model, found, directory)
    return found


def _waveforms(model: "type[BaseModel]", found: dict[str, Any], directory: Path) -> None:
    """Ask what a model of waveforms that was saved without its feature extractor does not say of itself."""
    from evaluator.backbones.huggingface.families import FAMILIES
    from evaluator.backbones.huggingface.weights import quieten, read_config, read_extractor

    questions = [question for question in _WAVEFORMS if question.key not in found]
    if not questions:
        return
    quieten(local=True)
    try:
        family = FAMILIES.get(read_config(str(directory), None, False, directory).model_type)
        if family is None or not family.waveforms or read_extractor(str(directory), None, False) is not None:
            return
    except UserError as error:
        warn(str(error))
        return
    lacks = f"{directory} has no preprocessor_config.json, which would say how clips are scaled and at which rate"
    if not _asks():
        raise UserError(f"{lacks}: give {' and '.join(f'--set {question.key}=…' for question in questions)}.")
    print(f"  {lacks}.", file=sys.stderr)
    for question in questions:
        found[question.key] = _ask(question.text, "", None, partial(_key, model, question.key))


def _from(base: Path, text: str) -> Path:
    """What a submission file in ``base`` calls ``text``, also where ``base`` is not made yet."""
    return Path(os.path.normpath(base / text)) if not base.exists() else base / text


def _key(model: "type[BaseModel]", key: str, text: str) -> Any:
    """A loader's key, written as in the file or as plain text: 16000, true, "text" and text."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        tables = {}
    if set(tables) == {"value"}:
        try:
            return _is(model, key, tables["value"])
        except UserError:
            # A commit may look like a number.
            pass
    if key == "target" and not all(text.partition(":")):
        raise UserError("target: write module:function, or module:Class")
    return _is(model, key, text)


def _seen_from(base: Path, text: str, *, hub: bool) -> str:
    """A file of the present directory as the submission file, in ``base``, has to call it."""
    if "://" in text or _from(base, text).exists():
        return text
    if not Path(text).exists():
        if not hub:
            warn(f"{_from(base, text)} does not exist (yet); paths in a submission file start at its directory.")
        return text
    # Where the path leads from is where the file really is, as the loaders see it.
    moved = os.path.relpath(text, base.resolve())
    print(f"  Written as {moved}: paths in a submission file start at its directory.", file=sys.stderr)
    return moved


def _pretraining(given: list[str] | None) -> list[dict[str, Any]] | None:
    """The data sets that the weights have seen, from the options or asked one by one; None where nothing is said."""
    if given is not None:
        said = [text.strip() for text in given]
        if said == ["unknown"]:
            return None
        return [] if said == ["none"] else [_from_option(text) for text in given]
    if not _asks():
        raise UserError(f"--pretraining is missing: give {_PRETRAINING}.")
    found: list[dict[str, Any]] = []
    while True:
        # To say nothing is no claim that they have heard nothing.
        first = "Data set that the weights have seen (none: they have seen nothing; empty: unknown)"
        data = _ask("Next data set (empty: none further)" if found else first, "", None, str, needed=False)
        if data is None:
            return found or None
        if data.casefold() == "none":
            return found
        found.append(_data_set(data, None, None, None))


def _from_option(text: str) -> dict[str, Any]:
    parts = [part.strip() for part in text.split(";")]
    if not 2 <= len(parts) <= 4 or not parts[0]:
        raise UserError(f"--pretraining {text!r}: write {_PRETRAINING}.")
    data, domain, hours, collections = [*parts, "", ""][:4]
    return _data_set(data, domain, hours, collections)


def _data_set(data: str, domain: str | None, hours: str | None, collections: str | None) -> dict[str, Any]:
    """One entry; what is None is asked."""
    from evaluator.submission import Domain, Pretraining
    from leaderboard.records.overlap import known_collections

    where = f"--pretraining {data}:"
    heard = _ask(
        f"  Domain ({', '.join(get_args(Domain))})",
        f"{where} domain",
        domain,
        partial(_is, Pretraining, "domain"),
    )
    length = _ask(
        "  Hours (empty: unknown)",
        f"{where} hours",
        hours,
        partial(_is, Pretraining, "hours"),
        needed=False,
    )
    known = known_collections(data)
    if known and collections is None:
        print(f"  Known to be drawn from {', '.join(known)}.", file=sys.stderr)
    drawn = _ask(
        f"  Collections it is drawn from, such as Freesound, comma-separated (empty: none{' further' * bool(known)})",
        f"{where} collections",
        collections,
        lambda text: [name.strip() for name in text.split(",") if name.strip()],
        needed=False,
    )
    entry: dict[str, Any] = {"data": data, "domain": heard}
    if length is not None:
        entry["hours"] = int(length) if length == int(length) else length
    if drawn:
        entry["collections"] = drawn
    return entry


def overlaps(about: Mapping[str, object]) -> list[str]:
    """What the board discloses of a submission file's table ``[about]``, on the tasks of the suite."""
    from leaderboard.ranking.standings import catalogue
    from leaderboard.records.overlap import heard, overlap

    told = heard(about)
    return [reason for task in catalogue() for reason in overlap(told, task.name, task.facts.collections)]
