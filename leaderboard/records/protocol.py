"""The rules that make results comparable, and the name of the rules. Only this module writes and parses the name.

A changed standard is a new version of the protocol.
"""

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from tasks.support.errors import UserError
from tasks.train_part import TrainPart

PRECISIONS = ("fp32", "bf16")
SCALES = ("standardised", "unscaled")
SCHEDULES = ("cosine", "constant")
SHARES = ("head", "equal")
_CHOICES: dict[str, tuple[object, ...]] = {
    "precision": PRECISIONS,
    "scale": SCALES,
    "schedule": SCHEDULES,
    "decay_power": (0, 2),
    "shares": SHARES,
}
# Learning rates outside this range train nothing, and records refuse them.
LOWEST_RATE, HIGHEST_RATE = 1e-12, 1e6
# The largest numbers that `beans records verify` can compute again: anybody may write a protocol's name.
MOST = {"bootstrap": 10_000, "seeds": 1_000, "trials": 100_000}
# Maximum number of characters of a name, which is also the name of an MLflow experiment.
LONGEST_NAME = 500

_FAMILY = "beans-probe/"
STANDARD = f"{_FAMILY}2"
PAPERS = f"{_FAMILY}papers"
# What the versions other than `STANDARD` set. The first version is absent: it used another resampling filter, so its
# records cannot be made again. They are shown and ranked apart.
_VERSIONS: dict[str, dict[str, Any]] = {
    STANDARD: {},
    PAPERS: {
        "scale": "unscaled",
        "schedule": "constant",
        "patience": 50,
        "weight_decay": 1e-3,
        "decay_power": 0,
        "shares": "equal",
        "grid": (1e-5, 5e-5, 1e-4),
    },
}
VERSIONS = tuple(_VERSIONS)
# The option of `beans submit` that sets each setting. `train` has its own options.
_OPTIONS = {"trials": "--trials", "grid": "--lr", "seeds": "--seeds", "precision": "--precision"}
_NAME = re.compile(r"beans-probe/([1-9][0-9]*|papers)(\+[a-z_]+=[A-Za-z0-9.,+-]+)*")
# A plus sign before a word and an equals sign starts a setting. Other plus signs belong to numbers such as 1e+06.
_PLUS = re.compile(r"\+(?=[a-z_]+=)")


@dataclass(frozen=True)
class Protocol:
    """The rules of a result. The name states every setting that differs from the standard of its version.

    The defaults are those of ``beans-probe/2``. `standard` gives the rules of another version.

    Attributes:
        version: one of `VERSIONS`.
        scale: "standardised" for features of mean 0 and variance 1 / width on train, per dimension, so that the scale
            of a layer's activations changes nothing; "unscaled" for the features as the backbone gives them.
        batch_size: items per training step.
        weight_decay: Adam's L2 penalty at the learning rate 1; may be 0.
        decay_power: 2: the penalty at another rate is ``weight_decay / rate**2``, so that one search covers weak and
            strong penalties, each with a rate that reaches its optimum. Below ``lr_low`` the penalty stays that of
            ``lr_low``. 0: the same penalty at all rates.
        shares: "head": a parameter learns at the share of the learning rate that its head declares; "equal": all
            parameters learn at the same rate.
        schedule: of the learning rate: "cosine" falls to zero at the last step, "constant" does not fall.
        epochs: passes over the train split, at most.
        patience: 0: a probe trains for all epochs, and the last one counts. Otherwise a probe stops after this many
            epochs without improvement on validation, and its best epoch counts.
        lr_low, lr_high: range of the log-uniform learning-rate search.
        trials: number of learning rates in the search.
        grid: learning rates that replace the search; empty for the search.
        seeds: number of times that the chosen probe is retrained for the test result.
        bootstrap: number of resamples for the 95 % interval.
        precision: the backbone's arithmetic, one of `PRECISIONS`.
        train: name of the `TrainPart` that probes are trained on.

    Raises:
        UserError: the suite has no such version, a setting has a value that the suite cannot use, or the grid has so
            many rates that the name is longer than `LONGEST_NAME`.
    """

    version: str = STANDARD
    scale: str = "standardised"
    batch_size: int = 32
    weight_decay: float = 1e-6
    decay_power: int = 2
    shares: str = "head"
    schedule: str = "cosine"
    epochs: int = 100
    patience: int = 0
    lr_low: float = 0.01
    lr_high: float = 1.0
    trials: int = 16
    grid: tuple[float, ...] = ()
    seeds: int = 5
    bootstrap: int = 1000
    precision: str = "fp32"
    train: str = "all"

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise UserError(f"protocol {self.version} is not known here: this suite has {' and '.join(VERSIONS)}")
        for key, text in self.departures.items():
            if key in MOST and getattr(self, key) > MOST[key]:
                raise UserError(f"protocol {self.name}: {key} is above {MOST[key]}")
            if not _is_usable(key, getattr(self, key)):
                raise UserError(f"protocol {self.name}: {key} cannot be {text or 'empty'}")
        if len(self.name) > LONGEST_NAME:
            raise UserError(
                f"The protocol's name states every learning rate and would have {len(self.name)} characters, but"
                f" {LONGEST_NAME} are the maximum: choose fewer rates, or rates with fewer digits."
            )

    @classmethod
    def standard(cls, version: str) -> "Protocol":
        """The rules of a version, without departures.

        Raises:
            UserError: the suite has no such version.
        """
        return cls(version, **_VERSIONS.get(version, {}))

    @classmethod
    def from_options(
        cls, protocol: str, trials: int, grid: tuple[float, ...], seeds: int, precision: str, train: TrainPart
    ) -> "Protocol":
        """The protocol of the options of ``beans submit``.

        The rates of a grid are sorted, each occurs once, and their number replaces ``trials``.
        """
        standard = cls.standard(f"{_FAMILY}{protocol}")
        rates = tuple(sorted(set(grid))) or standard.grid
        count = standard.trials if rates else trials
        return replace(standard, trials=count, grid=rates, seeds=seeds, precision=precision, train=train.name)

    @classmethod
    def parse(cls, name: str) -> "Protocol":
        """The protocol with this name.

        Raises:
            UserError: the name has another version, an unknown setting or an unusable value, or `name` would write it
                differently. Results with such a name can still be compared with each other; their rules are unknown.
        """
        version, stated = cls.split(name)
        standard = vars(cls.standard(version))
        values: dict[str, Any] = {}
        for key, text in stated.items():
            if key not in standard:
                raise UserError(f"protocol {name}: there is no rule {key}")
            try:
                values[key] = _read(text, standard[key])
            except ValueError as error:
                raise UserError(f"protocol {name}: {key} cannot be {text}") from error
        protocol = cls(**{**standard, **values})
        if protocol.name != name:
            raise UserError(f"protocol {name} is written {protocol.name} by this suite")
        return protocol

    @staticmethod
    def split(name: str) -> tuple[str, dict[str, str]]:
        """Version and stated settings of a name, including a name that this version of the suite cannot `parse`.

        ``beans-probe/1+trials=4`` gives ``("beans-probe/1", {"trials": "4"})``.
        """
        version, *settings = _PLUS.split(name)
        pairs = (setting.partition("=") for setting in settings)
        return version, {key: text for key, _, text in pairs}

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether ``text`` can name a protocol on a board, even if this version of the suite cannot `parse` it."""
        return _NAME.fullmatch(text) is not None

    @property
    def name(self) -> str:
        """The version and every setting that differs from it. Results with equal names are ranked together."""
        return "+".join([self.version, *(f"{key}={text}" for key, text in self.departures.items())])

    @property
    def departures(self) -> dict[str, str]:
        """The settings that differ from those of the version, in the order of the fields, as `name` writes them."""
        standard = {field.name: field.default for field in fields(self)} | _VERSIONS[self.version]
        return {
            name: _write(getattr(self, name), default)
            for name, default in standard.items()
            if name != "version" and getattr(self, name) != default
        }

    @property
    def options(self) -> list[str]:
        """The options of ``beans submit`` that set the departures, except those in `unreachable`."""
        unreachable = self.unreachable
        options = [] if self.version == STANDARD else ["--protocol", self.version.removeprefix(_FAMILY)]
        for key, text in self.departures.items():
            if key not in unreachable:
                options += TrainPart.parse(text).options if key == "train" else [_OPTIONS[key], text]
        return options

    @property
    def unreachable(self) -> dict[str, str]:
        """The departures that no option of ``beans submit`` sets."""
        reached = Protocol.from_options(
            self.version.removeprefix(_FAMILY),
            self.trials,
            self.grid,
            self.seeds,
            self.precision,
            TrainPart.parse(self.train),
        )
        return {key: text for key, text in self.departures.items() if getattr(reached, key) != getattr(self, key)}

    def penalty(self, rate: float) -> float:
        """Adam's L2 penalty of the probes with a learning rate."""
        return self.weight_decay / max(rate, self.lr_low) ** self.decay_power

    @property
    def rate_range(self) -> tuple[float, float]:
        """The lowest and the highest learning rate of the search or of the grid."""
        return (min(self.grid), max(self.grid)) if self.grid else (self.lr_low, self.lr_high)


def _is_usable(key: str, value: Any) -> bool:
    if key in _CHOICES:
        return value in _CHOICES[key]
    if key == "train":
        return TrainPart.is_name(value)
    if key in ("weight_decay", "patience") and value == 0:
        return True
    if value == ():
        # A search, under a version whose standard is a grid.
        return False
    low, high = (LOWEST_RATE, HIGHEST_RATE) if key in ("grid", "lr_low", "lr_high") else (0, math.inf)
    numbers = value if isinstance(value, tuple) else (value,)
    return all(0 < number < math.inf and low <= number <= high for number in numbers)


def _write(value: Any, default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(_write_rate, value))
    # An int instead of a float is the same setting, so it has the same name.
    return f"{float(value)}" if isinstance(default, float) else f"{value}"


def _write_rate(rate: float) -> str:
    """A rate with six digits, as in the names of all earlier records; with all digits if six give another rate."""
    short = f"{rate:g}"
    return short if float(short) == rate else f"{float(rate)}"


def _read(text: str, standard: object) -> object:
    """Parse the value of a setting. It has the type of the standard value.

    Raises:
        ValueError: the text is not of that type.
    """
    if isinstance(standard, tuple):
        return tuple(map(float, text.split(",")))
    if isinstance(standard, int | float):
        return type(standard)(text)
    return text
