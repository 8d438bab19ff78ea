"""The terminal that verbs print to."""

from __future__ import annotations

from typing import Any

import rich.console


class Console(rich.console.Console):
    """Rich's console that shows text as it is: a name such as `db1[atari]` is no style.

    Args:
        options: Of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, **options})
