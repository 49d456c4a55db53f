"""The result of one check: one line of a report, for people and for scripts."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One check's result. ``says`` states the result and, after a failure, what to do."""

    name: str
    status: Literal["pass", "fail", "note"]
    says: str
