"""``beans study``: the installed studies as commands. The parameters of a study's ``run`` are the options."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from evaluator.cli.console import print_json, progress, split_list, split_numbers
from evaluator.studies import STUDIES, Study
from tasks.support.errors import UserError
from tasks.support.home import Home


class _Studies(TyperGroup):
    """Imports the studies when help or a study is requested, not when the command line starts."""

    def list_commands(self, ctx: Any) -> list[str]:
        return STUDIES.names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in STUDIES.names():
            return None
        try:
            return _command(cmd_name, STUDIES.get(cmd_name))
        except UserError as error:
            return _broken(cmd_name, error)


app = typer.Typer(cls=_Studies, no_args_is_help=True, epilog="Example: beans study vram")


@app.callback()
def studies() -> None:
    """Run a study, which answers a question of the papers."""


def _command(name: str, study: Study) -> Any:
    parameters = inspect.signature(study.run).parameters.values()
    options = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    hints = get_type_hints(study.run, include_extras=True)
    readers = {option.name: _Option(option.name, hints[option.name], option.default) for option in options}

    def command(out: Path | None, as_json: bool, **values: Any) -> None:
        chosen = {key: readers[key].read(value) for key, value in values.items()}
        folder = out or Home.from_environment().root / "studies"
        with progress() as report:
            outcome = study.run(folder, report, **chosen)
        files = [str(file) for file in outcome.files]
        if as_json:
            print_json({"verdict": list(outcome.verdict), "files": files})
        else:
            print("\n".join(outcome.verdict))
            print(f"Written: {', '.join(files)}")

    out = typer.Option(help="Directory of the files; the default is BEANS_HOME/studies.")
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(reader.parameter() for reader in readers.values()),
            _parameter("out", Annotated[Path | None, out], None),
            _parameter("as_json", Annotated[bool, typer.Option("--json", help="As JSON.")], False),
        ]
    )
    about = "\n\n".join(filter(None, (study.help, f"Claim: {study.claim}.", study.about)))
    return _made(name, command, about, f"Example: {study.example}" if study.example else None)


def _broken(name: str, error: UserError) -> Any:
    def command() -> None:
        raise error

    return _made(name, command, str(error), None)


def _made(name: str, function: Callable[..., None], text: str, epilog: str | None) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=text, epilog=epilog)(function)
    return typer.main.get_command(single)


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


class _Option:
    """One keyword parameter of a study as an option of the command line."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name, self.default = name, default
        self.type, *texts = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        self.help = next((text for text in texts if isinstance(text, str)), "")
        self.flag = f"--{name.replace('_', '-')}"
        # The type of the parts of a tuple.
        self.part = get_args(self.type)[0] if get_origin(self.type) is tuple else None

    def parameter(self) -> inspect.Parameter:
        """Return the parameter from which typer makes the option."""
        if self.part is None:
            return _parameter(self.name, Annotated[self.type, typer.Option(self.flag, help=self.help)], self.default)
        default = ",".join(f"{part:g}" if isinstance(part, float | int) else part for part in self.default)
        option = typer.Option(self.flag, help=f"{self.help} Separated by commas.".strip())
        return _parameter(self.name, Annotated[str, option], default)

    def read(self, value: Any) -> Any:
        """Convert the option's value to the study's argument.

        Raises:
            UserError: the study does not accept a part of the list.
        """
        if self.part is None:
            return value
        parts: tuple[Any, ...]
        if self.part in (float, int):
            parts = tuple(self.part(number) for number in split_numbers(self.flag, value, "1,5,10"))
        else:
            parts = tuple(dict.fromkeys(split_list(value)))
        choices = get_args(self.part) if get_origin(self.part) is Literal else ()
        if not parts or (choices and set(parts) - set(choices)):
            known = f": choose from {', '.join(choices)}, separated by commas" if choices else " has no value"
            raise UserError(f"{self.flag} {value}{known}.")
        return parts
