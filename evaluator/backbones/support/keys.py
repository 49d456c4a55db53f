"""Bounds of the numbers that loaders take as keys; pydantic checks them when a submission is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Between:
    """Bounds in a loader's signature, both included. ``high`` is None for no upper bound.

    pydantic's own `Field` would need pydantic, which is not installed on machines that only run encoders on a GPU.
    """

    low: int
    high: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The schema of the number with its bounds. A float must also be finite."""
        schema = {**handler(source), "ge": self.low}
        if self.high is not None:
            schema["le"] = self.high
        return {**schema, "allow_inf_nan": False} if schema["type"] == "float" else schema


Hertz = Annotated[int, Between(1, 10**7)]
"""A sample rate, with the same bounds as in a record."""

Seed = Annotated[int, Between(0, 2**63 - 1)]
"""A seed of random weights, within the bounds of torch's generator."""
