"""Suggestions for keys of a file that its model does not know."""

from typing import get_args

from pydantic import BaseModel

from tasks.support.errors import instead


def suggestion(place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return what to write instead of the unknown key at ``place``, in brackets."""
    *tables, key = map(str, place)
    top, inside = _keys(model), model
    for table in tables:
        inside = _table(inside, table) or inside
    if tables and key in top:
        return f"(write it above the first line in square brackets, such as [{tables[0]}])"
    home = next((name for name in top if (inner := _table(model, name)) and key in _keys(inner)), None)
    if not tables and home:
        return f"(write it below the line [{home}])"
    return instead(key, _keys(inside))


def _keys(model: type[BaseModel]) -> list[str]:
    """Return the keys that a user may write."""
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _table(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of a table of ``model``."""
    field = model.model_fields.get(name)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
