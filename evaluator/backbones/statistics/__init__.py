"""The floor: moments of log-mel bands and of MFCC. A backbone that does not score higher has learned nothing useful."""

from typing import TYPE_CHECKING, Annotated

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Between
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbones.statistics.encoder import Statistics

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1


def load(
    # A window of 32 ms needs enough samples, and the bands begin at 50 Hz.
    sample_rate: Annotated[int, Between(1_000, 10**7)] = 32_000,
    bands: Annotated[int, Between(1, 4_096)] = 64,
    coefficients: Annotated[int, Between(1)] = 20,
) -> "Statistics":
    """Statistics at ``sample_rate`` Hz of ``bands`` mel bands from 50 Hz to half of it, and of ``coefficients`` MFCC.

    Raises:
        UserError: more coefficients than bands.
    """
    from evaluator.backbones.statistics.encoder import Statistics

    if coefficients > bands:
        raise UserError(f"coefficients {coefficients} is above the number of bands, {bands}: give fewer.")
    return Statistics(sample_rate, bands, coefficients)


LOADER = Loader(
    name="statistics",
    help="the floor: moments of log-mel bands and of MFCC",
    version=VERSION,
    load=load,
    template="""
sample_rate = 32000  # Hz
bands = 64  # mel bands from 50 Hz to half the sample rate
coefficients = 20  # of the MFCC, at most as many as bands
""",
    trained=False,
)
