"""`Config`: frozen and strict; loaded from YAML, changed by overrides, dumped as YAML again."""

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from pinsage.base.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound="Config")

_MERGE = "tag:yaml.org,2002:merge"
"""The tag of `<<`, which may stand several times."""

_FORM = re.compile(r"constrained-\w+|[\w-]+\[.*\]")
"""What pydantic calls one of several forms that a setting may have."""

_LIST = "wanted a list, as in [a, b]"

_WANTED = {
    "missing": "missing, and has no default",
    "model_type": "wanted a section of settings, `name: value`; leave out one that has none",
    "dict_type": "wanted a section of settings, `name: value`",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "path_type": "wanted a path",
    "string_type": "wanted text; put it in quotes if it is a number, a date, yes or no",
}
"""What was wanted, where pydantic says it in words of its own."""


class Config(BaseModel):
    """The base of every configuration class: frozen, and strict about spelling."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` where 1 would be taken for it."""
        if isinstance(value, bool) and info.field_name is not None:
            parts = _parts(cls.model_fields[info.field_name].annotation)
            kinds = {part for part in parts if isinstance(part, type)}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("wanted a number")
        return value


def _parts(annotation: Any) -> Iterator[Any]:
    """List all that an annotation is made of: types, and what is said of them."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


class _Loader(yaml.SafeLoader):
    """YAML without names that stand twice in one section, of which it would keep the last alone."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.Mark] = {}
        for name, _ in node.value:
            if name.value in first and name.tag != _MERGE:
                raise yaml.MarkedYAMLError(
                    f"{name.value} stands twice in one section, first",
                    first[name.value],
                    "and again",
                    name.start_mark,
                    "put what both say into one",
                )
            if isinstance(name, yaml.ScalarNode):
                first[name.value] = name.start_mark
        return node


def load_config(cls: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a YAML file, apply `a.b=value` overrides, and check the result.

    Args:
        cls: the configuration class the file describes.
        path: the YAML file.
        overrides: settings such as `train.schedule.epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: the file is missing or not YAML, or a setting is unknown or out of range.
    """
    try:
        tree = _read_yaml(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file; wanted settings in YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: wanted settings as `name: value`, found {type(tree).__name__}")
    for override in overrides:
        apply_override(tree, override)
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(cls, error, str(path))) from error


def _read_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        YAMLError: it is none, or says something twice.
        ValueError: it has a date that the calendar has not.
    """
    return yaml.load(text, _Loader)


def add_recipe_flags(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--config FILE` and `--set a.b=value`, the same for every command.

    Args:
        parser: it gives `config`, a path or None, and `overrides`, a list, for `load_config`.
        required: whether the command needs a recipe.
    """
    told = "a YAML recipe" if required else "a YAML recipe; else the defaults"
    parser.add_argument("--config", type=Path, required=required, metavar="FILE", help=told)
    add_set_flag(parser)


def add_set_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--set a.b=value` alone, for a command that finds its recipe in its own way."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="a.b=value",
        help="change one setting, as in --set output=runs/other; may be given many times",
    )


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in a tree of settings, in place.

    >>> tree = {"train": {"epochs": 3}}
    >>> apply_override(tree, "train.epochs=5")
    >>> tree
    {'train': {'epochs': 5}}

    Raises:
        ConfigError: the override is not of the form `a.b=value`.
    """
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(
            f"--set {override}: wanted a.b=value, as in --set train.schedule.epochs=3"
        )
    try:
        value = _read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from error
    *parents, last = name.strip().split(".")
    node: Any = tree
    for parent in parents:
        node = _inside(node, parent, override)
    if isinstance(node, dict):
        node[last] = value
    else:
        _inside(node, last, override)
        node[int(last)] = value


def _inside(node: Any, name: str, override: str) -> Any:
    """Step into a section by name, or into a list by place, counted from 0."""
    if isinstance(node, dict):
        child = node.get(name)
        if child is None:
            child = node[name] = {}
        return child
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    if isinstance(node, list):
        raise ConfigError(f"--set {override}: {name} is no place in a list of {len(node)}")
    raise ConfigError(f"--set {override}: what holds {name} is a single value, not a section")


def dump_config(config: Config) -> str:
    """Write a configuration as YAML that `load_config` reads back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def explain(cls: type[Config], error: ValidationError, source: str) -> str:
    """One line a finding: where, what was found, and the nearest known name if one is near.

    Args:
        cls: what was validated.
        error: what was found.
        source: where the settings come from.
    """
    findings = error.errors()
    # A list is told to be too short where one of its places was refused, and was told of already.
    inside = {found["loc"][:end] for found in findings for end in range(len(found["loc"]))}
    lines = [
        _line(cls, found)
        for found in findings
        if found["type"] != "too_short" or found["loc"] not in inside
    ]
    return "\n".join([f"{source}: {len(lines)} setting(s) cannot be used", *lines])


def _line(cls: type[Config], found: ErrorDetails) -> str:
    where = ".".join(str(part) for part in found["loc"] if not _FORM.fullmatch(str(part)))
    message = _WANTED.get(found["type"], found["msg"].replace("Tuple", "List", 1))
    if found["type"] == "extra_forbidden":
        message = "no such setting" + _suggest(cls, found["loc"])
    elif found["type"] == "value_error":
        # Of settings together; what was found is all of them.
        message = str(found["ctx"]["error"])
        if not isinstance(found["input"], dict) and not _is_secret(found):
            message += f" (found {found['input']!r})"
    elif found["type"] != "missing":
        message += f" (found {found['input']!r})"
    return f"  {where}: {message}" if where else f"  {message}"


def _is_secret(found: ErrorDetails) -> bool:
    """Tell whether what was found may hold a password."""
    return "credentials" in found["msg"]


def _suggest(cls: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The known names beside an unknown one."""
    known: type[BaseModel] | None = cls
    for part in location[:-1]:
        if known is None or isinstance(part, int) or part not in known.model_fields:
            continue
        known = _section_class(known.model_fields[part].annotation)
    if known is None:
        return ""
    names = list(known.model_fields)
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(names)}"


def _section_class(annotation: Any) -> type[BaseModel] | None:
    """The configuration class inside an annotation such as `list[Edges]` or `Pairs | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_class, get_args(annotation))), None)
