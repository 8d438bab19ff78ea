"""One training a run folder: `<run>/lock.json` is held (`db1.processes.lease`) while it lives."""

from __future__ import annotations

from pathlib import Path

from db1.errors import ConfigError
from db1.processes.lease import BEAT_SECONDS, WATCH_SECONDS, Lease

FILE = "lock.json"


class RunLock(Lease):
    """Holds a run folder until `release`, or until this process is gone.

    Args:
        run_folder: The run; is made where it is missing.
        beat_seconds, watch_seconds: As of `Lease`.
    """

    def __init__(
        self,
        run_folder: Path,
        beat_seconds: float = BEAT_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        super().__init__(run_folder / FILE, beat_seconds, watch_seconds)
        self._folder = run_folder

    def acquire(self) -> bool:
        """Takes the run, or refuses.

        Raises:
            ConfigError: Another training of this run is alive; names it.
            WriteError: The folder cannot be written.
        """
        if not super().acquire():
            raise ConfigError(
                f"{self._folder}: this run is being trained already, by {self.holder()}; wait "
                "until it ends, or end it, or give this run another name"
            )
        return True

    def __enter__(self) -> RunLock:
        if not self.is_held:
            self.acquire()
        return self
