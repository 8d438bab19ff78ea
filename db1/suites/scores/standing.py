"""Standing of a task's offline expert: one rule, said by name.

An expert *reaches* when one of these holds, tried in this order:

    success    it was measured here on at least 5 reference seeds, succeeded in every episode, and
               gave up none (tasks that tell success)
    exact      it is the optimum by construction (`EXACT`)
    bound      its measured return is at least 80 % of the way from random to the most that the task
               can pay at all (`largest_return`), which no reference exceeds:
               (expert - random) / (bound - random), random as it was measured here
    published  the same against the best published reference

The published references are taken together: the one that asks most decides. Where it was got in
another environment version or under other rules it carries a star, as everywhere.

    bounds.json    {"atari/Boxing": {"return": 100.0, "why": "a hundred punches end the game"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from db1.suites.scores.reference import MEASURED, Reference

ENOUGH = 0.8
"""Share of the way from random to a reference that counts as reaching it."""
FEWEST_EPISODES = 5
"""Episodes that a success rate must rest on."""
RULES = ("success", "exact", "bound", "published")
BOUNDS = Path(__file__).parent / "bounds.json"
EXACT = {"dmc_lqr": "the regulator that solves the Riccati equation of its linear task"}
"""Experts that are optimal by construction, and why."""
_STEPS_DMC = 1000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Knowledge about a task's expert.

    Args:
        rule: The first of `RULES` that it fulfils; where it fulfils none the last one that gives a
            number; None where nothing is known.
        value: Success rate, or share of the way from random to the reference or the bound.
        reference: Name of the published reference; None under the other rules.
        comparable: Whether that reference is of the same environment version and rules.
        reached: Whether the rule is fulfilled.
        episodes: Episodes that the expert was measured on here; 0 for none.
    """

    rule: str | None = None
    value: float | None = None
    reference: str | None = None
    comparable: bool | None = None
    reached: bool = False
    episodes: int = 0

    def __str__(self) -> str:
        """`success 1.00`, `0.93 of db1*`, `0.97 of the most possible`, `optimal`."""
        if self.rule is None:
            return "nothing to compare with" if self.episodes else "not measured"
        if self.rule == "exact":
            return "optimal"
        if self.rule == "success":
            few = f" in only {self.episodes} episodes" if self.episodes < FEWEST_EPISODES else ""
            return f"success {self.value:.2f}{few}"
        if self.rule == "bound":
            return f"{self.value:.2f} of the most possible"
        return f"{self.value:.2f} of {self.reference}{'' if self.comparable else '*'}"

    def to_dict(self) -> dict[str, Any]:
        """Entry of `db1 tasks --json`."""
        names = ("rule", "value", "reference", "comparable", "reached", "episodes")
        return {name: getattr(self, name) for name in names}


def standing_of(task_id: str, expert: str, references: Mapping[str, Reference]) -> Standing:
    """Judges the expert of a task by the rule above.

    Args:
        task_id: `suite/task`.
        expert: Name of its expert.
        references: `references_of(task_id)`; of the measured one only that of the installed
            version counts, and only where this very expert was measured.
    """
    here = references.get(MEASURED)
    measurement = here.details.get("expert") if here is not None and here.comparable else None
    if here is None or measurement is None or measurement.get("policy") != expert:
        return Standing()
    known = list(_judgements(task_id, expert, here, measurement, references))
    for standing in known:
        if standing.reached:
            return standing
    return known[-1] if known else Standing(episodes=measurement["episodes"])


def largest_return(task_id: str) -> float | None:
    """Returns a bound that no policy's return exceeds; None where none is known."""
    if task_id.startswith("dmc/"):
        return float(_STEPS_DMC)  # at most 1 a step
    entry = _bounds().get(task_id)
    return None if entry is None else float(entry["return"])


def _judgements(
    task_id: str,
    expert: str,
    here: Reference,
    measurement: Mapping[str, Any],
    references: Mapping[str, Reference],
) -> Iterator[Standing]:
    """One standing for every rule that applies, in the order of `RULES`."""
    episodes, rate = int(measurement["episodes"]), measurement.get("success_rate")
    if rate is not None:
        sure = rate == 1.0 and episodes >= FEWEST_EPISODES and not measurement.get("given_up")
        yield Standing(rule="success", value=rate, reached=sure, episodes=episodes)
    if expert in EXACT:
        yield Standing(rule="exact", reached=True, episodes=episodes)
    share = _share(here, largest_return(task_id), None)
    if share is not None:
        yield Standing(rule="bound", value=share, reached=share >= ENOUGH, episodes=episodes)
    others = [reference for name, reference in references.items() if name != MEASURED]
    shares = [(_share(here, other.best, other.random), other) for other in others]
    published = [(share, other) for share, other in shares if share is not None]
    if published:
        share, reference = min(published, key=lambda pair: pair[0])
        yield Standing(
            rule="published",
            value=share,
            reference=reference.name,
            comparable=reference.comparable,
            reached=share >= ENOUGH,
            episodes=episodes,
        )


def _share(here: Reference, goal: float | None, its_random: float | None) -> float | None:
    """Returns how far of the way from random to the goal the expert comes; None without a way."""
    low = here.random if here.random is not None else its_random
    if goal is None or low is None or here.expert is None or goal <= low:
        return None
    return (here.expert - low) / (goal - low)


@cache
def _bounds() -> dict[str, Any]:
    return json.loads(BOUNDS.read_text(encoding="utf-8"))
