"""The mixture of a run as a function of the step: written into its folder.

It changes when a run is resumed under other weights, and between the periods of an adaptive mixture
(`db1.training.adaptive`).

    {"version": 1, "stretches": [
        {"first_step": 0, "shares": {"babyai/GoTo": "3/10", ...}, "parts": {"babyai/GoTo": 3, ...}},
        {"first_step": 500, ...}]}

`shares` are what the configuration asked for; `parts` are the whole numbers that were used, equal
to the shares but for what `at_least_one` raised and for rounding at 2**-53. Both are kept, so that
a later db1 or another length of the run reproduces the same order. An adaptive mixture's phases
also hold `losses`, the held-out losses at their first step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from db1.data.mixture import SampleOrder
from db1.data.weights import at_least_one
from db1.errors import ConfigError, DataError
from db1.files import atomic_write_text
from db1.index.fair import whole_parts
from db1.index.index_cache import IndexCache
from db1.json_shape import parse_json_file

FILE = "mixture.json"
VERSION = 1

Shares = Sequence[tuple[str, Fraction]]


@dataclass(frozen=True, kw_only=True)
class MixturePhase:
    """Steps of constant shares.

    Args:
        first_step: First optimizer step.
        shares: What the configuration asked for, by dataset.
        parts: What is used, by dataset in the same order.
        losses: Held-out losses at the first step, by dataset; None where nothing is adapted.
    """

    first_step: int
    shares: dict[str, Fraction]
    parts: dict[str, int]
    losses: dict[str, float] | None = None

    @property
    def used(self) -> dict[str, float]:
        """Shares that are used."""
        total = sum(self.parts.values())
        return {name: part / total for name, part in self.parts.items()}


@dataclass(frozen=True, kw_only=True)
class MixtureSchedule:
    """Phases of constant shares, the first from step 0, all over the same datasets."""

    phases: tuple[MixturePhase, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets, in the order of the mixture's sources."""
        return tuple(self.phases[0].parts)

    @classmethod
    def plan(cls, shares: Shares, num_samples: int) -> MixtureSchedule:
        """The schedule of a new run.

        Args:
            shares: Result of `resolve_weights`.
            num_samples: Sequences of the run.

        Raises:
            ConfigError: Fewer sequences than datasets.
        """
        return cls(phases=(_phase(0, shares, num_samples),))

    def resumed(self, step: int, shares: Shares, num_samples: int) -> MixtureSchedule:
        """The schedule of a run that goes on at `step` with the shares given now.

        Phases that would have started after `step` are forgotten: the run was set back to a
        step before they were used.

        Args:
            step: First step to come.
            shares: Result of `resolve_weights`.
            num_samples: Sequences from `step` to the end of the run.

        Raises:
            ConfigError: Other datasets than the run's, or fewer sequences than datasets.
        """
        if step == 0:
            return MixtureSchedule.plan(shares, num_samples)
        given = dict(shares)
        if given.keys() != set(self.names):
            odd = sorted(given.keys() ^ set(self.names))
            raise ConfigError(
                f"mixture: the run has other datasets than the configuration ({', '.join(odd)}); "
                "weights may change when a run is resumed, datasets may not: give a weight of 0 to "
                "what is to be left out, or start a new run"
            )
        kept = tuple(s for s in self.phases if s.first_step <= step)
        if kept[-1].shares == given:
            return MixtureSchedule(phases=kept)
        kept = tuple(s for s in kept if s.first_step < step)
        if kept[-1].shares != given:
            ordered = [(name, given[name]) for name in self.names]
            kept += (_phase(step, ordered, num_samples),)
        return MixtureSchedule(phases=kept)

    def kept(self, step: int) -> MixtureSchedule:
        """The phases that start at `step` or before: what a run that goes on there has used."""
        return MixtureSchedule(phases=tuple(s for s in self.phases if s.first_step <= step))

    def adapted(
        self, step: int, shares: Shares, losses: Mapping[str, float], num_samples: int
    ) -> MixtureSchedule:
        """The schedule with new shares from `step` on.

        Args:
            step: First step to come; 0 only enters the losses.
            shares: Of the datasets of this schedule.
            losses: Held-out losses at `step`.
            num_samples: Sequences from `step` to the end of the run.
        """
        earlier = tuple(s for s in self.phases if s.first_step < step)
        phase = _phase(step, shares, num_samples)
        return MixtureSchedule(phases=(*earlier, replace(phase, losses=dict(losses))))

    def order(
        self, num_samples: int, samples_per_step: int, cache: IndexCache | None = None
    ) -> SampleOrder:
        """Order of datasets over the samples of the run."""
        phases = [
            (phase.first_step * samples_per_step, list(phase.parts.values()))
            for phase in self.phases
        ]
        return SampleOrder(phases, num_samples, cache)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "version": VERSION,
            "stretches": [
                {
                    "first_step": phase.first_step,
                    "shares": {name: str(share) for name, share in phase.shares.items()},
                    "parts": phase.parts,
                }
                | ({} if phase.losses is None else {"losses": phase.losses})
                for phase in self.phases
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = FILE) -> MixtureSchedule:
        """Inverse of `to_dict`.

        Raises:
            DataError: Not such a form, or of another version.
        """
        try:
            if data["version"] != VERSION:
                raise DataError(f"{where}: version {data['version']!r}, expected {VERSION}")
            phases = tuple(
                MixturePhase(
                    first_step=int(item["first_step"]),
                    shares={name: Fraction(share) for name, share in item["shares"].items()},
                    parts={name: int(part) for name, part in item["parts"].items()},
                    losses=_losses(item.get("losses")),
                )
                for item in data["stretches"]
            )
            steps = [phase.first_step for phase in phases]
            names = [(tuple(phase.shares), tuple(phase.parts)) for phase in phases]
            if steps[0] != 0 or steps != sorted(set(steps)) or set(names) != {names[0]}:
                raise ValueError(f"phases from the steps {steps}")
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            ArithmeticError,
        ) as error:
            raise DataError(
                f"{where}: not a mixture schedule ({error}); the file is broken, put it back from "
                "a copy or start a new run"
            ) from None
        return cls(phases=phases)

    def save(self, run_folder: Path) -> None:
        """Writes `mixture.json`, whole or not at all."""
        atomic_write_text(run_folder / FILE, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, run_folder: Path) -> MixtureSchedule | None:
        """Reads `mixture.json`; None where there is none.

        Raises:
            DataError: The file is broken.
        """
        path = run_folder / FILE
        if not path.is_file():
            return None
        try:
            return cls.from_dict(parse_json_file(path), str(path))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not readable ({error})") from None


def _losses(given: Mapping[str, Any] | None) -> dict[str, float] | None:
    return None if given is None else {name: float(loss) for name, loss in given.items()}


def _phase(first_step: int, shares: Shares, num_samples: int) -> MixturePhase:
    used = at_least_one(shares, num_samples)
    parts = whole_parts([share for _, share in used])
    names = [name for name, _ in shares]
    return MixturePhase(
        first_step=first_step,
        shares=dict(shares),
        parts=dict(zip(names, parts.tolist(), strict=True)),
    )
