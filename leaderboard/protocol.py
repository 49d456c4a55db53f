"""The rules that make results comparable, as data. Changing a default here is a new version of the protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

Track = str


@dataclass(frozen=True)
class Protocol:
    """Section by section the rules of ``beans-probe/1``.

    Attributes:
        version: name of this set of rules.
        batch_size: items a training step.
        weight_decay: Adam's L2 penalty.
        epochs: at most so many passes over the train split.
        patience: stop a probe after so many epochs without improvement on validation.
        lr_low, lr_high: the range of the log-uniform learning-rate search.
        trials: learning rates searched.
        grid: these learning rates instead of a search; empty for the search.
        seeds: how often the chosen probe is retrained for the test result.
        bootstrap: resamples behind the 95 % interval.
        precision: the backbone's arithmetic.
        train: which part of the train split is used: all, low (BEANS' few-label split), or so many shots a class.
    """

    version: str = "beans-probe/1"
    batch_size: int = 32
    weight_decay: float = 1e-3
    epochs: int = 100
    patience: int = 50
    lr_low: float = 1e-5
    lr_high: float = 1e-1
    trials: int = 16
    grid: tuple[float, ...] = ()
    seeds: int = 5
    bootstrap: int = 1000
    precision: str = "fp32"
    train: str = "all"

    @property
    def name(self) -> str:
        """The version and every setting that departs from it: two results are ranked together if this is equal."""
        departures = [
            f"{field.name}={_spell(getattr(self, field.name))}"
            for field in fields(self)
            if field.name != "version" and getattr(self, field.name) != field.default
        ]
        return "+".join([self.version, *departures])


def _spell(value: object) -> str:
    return (
        ",".join(f"{item:g}" for item in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else f"{value}"
    )
