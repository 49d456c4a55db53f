"""``beans submissions new``: writes a submission file from the loader's template and the answers to questions."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluator.backbones import LOADERS, Loader
from evaluator.cli.console import split_list
from tasks.support.errors import UserError, instead

EXAMPLE = (
    "Example: `beans submissions new` asks. A script gives every answer: "
    "beans submissions new --name my-hubert --loader huggingface --set model=facebook/hubert-base-ls960 "
    "--set revision=dba3bb02fda4248b6e082697eee756de8fe8aa8a --family HuBERT "
    "--description 'HuBERT base' --authors 'Hsu et al. 2021' --licence Apache-2.0 "
    "--pretraining 'LibriSpeech; speech; 960'"
)
# Like the loaders' templates: one key per line, with an example and a comment.
_ABOUT = """
description = "HuBERT base"  # a sentence about the model
family = "HuBERT"  # the name of a group of similar models, such as HuBERT
authors = "Hsu et al. 2021"  # who made the model
licence = "Apache-2.0"  # licence of the weights
paper = "https://arxiv.org/abs/2106.07447"  # address of the paper
code = "https://github.com/facebookresearch/fairseq"  # address of the code
parameters = 94371712  # number of parameters, if the suite cannot count them
pretraining = [{ data = "LibriSpeech", domain = "speech", hours = 960 }]  # data sets of the pretraining; [] for none
"""
_LINE = re.compile(r"^(\w+) = .*?  # (.*)$", re.MULTILINE)
_HELP = dict(_LINE.findall(_ABOUT))
_DATA_SET = "DATA; DOMAIN; HOURS; COLLECTION, COLLECTION"


def new(
    path: Annotated[
        Path | None, typer.Argument(help="The file to write; by default submissions/NAME.toml.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name on the board.")] = None,
    loader: Annotated[str | None, typer.Option()] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A key of the loader; may be repeated.")
    ] = None,
    family: Annotated[str | None, typer.Option(help=_HELP["family"])] = None,
    description: Annotated[str | None, typer.Option(help=_HELP["description"])] = None,
    authors: Annotated[str | None, typer.Option(help=_HELP["authors"])] = None,
    licence: Annotated[str | None, typer.Option(help=_HELP["licence"])] = None,
    paper: Annotated[str | None, typer.Option(help=_HELP["paper"])] = None,
    code: Annotated[str | None, typer.Option(help=_HELP["code"])] = None,
    parameters: Annotated[int | None, typer.Option(help=_HELP["parameters"])] = None,
    pretraining: Annotated[
        list[str] | None,
        typer.Option(
            metavar=f"'{_DATA_SET}'",
            help="A data set of the pretraining; may be repeated. HOURS and COLLECTIONs (the sources of its sounds) "
            "are optional. none: no pretraining. unknown: nothing is known.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a submission file with every key of the loader: the answered ones, and the others as comments.

    The command asks only for required keys and checks every answer at once. Without a terminal it asks nothing, and a
    missing answer is an error.
    """
    from evaluator.submission import Submission, convert
    from tasks.support.files import write_atomically

    about: dict[str, Any] = {"description": description, "family": family, "authors": authors, "licence": licence}
    try:
        called = name or (path.stem if path is not None and not sys.stdin.isatty() else None)
        named = partial(convert, Annotated[str, Submission.model_fields["name"]])
        called = _answer("Name on the board (letters, digits, . _ -)", "--name", called, named)
        target = path or Path("submissions") / f"{called}.toml"
        _refuse_existing(target, force=force)
        chosen = _answer(f"Loader ({', '.join(LOADERS.names())})", "--loader", loader, LOADERS.get)
        keys = _keys(chosen, settings or [], target.parent)
        for key, given in about.items():
            about[key] = _answer(f"{key.capitalize()} ({_HELP[key]})", f"--{key}", given, str)
        untrained = not chosen.trained or keys.get("weights") == "random"
        seen = [] if untrained and pretraining is None else _pretraining(pretraining)
    except (KeyboardInterrupt, EOFError, typer.Abort) as stop:
        print(file=sys.stderr)
        raise UserError("Stopped before the last answer: nothing was written.") from stop
    about |= {"paper": paper or None, "code": code or None, "parameters": parameters, "pretraining": seen}
    template = re.sub("parameters = .*\n", "", _ABOUT) if chosen.counted else _ABOUT
    text = _table("submission", chosen.template, {"name": called, "loader": chosen.name, **keys})
    text += "\n" + _table("about", template, about)
    Submission.parse(text, target).check_keys()
    done = "Replaced" if target.exists() else "Wrote"
    write_atomically(target, text)
    # Imported after the questions, because this takes a moment.
    from leaderboard.database.standings import catalogue
    from leaderboard.records.overlap import overlaps

    for reason in overlaps(about, catalogue()):
        print(f"To be disclosed on the board: {reason}.", file=sys.stderr)
    print(f"{done} {target}.\nNext: beans check {shlex.quote(str(target))}")


def _table(name: str, template: str, values: Mapping[str, object]) -> str:
    """Return a table of the file: the keys with values, then the other lines of the template as comments."""
    from leaderboard.records.reproduce import toml

    # TOML writes some values as tables of their own. The comments stand before them.
    keys, bracket, tables = toml({name: values}).partition("\n[")
    comments = [f"# {line[0]}\n" for line in _LINE.finditer(template) if values.get(line[1]) is None]
    return "".join([keys, *comments, bracket, tables])


def _answer(question: str, option: str, given: str | None, check: Callable[[str], Any], *, empty: bool = False) -> Any:
    """Return the option's value, or ask until ``check`` accepts the answer; None for an answer that may be ``empty``.

    Raises:
        UserError: the option's value is wrong, or it is missing and there is no terminal.
    """
    if given is None and not sys.stdin.isatty():
        raise UserError(f"{option} is missing ({question}): give it, or run this in a terminal to be asked.")
    while True:
        answer = given if given is not None else typer.prompt(question, default="", show_default=False, err=True)
        text = str(answer).strip()
        try:
            # A terminal may send bytes that are not text in its encoding.
            text.encode()
            if text or empty:
                return check(text) if text else None
            error = "this needs an answer"
        except UnicodeEncodeError:
            error = "this is not valid text"
        except UserError as wrong:
            error = str(wrong).rstrip(".")
        if given is not None:
            raise UserError(f"{option}: {error}.")
        print(f"  {error}.", file=sys.stderr)


def _refuse_existing(target: Path, *, force: bool) -> None:
    if target.suffix != ".toml" or target.is_dir():
        raise UserError(f"{target} is not the name of a submission file: give a name that ends in .toml.")
    asks = target.exists() and not force
    if asks and not (sys.stdin.isatty() and typer.confirm(f"{target} exists. Replace it?", default=False, err=True)):
        raise UserError(f"{target} exists and was not changed: give another name, or --force to replace it.")


def _keys(loader: Loader, settings: list[str], base: Path) -> dict[str, Any]:
    """Return the loader's keys: those of ``--set``, and the answers for the missing required keys."""
    from evaluator.submission import keys_of, read_key

    known = keys_of(loader.name).model_fields
    texts = dict(_LINE.findall(loader.template))
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = map(str.strip, setting.partition("="))
        if not equals:
            raise UserError(f"--set {setting!r}: write KEY=VALUE.")
        if key not in known:
            raise UserError(f"--set {setting!r}: {loader.name} has no key {key!r} {instead(key, known)}.")
        values[key] = _answer(key, f"--set {key}", text, partial(read_key, loader, key))
    while missing := loader.missing(values):
        for key, reason in missing.items():
            about = f"{key} ({texts[key]})" if key in texts else key
            question = f"{reason}; {about}" if reason else about
            values[key] = _answer(question, f"--set {key}=…", None, partial(read_key, loader, key))
    return {key: _seen_from(base, value) if key in loader.files else value for key, value in values.items()}


def _seen_from(base: Path, value: Any) -> Any:
    """Return the path of an existing file relative to ``base``, the submission file's directory; else ``value``."""
    if isinstance(value, list):
        return [_seen_from(base, one) for one in value]
    if not isinstance(value, str) or Path(value).is_absolute() or not Path(value).exists():
        return value
    # Loaders resolve links in the directory of the submission file, so the path starts at the real directory.
    moved = os.path.relpath(value, base.resolve())
    print(f"  Written as {moved}: paths in a submission file start at its directory.", file=sys.stderr)
    return moved


def _pretraining(given: list[str] | None) -> list[dict[str, Any]] | None:
    """Return the data sets of the pretraining, from the options or from answers; None if nothing is known."""
    if given == ["unknown"]:
        return None
    if given is not None:
        return [*filter(None, (_answer("", f"--pretraining {text}", text, _data_set) for text in given))]
    entries: list[dict[str, Any]] = []
    question = f"Data set of the pretraining, {_DATA_SET} (none: no pretraining; empty: no further data set)"
    while entry := _answer(question, "--pretraining", None, _data_set, empty=True):
        entries.append(entry)
    # An empty first answer means unknown, not "no pretraining".
    return None if entry is None and not entries else entries


def _data_set(text: str) -> dict[str, Any]:
    """Return one entry of ``pretraining``; an empty one for "none"."""
    from evaluator.submission import Pretraining, convert

    if text.casefold() == "none":
        return {}
    data, domain, hours, drawn, *others = *map(str.strip, text.split(";")), "", "", ""
    if not data or not domain or any(others):
        raise UserError(f"write '{_DATA_SET}', where HOURS and COLLECTIONs are optional, none, or unknown")
    values = {"data": data, "domain": domain, "hours": hours or None, "collections": split_list(drawn)}
    entry: dict[str, Any] = convert(Pretraining, values).model_dump(exclude_defaults=True)
    return entry
