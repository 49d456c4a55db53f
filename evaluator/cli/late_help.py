"""Help texts that list installed modules. They are made when help is printed, because this imports the modules."""

from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand, TyperOption


def late_help(**texts: Callable[[], str]) -> type[TyperCommand]:
    """Return a command class whose options get their help text when help is printed.

    Args:
        texts: per name of a parameter, a function that returns its help text.
    """

    class Command(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            for parameter in self.params:
                if isinstance(parameter, TyperOption) and parameter.name in texts:
                    parameter.help = texts[parameter.name]()
            super().format_help(ctx, formatter)

    return Command
