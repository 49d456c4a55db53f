"""Documents lead to what is there: links, headings, files named in the text, and an index that lists every document."""

import re
from pathlib import Path

import pytest
from architecture import is_loose, read

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A source file or folder of the project in backquotes. NAME stands for a name that the reader chooses.
NAMED = re.compile(
    r"`((?:tasks|leaderboard|evaluator|tests|docs|benchmarks|examples)/[\w./-]*?(?:/|\.(?:py|js|toml)))`"
)


def anchors(document: Path) -> set[str]:
    """The anchors that headings get on the hosting page: lower case, punctuation removed, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Links to files and headings that do not exist; addresses of the web are not followed."""
    broken = []
    for link in LINK.findall(document.read_text()):
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert not broken_links(document)


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# Where it *goes*: a `b`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#where-it-goes-a-b) [c](https://example.org/x.md) [d](#here)\n## Here\n"
        "[e](gone.md) [f](there.md#gone) [g](#gone)\n"
    )
    assert broken_links(page) == ["gone.md", "there.md#gone", "#gone"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    named = NAMED.findall(document.read_text())
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_the_index_lists_every_document(folder: str) -> None:
    index = ROOT / folder / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert not set((ROOT / folder).glob("*.md")) - {index} - listed


def test_the_rooms_of_the_architecture_are_the_rooms_of_the_code() -> None:
    """A room that the page leaves out is found by nobody; one that is gone misleads."""
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [room for room in read(ROOT).rooms if not room.endswith(("/__init__.py", "/__main__.py"))]
    missing = [room for room in rooms if f"`{room}{'' if is_loose(room) else '/'}`" not in text]
    assert not missing, "name them in docs/architecture.md"
