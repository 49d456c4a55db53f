"""The part of the train split on which a probe is trained: its name in a protocol, and its options."""

import re
from dataclasses import dataclass

from tasks.support.errors import UserError

MOST_SHOTS = 10**18 - 1
"""The largest number of items per class, and the largest seed of their draw."""
_SHOTS = re.compile(r"([1-9][0-9]{0,17})-shot(?:-seed([1-9][0-9]{0,17}))?")


@dataclass(frozen=True)
class TrainPart:
    """A part of the train split; the default is all of it. `tasks.subsets.select_train` selects its items.

    Attributes:
        low: BEANS' few-label split.
        shots: number of items per class, drawn at random; None for no draw.
        seed: seed of that draw.
    """

    low: bool = False
    shots: int | None = None
    seed: int = 0

    @classmethod
    def parse(cls, name: str) -> "TrainPart":
        """Return the part that has this name.

        Raises:
            UserError: no part has this name.
        """
        if name in ("all", "low"):
            return cls(low=name == "low")
        drawn = _SHOTS.fullmatch(name)
        if drawn is None:
            raise UserError(f"No part of the train split is called {name!r}: write all, low, 5-shot or 5-shot-seed3.")
        return cls(shots=int(drawn[1]), seed=int(drawn[2] or 0))

    @staticmethod
    def is_name(text: str) -> bool:
        """Return whether `parse` accepts ``text``."""
        return text in ("all", "low") or _SHOTS.fullmatch(text) is not None

    @property
    def name(self) -> str:
        """``all``, ``low``, ``5-shot``, or ``5-shot-seed3`` for a seed other than 0."""
        if self.shots is None:
            return "low" if self.low else "all"
        return f"{self.shots}-shot" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def options(self) -> list[str]:
        """The options of ``beans submit`` that select this part."""
        if self.shots is None:
            return ["--low"] if self.low else []
        return ["--shots", f"{self.shots}", *(["--shots-seed", f"{self.seed}"] if self.seed else [])]
