"""YAML + dotted overrides -> frozen dataclasses, strictly.

Every part of db1 keeps a frozen, keyword-only dataclass beside the class it configures; this
module only reads YAML (through OmegaConf, so `${key}` interpolation works) and builds such a
dataclass from it. An unknown key or a wrong type is a ConfigError that names the nearest key.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from db1.errors import ConfigError, nearest
from db1.ranges import RangeError

T = TypeVar("T")
MAX_NODES = 1_000_000
"""Keys and values of a YAML file with all its aliases written out."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)
_COMMENT = re.compile(r"(^|\s)#")


def load_yaml(
    path: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    shapes: Sequence[type] = (),
    *,
    is_own: bool,
) -> dict[str, Any]:
    """Reads a YAML file and applies dotted overrides.

    Args:
        path: The YAML file, whose top level must be a mapping; or that mapping itself.
        overrides: Strings such as `training.learning_rate=1e-3`; a key that the YAML lacks is
            added here and checked by `build`.
        shapes: Dataclasses that the mapping is for. Where a field of theirs is a text or a path,
            an override is taken as it is typed: `name=try #1`, `name=2024_01_05`.
        is_own: The user's own file. In one that others may have written (that of a run)
            `${oc.env:NAME}` and its like, which read the environment, are refused.

    Returns:
        Plain nested dicts and lists with interpolations resolved.

    Raises:
        ConfigError: When the file is missing, is no YAML mapping, or an override has no `=`; for
            a resolver where the file is not the user's own.
    """
    if not isinstance(path, Mapping) and Path(path).is_dir():
        raise ConfigError(f"{path}: is a folder, expected a YAML file")
    if not isinstance(path, Mapping) and not Path(path).is_file():
        raise ConfigError(f"{path}: no such configuration file; `ls configs/` lists those shipped")
    where = "configuration" if isinstance(path, Mapping) else path
    given = OmegaConf.create()
    for override in overrides:
        _set(given, override, shapes)
    try:
        loaded = _loaded(path)
        if not OmegaConf.is_dict(loaded):
            kind = type(loaded).__name__
            raise ConfigError(f"{where}: top level is a {kind}, expected a mapping")
        if not is_own:
            _refuse_resolvers(OmegaConf.to_container(loaded, resolve=False), where)
        config = OmegaConf.merge(loaded, given)
        return OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error


def _refuse_resolvers(value: Any, where: Any) -> None:
    """Raises ConfigError for a text that would be replaced by what a function returns."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_resolvers(key, where)
            _refuse_resolvers(part, where)
    elif isinstance(value, list):
        for part in value:
            _refuse_resolvers(part, where)
    elif isinstance(value, str) and _RESOLVER.search(value):
        raise ConfigError(
            f"{where}: {value[:80]!r} would be computed from the environment of this machine, "
            "which is refused in a file that others may have written; write the value there"
        )


def _loaded(path: Path | str | Mapping[str, Any]) -> Any:
    """OmegaConf's tree of a file, or of a mapping."""
    if isinstance(path, Mapping):
        return OmegaConf.create(to_dict(path))
    _check_size(Path(path))
    return OmegaConf.load(path)


def _set(config: Any, override: str, shapes: Sequence[type]) -> None:
    """Enters one override `key=value`.

    Raises:
        ConfigError: It has no `=`, no key, or a value that YAML cannot read or would cut off.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip(". "):
        raise ConfigError(f"override {override!r}: expected key=value")
    try:
        override.encode()
        if _is_as_typed(text.strip(), _hint_at(key, shapes)):
            OmegaConf.update(config, key, text.strip())
        else:
            config.merge_with_dotlist([override])
    except UnicodeEncodeError:
        raise ConfigError(f"override {override!r}: not valid Unicode") from None
    except ConfigError as error:
        raise ConfigError(f"override {override!r}: {error}") from error
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"override {override!r}: {reason or type(error).__name__}") from error


def _is_as_typed(text: str, hint: Any) -> bool:
    """Tells whether a value is a text as it stands; else YAML decides what it is.

    Raises:
        ConfigError: YAML would cut it off.
    """
    is_union = typing.get_origin(hint) in (Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    kinds = [kind for kind in options if kind is not type(None)]
    is_optional = type(None) in options
    if kinds[0] in (str, Path) and not text.startswith(("'", '"')):
        if not (is_optional and text in ("null", "~", "")):
            return True
    elif _COMMENT.search(_QUOTED.sub("", text)):
        raise ConfigError("' #' begins a comment, which would cut the value off; put it in quotes")
    return False


def _hint_at(key: str, shapes: Sequence[type]) -> Any:
    """The type of a dotted key in the first of the dataclasses that has it; None: in none."""
    for shape in shapes:
        hint: Any = shape
        for part in key.split("."):
            hint = _hint_inside(hint, part)
        if hint is not None:
            return hint
    return None


def _hint_inside(hint: Any, part: str) -> Any:
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if dataclasses.is_dataclass(hint):
        return typing.get_type_hints(hint).get(part)
    if typing.get_origin(hint) in (dict, Mapping):
        return typing.get_args(hint)[1]
    return None


def _check_size(path: Path) -> None:
    """Refuses a file whose aliases stand for far more than is written, or for themselves.

    Raises:
        ConfigError: Such a file.
        YAMLError: No YAML.
    """
    with open(path, encoding="utf-8") as file:
        root = yaml.compose(file, Loader=yaml.SafeLoader)
    sizes: dict[int, int | None] = {}

    def size(node: Any) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise ConfigError(f"{path}: an alias to a node that contains it")
        if known:
            return known
        sizes[id(node)] = None
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        total = 1
        for part in parts:
            total += sum(map(size, part)) if isinstance(part, tuple) else size(part)
        if total > MAX_NODES:
            raise ConfigError(f"{path}: more than {MAX_NODES:,} keys and values, with its aliases")
        sizes[id(node)] = total
        return total

    if root is not None:
        size(root)


def save_yaml(data: Mapping[str, Any]) -> str:
    """Returns `data` as YAML text that `load_yaml` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(data)))


def to_dict(config: Any) -> Any:
    """Dataclasses (nested) -> plain dicts and lists that YAML and JSON can hold."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def check_names(cls: type[Any], names: Iterable[str], where: str = "") -> None:
    """Raises ConfigError for a name that is no field of the dataclass `cls`; names the nearest."""
    fields = [field.name for field in dataclasses.fields(cls)]
    for name in names:
        if name not in fields:
            raise ConfigError(
                f"unknown key {_join(where, name)!r}, expected one of {sorted(fields)}"
                f"{nearest(str(name), fields)}"
            )


def build(cls: type[T], data: Mapping[str, Any] | None, where: str = "") -> T:
    """Builds the dataclass `cls` from a mapping; missing keys take the class's defaults.

    Args:
        cls: A dataclass; its fields may be numbers, strings, booleans, optional values,
            tuples, dicts and other dataclasses.
        data: Values by field name; None means no values.
        where: Dotted place of `data` in the configuration, for messages.

    Raises:
        ConfigError: For an unknown key (names the nearest), a missing one, or a wrong type.
    """
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'configuration'}: got {data!r}, expected a mapping of keys")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    check_names(cls, data, where)
    values = {key: _convert(hints[key], value, _join(where, key)) for key, value in data.items()}
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING
        if name not in values and no_default and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(where, name)}: missing, and it has no default")
    try:
        return cls(**values)
    except RangeError as error:
        raise RangeError(f"{where}.{error}" if where else str(error)) from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [argument for argument in arguments if argument is not type(None)]
        return _convert(options[0], value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: got {value!r}, expected a list")
        return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: got {value!r}, expected a mapping")
        return {str(k): _convert(arguments[1], v, _join(where, k)) for k, v in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-4 (no dot) as text
            return float(value)
        except ValueError:
            pass
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{where}: got {value!r}, expected a text without NUL characters")
    if hint is Path and isinstance(value, str):
        if not value:
            raise ConfigError(f"{where}: got an empty path")
        return Path(value)
    right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    if not right:
        raise ConfigError(
            f"{where}: got {value!r} ({type(value).__name__}), expected {hint.__name__}"
        )
    return value
