"""What a check found: one line of a report that a person reads and a script can act on."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One check's result. ``says`` is what was found, and after a failure what to do."""

    name: str
    status: Literal["pass", "fail", "note"]
    says: str
