"""YAML + dotted overrides -> frozen dataclasses, strictly.

Every part of db1 keeps a frozen, keyword-only dataclass beside the class it configures; this
module only reads YAML (through OmegaConf, so `${key}` interpolation works) and builds such a
dataclass from it. An unknown key or a wrong type is a ConfigError that names the nearest key.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from db1.errors import ConfigError, nearest
from db1.ranges import RangeError

T = TypeVar("T")


def load_yaml(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a YAML file and applies dotted overrides.

    Args:
        path: The YAML file; its top level must be a mapping.
        overrides: Strings such as `training.learning_rate=1e-3`; a key that the YAML lacks is
            added here and checked by `build`.

    Returns:
        Plain nested dicts and lists with interpolations resolved.

    Raises:
        ConfigError: When the file is missing, is no YAML mapping, or an override has no `=`.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file; `ls configs/` lists those shipped")
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r}: expected key=value")
    try:
        loaded = OmegaConf.load(path)
        if not OmegaConf.is_dict(loaded):
            raise ConfigError(f"{path}: top level is a {type(loaded).__name__}, expected a mapping")
        config = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


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
    for key in data:
        if key not in fields:
            raise ConfigError(
                f"unknown key {_join(where, key)!r}, expected one of {sorted(fields)}"
                f"{nearest(str(key), fields)}"
            )
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
    if hint is Path and isinstance(value, str):
        return Path(value)
    right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    if not right:
        raise ConfigError(
            f"{where}: got {value!r} ({type(value).__name__}), expected {hint.__name__}"
        )
    return value
