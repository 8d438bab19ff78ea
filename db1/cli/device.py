"""The check of `--device`, of verbs that run a model."""

from __future__ import annotations

from db1.errors import ConfigError


def checked_device(name: str | None) -> str | None:
    """Returns `name` if torch has such a device here.

    Raises:
        ConfigError: For a name that is none, or a device that is not here.
    """
    import torch

    if name is None:
        return None
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device {name}: {reason}; expected cpu, or cuda where torch finds a GPU"
        ) from None
    return name
