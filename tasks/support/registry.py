"""Registries of objects of one kind, from the modules of a folder and from installed packages.

A module of the folder declares one object under an agreed attribute, for example ``SOURCE = Source(...)``. Users ask
for it by the file's name, with hyphens for underscores, or by a name that the object declares. A package adds an
object by an entry point. Its name is what users write, and its value names the object, for example
``mine = "my_package.my_source:SOURCE"``.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Generic, TypeVar

from tasks.support.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

T = TypeVar("T")


class Registry(Generic[T]):
    """All objects of one kind, by name.

    Listing the names imports no module, unless the objects declare their names. `get` imports the module of its object.

    Args:
        kind: the word for one object in messages, for example "task source".
        type: the class of the objects.
        attribute: the name under which a module declares its object.
        package: the folder, as a package name. Modules whose name starts with an underscore are ignored.
        group: the entry point group; None where packages cannot add objects.
        name: returns the name that an object declares; None where the file's name is the object's name.
        helpers: modules of the folder that declare no object.
    """

    def __init__(
        self,
        kind: str,
        type: type[T],
        *,
        attribute: str,
        package: str,
        group: str | None = None,
        name: Callable[[T], str] | None = None,
        helpers: Sequence[str] = (),
    ) -> None:
        self.kind, self.type = kind, type
        self.attribute, self.package, self.group = attribute, package, group
        self.name, self.helpers = name, helpers

    def names(self) -> list[str]:
        """Return all names, sorted. Entry points that cannot be imported are included."""
        return sorted({*self._modules, *self._entry_points})

    def get(self, name: str) -> T:
        """Return the object of that name.

        Raises:
            UserError: no such name, a name that is registered twice, or an entry point that cannot be imported.
        """
        points = self._entry_points.get(name, [])
        module = self._modules.get(name)
        if module is None and not points:
            raise UserError(f"There is no {self.kind} {name!r}: choose from {', '.join(self.names())}.")
        if len(points) + (module is not None) > 1:
            owners = ([] if module is None else ["this suite"]) + sorted(_owner(point) for point in points)
            raise UserError(
                f"The {self.kind} {name!r} is registered by {' and by '.join(owners)}: uninstall one of the packages."
            )
        if module is None:
            return self._load(points[0])
        return self._import(module)

    def distribution(self, name: str) -> "Distribution | None":
        """Return the installed package that adds the object of that name, or None for an object of the suite."""
        points = self._entry_points.get(name, [])
        return points[0].dist if points and name not in self._modules else None

    def source(self, name: str) -> str:
        """Return where the object of that name is declared, as "MODULE:NAME"."""
        module = self._modules.get(name)
        return self._entry_points[name][0].value if module is None else f"{module}:{self.attribute}"

    def refresh(self) -> None:
        """Forget the names, so that packages installed meanwhile are found."""
        for cached in ("_modules", "_entry_points"):
            self.__dict__.pop(cached, None)

    def each(self) -> Iterator[tuple[str, T | UserError]]:
        """Yield every name with its object, or with the error that `get` raises for it."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except UserError as error:
                yield name, error

    def _import(self, module: str) -> T:
        declared = getattr(importlib.import_module(module), self.attribute)
        assert isinstance(declared, self.type), f"{module}.{self.attribute} must be a {self.type.__name__}"
        return declared

    def _load(self, point: "EntryPoint") -> T:
        try:
            loaded = point.load()
        # The import of another package may raise any exception.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
            raise UserError(
                f"The {self.kind} {point.name!r} of {_owner(point)} cannot be imported ({reason}): repair or uninstall"
                " that package."
            ) from error
        if not isinstance(loaded, self.type):
            raise UserError(
                f"The {self.kind} {point.name!r} of {_owner(point)} cannot be used: its entry point {point.value} must"
                f" name a {self.type.__module__}.{self.type.__name__} and not a {type(loaded).__name__}."
            )
        if self.name is not None and self.name(loaded) != point.name:
            raise UserError(
                f"The {self.kind} {point.name!r} of {_owner(point)} cannot be used: it declares the other name"
                f" {self.name(loaded)!r}."
            )
        return loaded

    @cached_property
    def _modules(self) -> dict[str, str]:
        # find_spec imports only the parents of the package. Importing the package itself may be slow.
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations is not None, f"{self.package} is no package"
        names = [m.name for m in pkgutil.iter_modules(spec.submodule_search_locations) if not m.name.startswith("_")]
        modules = [f"{self.package}.{name}" for name in names if name not in self.helpers]
        if self.name is None:
            return {module.rpartition(".")[2].replace("_", "-"): module for module in modules}
        named = {self.name(self._import(module)): module for module in modules}
        assert len(named) == len(modules), f"two modules of {self.package} declare the same name"
        return named

    @cached_property
    def _entry_points(self) -> "dict[str, list[EntryPoint]]":
        from importlib.metadata import entry_points

        points: dict[str, list[EntryPoint]] = {}
        for point in () if self.group is None else entry_points(group=self.group):
            points.setdefault(point.name, []).append(point)
        return points


def load_declared(source: str, type: type[T]) -> T:
    """Import the object that "MODULE:NAME" declares."""
    module, _, name = source.partition(":")
    declared = getattr(importlib.import_module(module), name)
    assert isinstance(declared, type), f"{source} must be a {type.__name__}"
    return declared


def _owner(point: "EntryPoint") -> str:
    return f"the package {point.dist.name}" if point.dist is not None else f"the entry point {point.value}"
