"""The result of one check: one line of a report, for people and for scripts."""

from typing import Any, Literal, NamedTuple


class FileProblem(NamedTuple):
    """What is wrong with one audio file. ``place`` is the file and line that name it, "" if it is not known."""

    path: str
    place: str
    reason: str


class Finding(NamedTuple):
    """One check's result.

    Attributes:
        name: the check.
        status: its result.
        says: the result in words and, after a failure, what to do. It names a few of ``files``.
        files: every file that failed the check.
    """

    name: str
    status: Literal["pass", "fail", "note"]
    says: str
    files: tuple[FileProblem, ...] = ()

    @property
    def cells(self) -> tuple[str, str, str]:
        """The cells of its row in a table."""
        return self.name, self.status, self.says

    def as_json(self) -> dict[str, Any]:
        """Its fields by name, for scripts; without ``files`` if no file failed the check."""
        fields = {"name": self.name, "status": self.status, "says": self.says}
        return {**fields, "files": [file._asdict() for file in self.files]} if self.files else fields
