"""Name -> factory. Every table of interchangeable parts in db1 is one `Registry`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from db1.errors import ConfigError, nearest

T = TypeVar("T")

_NOTED: ContextVar[list[str] | None] = ContextVar("registrations", default=None)


@contextmanager
def registrations() -> Iterator[list[str]]:
    """Notes what is registered inside, in whatever registry: `suite 'lamps'`, ..."""
    noted: list[str] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


class Registry(Generic[T]):
    """A named table that refuses duplicates and names near matches for an unknown key.

    Example:
        >>> shapes = Registry("shape")
        >>> shapes.register("square")(lambda side: side * side)(3)
        9
        >>> shapes["square"](4)
        16
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._own: dict[str, T] = {}
        self._prepare: Callable[[], None] | None = None

    def before_use(self, prepare: Callable[[], None]) -> None:
        """Has `prepare` called once, before anything is looked up: it may register more."""
        self._prepare = prepare

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that enters its argument under `name`."""

        def enter(entry: T) -> T:
            if name in self._own:
                raise ConfigError(f"{self.what} {name!r} is registered twice")
            self._own[name] = entry
            if (noted := _NOTED.get()) is not None:
                noted.append(f"{self.what} {name!r}")
            return entry

        return enter

    @property
    def _entries(self) -> dict[str, T]:
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            prepare()
        return self._own

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise ConfigError(
                f"unknown {self.what} {name!r}, expected one of {sorted(self._entries)}"
                f"{nearest(name, self._entries)}"
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
