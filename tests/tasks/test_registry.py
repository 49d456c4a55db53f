"""A registry finds modules of a folder and of installed packages, and one that is broken spoils no other."""

import sys
from pathlib import Path

import pytest

from tasks.support.errors import UserError
from tasks.support.registry import Registry

OWN = {
    "__init__.py": "",
    "red.py": "COLOUR = 'red'\n",
    "dark_blue.py": "COLOUR = 'dark blue'\n",
    "_mixing.py": "raise RuntimeError('no colour')\n",
}


def install(root: Path, name: str, entry_points: dict[str, str], **modules: str) -> None:
    """What pip leaves of a package: its modules, and its entry points of the group ``test.colours``."""
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").touch()
    for module, text in modules.items():
        (root / name / f"{module}.py").write_text(text)
    folder = root / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[test.colours]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages, with a folder of colours in it."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    for file, text in OWN.items():
        (tmp_path / "colours").mkdir(exist_ok=True)
        (tmp_path / "colours" / file).write_text(text)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def colours(group: str | None = "test.colours") -> Registry[str]:
    return Registry("colour", str, attribute="COLOUR", package="colours", group=group)


def test_names_are_those_of_the_files_and_listing_them_imports_nothing(site: Path) -> None:
    (site / "colours" / "broken.py").write_text("raise RuntimeError('imported')\n")
    (site / "colours" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    install(site, "paint", {"green": "paint.green:COLOUR"}, green="raise RuntimeError('imported')\n")
    assert colours().names() == ["broken", "dark-blue", "green", "red"]
    assert not [name for name in sys.modules if name.startswith(("colours", "paint"))]


def test_a_colour_is_found_in_the_folder_and_in_an_installed_package(site: Path) -> None:
    install(site, "paint", {"light-green": "paint.green:SHADE"}, green="SHADE = 'light green'\n")
    found = colours()
    assert (found.get("dark-blue"), found.get("light-green")) == ("dark blue", "light green")
    assert dict(found.each()) == {"dark-blue": "dark blue", "light-green": "light green", "red": "red"}
    assert colours(group=None).names() == ["dark-blue", "red"], "a closed registry takes what packages add"


def test_an_unknown_name_says_which_there_are(site: Path) -> None:
    with pytest.raises(UserError, match=r"^There is no colour 'pink': choose from dark-blue, red\.$"):
        colours().get("pink")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("paint.absent:COLOUR", r"cannot be imported \(ModuleNotFoundError: No module named 'paint.absent'\): repair"),
        ("paint.wrong:COLOUR", r"cannot be imported \(ZeroDivisionError: division by zero\): repair or uninstall that"),
        ("paint.right:ABSENT", r"cannot be imported \(AttributeError: .*ABSENT"),
        ("paint.right:NUMBER", r"its entry point paint.right:NUMBER must name a builtins.str and not a int\.$"),
    ],
)
def test_a_package_that_is_broken_is_one_sentence_and_the_others_go_on(site: Path, value: str, says: str) -> None:
    install(site, "paint", {"green": value}, wrong="COLOUR = 1 / 0\n", right="NUMBER = 3\n")
    found = colours()
    with pytest.raises(UserError, match=f"^The colour 'green' of the package paint .*{says}") as caught:
        found.get("green")
    assert "\n" not in str(caught.value)
    assert found.get("red") == "red"
    each = dict(found.each())
    assert isinstance(each.pop("green"), UserError) and each == {"dark-blue": "dark blue", "red": "red"}


def test_a_name_that_two_register_is_neithers(site: Path) -> None:
    """Which of them runs would depend on the order of installation."""
    install(site, "paint", {"red": "paint.red:COLOUR", "green": "paint.red:COLOUR"}, red="COLOUR = 'rust'\n")
    install(site, "ink", {"green": "ink.green:COLOUR"}, green="COLOUR = 'moss'\n")
    found = colours()
    with pytest.raises(UserError, match="'red' is registered by this suite and by the package paint: uninstall one"):
        found.get("red")
    with pytest.raises(UserError, match="'green' is registered by the package ink and by the package paint: un"):
        found.get("green")
    assert found.get("dark-blue") == "dark blue" and found.names() == ["dark-blue", "green", "red"]


def test_a_module_of_the_folder_without_its_declaration_is_our_mistake(site: Path) -> None:
    (site / "colours" / "grey.py").write_text("")
    with pytest.raises(AttributeError, match="COLOUR"):
        colours().get("grey")


def declared() -> Registry[str]:
    """Colours that declare their names: their last words."""
    return Registry(
        "colour", str, attribute="COLOUR", package="colours", group="test.colours",
        name=lambda colour: colour.rpartition(" ")[2], helpers=("palette",),
    )  # fmt: skip


def test_a_declared_name_stays_when_the_file_gets_another(site: Path) -> None:
    """Else what users write, and what results are kept under, would change with the name of a file."""
    (site / "colours" / "palette").mkdir()
    (site / "colours" / "palette" / "__init__.py").touch()
    (site / "colours" / "dark_blue.py").rename(site / "colours" / "navy.py")
    assert dict(declared().each()) == {"blue": "dark blue", "red": "red"}
    assert colours().names() == ["navy", "palette", "red"]


def test_an_entry_point_has_the_name_that_its_object_declares(site: Path) -> None:
    install(site, "paint", {"green": "paint.green:COLOUR", "sea": "paint.green:COLOUR"}, green="COLOUR = 'sea green'\n")
    assert declared().get("green") == "sea green"
    with pytest.raises(
        UserError, match="'sea' of the package paint cannot be used: it declares the other name 'green'"
    ):
        declared().get("sea")


def test_two_modules_of_the_folder_with_one_declared_name_are_our_mistake(site: Path) -> None:
    """Else one of them, such as a copy whose name was forgotten, would silently be missing."""
    (site / "colours" / "sky.py").write_text("COLOUR = 'sky blue'\n")
    with pytest.raises(AssertionError, match="two modules of colours declare the same name"):
        declared().names()


def test_the_package_that_adds_a_colour_is_named_with_its_version(site: Path) -> None:
    install(site, "paint", {"green": "paint.green:COLOUR"}, green="COLOUR = 'green'\n")
    added = colours().distribution("green")
    assert added is not None and (added.name, added.version) == ("paint", "1.0")
    assert colours().distribution("red") is None
