"""The option `--plugin`, which every verb takes."""

from __future__ import annotations

from collections.abc import Sequence

from db1.errors import ConfigError


def load_named_plugins(arguments: Sequence[str]) -> list[str]:
    """Loads the suites of `--plugin PLACE`; returns the other arguments.

    Raises:
        ConfigError: For `--plugin` without a place, or a plug-in that fails.
    """
    rest, places = split_plugins(arguments)
    if places:
        from db1.suites.plugins import load_plugins

        load_plugins(places)
    return rest


def split_plugins(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes `--plugin PLACE` and `--plugin=PLACE` out of a command line.

    Returns:
        The other arguments, and the places.

    Raises:
        ConfigError: For `--plugin` without a place.
    """
    rest: list[str] = []
    places: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--plugin":
            place = next(waiting, None)
            if place is None:
                raise ConfigError("--plugin: got nothing, expected a .py file or a module after it")
            places.append(place)
        elif argument.startswith("--plugin="):
            places.append(argument.removeprefix("--plugin="))
        else:
            rest.append(argument)
    return rest, places
