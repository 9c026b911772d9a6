"""The configuration reference, written from the configuration classes themselves."""

import inspect
import json
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pinsage.cluster.paper_tables import ReproduceConfig
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.powerlaw_tables import SyntheticConfig
from pinsage.graph.schema import Filter

_HEAD = """\
# Configuration

<!-- Made by `python -m ray_jobs.reference`; change the docstrings of the classes instead. -->

A recipe is a YAML file with the settings below; what it leaves out has the default. On the command
line `--set a.b=value` changes one, its value read as YAML (`--set hard_negatives=null`), and
`--print-config` shows them all as they will be used. A misspelled name is refused, with the nearest
known one. Results depend on the settings and the input files alone; those that only say how and
where work is done change no result, and the stages are found again.

Every section is one class, named beside its heading. *Required* settings have no default.
"""

_PARTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A run", "All jobs and the server read these: `ray_jobs/recipes/`.", RunConfig),
    (
        "Made-up tables",
        "`python -m ray_jobs.synthesize` reads these: `ray_jobs/recipes/graphs/`.",
        SyntheticConfig,
    ),
    (
        "The paper's tables",
        "`python -m ray_jobs.reproduce` reads these: `ray_jobs/recipes/reproduce/`.",
        ReproduceConfig,
    ),
)
_BOUNDS = {Gt: ("gt", "above"), Ge: ("ge", "at least"), Lt: ("lt", "below"), Le: ("le", "at most")}
_WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    type(None): "null",
}


def reference() -> str:
    """Write the whole page, in Markdown."""
    told: dict[type[BaseModel], str] = {}
    lines = [_HEAD]
    for title, about, cls in _PARTS:
        lines += [f"## {title}", "", about, ""]
        lines += _sections(title, "", cls, told)
    return "\n".join(lines).rstrip() + "\n"


def _sections(
    title: str, path: str, cls: type[BaseModel], told: dict[type[BaseModel], str]
) -> Iterator[str]:
    """Tell a class and all those inside it; one that was told before only by where."""
    name = f"`{path}`" if path else f"{title}: settings of its own"
    yield from (f"### {name}", "", f"*{cls.__name__}.* {_joined(inspect.getdoc(cls) or '')}", "")
    if cls in told:
        yield from (f"The same settings, and sections in it, as {told[cls]}.", "")
        return
    told[cls] = name if path else f"those of {title[:1].lower()}{title[1:]}, above"
    yield from _table(cls)
    for setting, field in cls.model_fields.items():
        for inner, suffix in _classes_in(field.annotation):
            yield from _sections(title, f"{path}.{setting}{suffix}".lstrip("."), inner, told)


def _classes_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    if get_origin(annotation) in {tuple, list}:
        suffix = "[]"
    for inner in get_args(annotation):
        yield from _classes_in(inner, suffix)


def _table(cls: type[BaseModel]) -> list[str]:
    rows = [
        _row(setting, field)
        for setting, field in cls.model_fields.items()
        if not list(_classes_in(field.annotation)) or field.description
    ]
    head = ["| setting | type | default | what |", "|---|---|---|---|"]
    return [*head, *rows, ""] if rows else []


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _type(field), _default(field), _joined(field.description or ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    bounds = _bounds(field.metadata)
    return f"{_said(field.annotation)}{', ' if bounds else ''}{bounds}"


def _said(annotation: Any) -> str:
    """Say a type in words.

    >>> _said(int | None), _said(tuple[str, ...]), _said(Literal["exact", "lsh"])
    ('whole number or null', 'list of text', '`exact` or `lsh`')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in {Union, types.UnionType}:
        return " or ".join(dict.fromkeys(_said(one) for one in inner))
    if annotation == Filter:
        return "column, operator, value"
    if origin in {tuple, list}:
        if (len(inner) == 2 and inner[1] is not Ellipsis) or len(inner) > 2:
            return f"list of {len(inner)}: " + ", ".join(_said(one) for one in inner)
        return f"list of {_said(inner[0])}"
    if origin is dict:
        return f"section of {_said(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        bounds = _bounds(annotation.__metadata__)
        return f"{_said(inner[0])}{' ' if bounds else ''}{bounds}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _bounds(metadata: Any) -> str:
    """Say the limits among an annotation's metadata."""
    told = []
    flat = [inner for one in metadata for inner in getattr(one, "metadata", [one])]
    for one in flat:
        if type(one) in _BOUNDS:
            attribute, word = _BOUNDS[type(one)]
            told.append(f"{word} {getattr(one, attribute):,}")
    return " and ".join(told)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "*required*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values()):
        return "see its class"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value, default=str)}`"


def _joined(text: str) -> str:
    """One line of Markdown; the code's double quotes of a docstring stay as they are."""
    return " ".join(text.split())
