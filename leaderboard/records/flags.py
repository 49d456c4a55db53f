"""The flags of a result, each with the sentence that readers see."""

from collections.abc import Sequence

from leaderboard.records.record import DataWarning, Record, Reference, Selection, WarningKind

# A probe this far below converged logistic regression on test was not trained well.
UNDERTRAINED = 0.03
# Below this number of recordings, the standard error of an accuracy of 0.8 on validation is above 0.07.
FEW_RECORDINGS = 30

EDGES = {
    "lr-at-lower-edge": "The best learning rate is at the lower edge of the range; a lower rate may be better.",
    "lr-at-upper-edge": "The best learning rate is at the upper edge of the range; a higher rate may be better.",
}
DOUBTS = {
    "undertrained": (
        f"The probe scores more than {UNDERTRAINED:g} below logistic regression on the same layer, so it was not "
        "trained well."
    ),
    "few-validation-recordings": (
        f"Validation has fewer than {FEW_RECORDINGS} recordings, so another layer or learning rate may be as good as "
        "the chosen one."
    ),
}
_ODD: dict[WarningKind, str] = {
    "cancelling": "{items} whose channels cancel, so that their mean, which the encoder reads, is far quieter",
    "clipped": "{items} that are clipped (at least 1 % of the samples are at full scale)",
    "cropped": "{items} longer than the task's max_duration, of which only the start is used",
    "cut": "{items} from MP3 files with a gap or an incomplete end, where sound may be missing",
    "shared": "{items} with the same sound as one of another split, so that the result may be too good",
    "silent": "{items} that are silent",
}
DATA = {f"{kind}-sounds": f"The task has {words.format(items='clips')}." for kind, words in _ODD.items()}
FLAGS = {**EDGES, **DOUBTS, **DATA}
"""The sentence of every flag that the suite sets."""


def doubts(test: float, reference: Reference | None, selection: Selection | None) -> list[str]:
    """The flags of a result whose probe was not trained well, or was chosen on few recordings.

    Args:
        test: the result on the test split.
        reference: logistic regression on the chosen layer; None in records of older versions.
        selection: how the probe was chosen; None in records of older versions.
    """
    undertrained = reference is not None and test < reference.test - UNDERTRAINED
    few = selection is not None and selection.recordings < FEW_RECORDINGS
    return [*(["undertrained"] if undertrained else []), *(["few-validation-recordings"] if few else [])]


def data_flags(warnings: Sequence[DataWarning] | None) -> list[str]:
    """The flags of a result by what is odd about the sounds of its task."""
    return [f"{warning.kind}-sounds" for warning in warnings or ()]


def sentence(flag: str, record: Record) -> str | None:
    """The sentence of a flag, with the counts of the record; None for a flag that the suite does not set."""
    items = "clips" if record.task.kind == "classification" else "windows"
    total = record.task.n_train + record.task.n_valid + record.task.n_test
    for warning in record.data_warnings or ():
        if flag == f"{warning.kind}-sounds":
            counts = {"train": warning.train, "valid": warning.valid, "test": warning.test}
            where = ", ".join(f"{split} {count}" for split, count in counts.items() if count)
            words = _ODD[warning.kind].format(items=items)
            return (
                f"{words[:1].upper()}{words[1:]}: {sum(counts.values())} of {total} ({where}); for example"
                f" {warning.example}."
            )
    return FLAGS.get(flag)
