"""Bounds of the numbers that loaders take as keys; pydantic checks them when a submission is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Between:
    """Bounds in a loader's signature, both included; ``high`` is None where there is none.

    pydantic's own `Field` would need pydantic, which machines that only run encoders on a GPU do not have.
    """

    low: int
    high: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The schema of the number with its bounds; a float is finite too."""
        schema = {**handler(source), "ge": self.low}
        if self.high is not None:
            schema["le"] = self.high
        return {**schema, "allow_inf_nan": False} if schema["type"] == "float" else schema


Hertz = Annotated[int, Between(1, 10**7)]
"""As in a record."""

Seed = Annotated[int, Between(0, 2**63 - 1)]
"""Of random weights, as torch takes it."""
