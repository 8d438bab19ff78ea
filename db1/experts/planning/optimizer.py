"""Sampling planner: noisy copies of a plan are tried, the better ones weigh more in the next plan.

    plan (T, nu) --shift by the steps executed--> mean
    mean + noise drawn at a few knots, linear in between  --try out-->  scores (S,)
    mean <- softmax(scores) over the best ones;  the best sequence is kept and tried again

Sources: MPPI (Williams et al. 2017) for the weights; predictive sampling (Howell et al. 2022) for
knots, and for executing the best sequence; iCEM (Pinneri et al. 2020) for elites kept over time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]
"""Action sequences (S, T, nu) -> what each is worth (S,)."""


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """Settings of the planner for one task.

    Args:
        horizon: Control steps that a plan looks ahead.
        knot_steps: Control steps between two knots of the noise.
        samples: Sequences tried an iteration.
        iterations: Rounds of trying a planning step.
        noise: Standard deviation of the noise, in actions from -1 to 1.
        quiet_share: Share of sequences whose noise is scaled down to between 0.1 and 1.
        elites: Best sequences that make the next mean; the best few are tried again.
        temperature: Of the weights, in standard deviations of the elites' scores.
        replan_steps: Control steps executed of a plan before the next is made.
        fresh_start: Iterations of an episode's first planning step.
        coarse: Physics steps of the environment that the planner simulates as one.
        euler: Whether the planner simulates Euler steps in place of Runge-Kutta steps.
    """

    horizon: int = 30
    knot_steps: int = 4
    samples: int = 48
    iterations: int = 1
    noise: float = 0.5
    quiet_share: float = 0.5
    elites: int = 8
    temperature: float = 1.0
    replan_steps: int = 1
    fresh_start: int = 4
    coarse: int = 1
    euler: bool = False


KEPT = 3
"""Elites tried again in the next round."""


class Optimizer:
    """A plan that is improved a little before every step.

    Args:
        settings: How to plan.
        action_dim: Numbers of an action.
        rng: Draws the noise; the plan is a function of its state and of the scores.
    """

    def __init__(
        self, settings: PlannerSettings, action_dim: int, rng: np.random.Generator
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._basis = _interpolation(settings.horizon, settings.knot_steps)
        self._mean = np.zeros((settings.horizon, action_dim))
        self._kept = np.zeros((0, settings.horizon, action_dim))
        self._started = False

    def shift(self, steps: int) -> None:
        """Drops what has been executed; the last action is repeated at the end."""
        self._mean = _shifted(self._mean[None], steps)[0]
        self._kept = _shifted(self._kept, steps)

    def improve(self, score: Score) -> np.ndarray:
        """Returns the best sequence found, (horizon, nu)."""
        rounds = self._settings.iterations if self._started else self._settings.fresh_start
        self._started = True
        for _ in range(rounds):
            self._improve_once(score)
        return self._kept[0]

    def _improve_once(self, score: Score) -> None:
        settings = self._settings
        tried = self._candidates()
        scores = np.nan_to_num(score(tried), nan=-np.inf, posinf=-np.inf)
        order = np.argsort(-scores, kind="stable")[: settings.elites]
        elites, worth = tried[order], np.maximum(scores[order], -1e12)
        weights = np.exp((worth - worth[0]) / (settings.temperature * worth.std() + 1e-12))
        self._mean = np.tensordot(weights / weights.sum(), elites, axes=1)
        self._kept = elites[:KEPT]

    def _candidates(self) -> np.ndarray:
        settings = self._settings
        fresh = settings.samples - 1 - len(self._kept)
        noise = self._rng.normal(
            0.0, settings.noise, (fresh, self._basis.shape[1], self._mean.shape[1])
        )
        quiet = round(settings.quiet_share * fresh)
        noise[:quiet] *= np.geomspace(0.1, 1.0, quiet)[:, None, None]
        drawn = np.clip(self._mean + np.einsum("tk,skn->stn", self._basis, noise), -1.0, 1.0)
        return np.concatenate([self._mean[None], self._kept, drawn])


def _interpolation(steps: int, knot_steps: int) -> np.ndarray:
    """Returns (steps, knots): the weights of the knots in each step, linear between them."""
    knots = np.arange(0, steps - 1 + knot_steps, knot_steps)
    distance = np.abs(np.arange(steps)[:, None] - knots) / knot_steps
    return np.maximum(0.0, 1.0 - distance)


def _shifted(sequences: np.ndarray, steps: int) -> np.ndarray:
    steps = min(steps, sequences.shape[1])
    return np.concatenate(
        [sequences[:, steps:], np.repeat(sequences[:, -1:], steps, axis=1)], axis=1
    )
