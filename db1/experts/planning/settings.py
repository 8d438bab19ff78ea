"""Settings of the planner for every task: one table.

Tuned by hand on episodes of 150 to 1,000 steps, the first ones with the first two reference seeds,
later ones with collection seeds. Two things pay everywhere: a simulator that takes fewer, longer
physics steps (`coarse`, `euler`), since the plan is made again
before its errors matter, and a horizon just long enough for one stride or swing.
"""

from __future__ import annotations

from db1.experts.planning.optimizer import PlannerSettings

DEFAULT = PlannerSettings()
SETTINGS: dict[str, PlannerSettings] = {
    "dmc/cheetah": PlannerSettings(horizon=60, replan_steps=2, samples=48),
    "dmc/walker-run": PlannerSettings(coarse=2, horizon=25, knot_steps=3, samples=56, noise=0.7),
    "dmc/walker": PlannerSettings(coarse=2, samples=40, replan_steps=2, quiet_share=0.8),
    "dmc/hopper": PlannerSettings(
        coarse=2,
        horizon=50,
        knot_steps=10,
        samples=64,
        noise=1.0,
        quiet_share=0.7,
        replan_steps=2,
    ),
    "dmc/fish": PlannerSettings(
        coarse=5, horizon=40, knot_steps=8, samples=40, noise=1.0, replan_steps=2
    ),
    "dmc/swimmer": PlannerSettings(
        coarse=5, horizon=60, knot_steps=8, samples=40, noise=1.0, replan_steps=2
    ),
    "dmc/ball_in_cup-catch": PlannerSettings(
        coarse=2, horizon=45, knot_steps=7, samples=40, noise=0.9, replan_steps=2
    ),
    "dmc/quadruped": PlannerSettings(coarse=2, samples=32, replan_steps=2),
    "dmc/humanoid": PlannerSettings(replan_steps=2),
    "dmc/acrobot": PlannerSettings(euler=True, horizon=120, knot_steps=15, replan_steps=4),
    "dmc/cartpole": PlannerSettings(
        euler=True, horizon=100, knot_steps=8, quiet_share=0.85, replan_steps=2
    ),
    "dmc/pendulum": PlannerSettings(horizon=50, knot_steps=6, replan_steps=2),
    "dmc/point_mass-easy": PlannerSettings(samples=32, horizon=40, replan_steps=2),
    "dmc/point_mass-hard": PlannerSettings(samples=32, horizon=40, replan_steps=2),
    "dmc/reacher": PlannerSettings(samples=32, horizon=40, replan_steps=2),
    "dmc/finger-spin": PlannerSettings(
        horizon=20, knot_steps=3, samples=128, noise=1.2, quiet_share=0.3
    ),
    "dmc/finger": PlannerSettings(replan_steps=2),
    "mujoco/HalfCheetah": PlannerSettings(horizon=30, knot_steps=2),
    "mujoco/Hopper": PlannerSettings(
        euler=True, coarse=2, horizon=80, knot_steps=8, samples=40, replan_steps=2
    ),
    "mujoco/Walker2d": PlannerSettings(
        euler=True, coarse=2, horizon=60, knot_steps=6, samples=40, replan_steps=2
    ),
    "mujoco/Ant": PlannerSettings(euler=True, horizon=20, knot_steps=3, samples=40),
    "mujoco/Swimmer": PlannerSettings(
        euler=True, horizon=60, knot_steps=8, samples=32, noise=0.8, replan_steps=2
    ),
    "mujoco/InvertedPendulum": PlannerSettings(
        euler=True, horizon=50, samples=40, noise=0.3, quiet_share=0.9
    ),
    "mujoco/HumanoidStandup": PlannerSettings(euler=True, horizon=20, samples=24, replan_steps=2),
    "mujoco/InvertedDoublePendulum": PlannerSettings(
        euler=True, horizon=20, knot_steps=2, quiet_share=0.9, samples=48
    ),
    "modular_rl/cheetah": PlannerSettings(horizon=30, knot_steps=3, samples=48, noise=0.9),
    "modular_rl/walker": PlannerSettings(
        euler=True, coarse=2, horizon=60, knot_steps=6, samples=40, replan_steps=2
    ),
    "modular_rl/hopper": PlannerSettings(
        euler=True, coarse=2, horizon=80, knot_steps=8, samples=40, replan_steps=2
    ),
    "modular_rl/humanoid": PlannerSettings(
        euler=True, coarse=2, horizon=60, knot_steps=6, samples=40, replan_steps=2
    ),
}


def settings_of(task_id: str) -> PlannerSettings:
    """Returns the settings of a task, else of its domain (up to `-` or `_`), else the default."""
    suite, name = task_id.removesuffix("-pixels").split("/")
    domain = name.replace("-", "_").split("_")[0]
    for key in (f"{suite}/{name}", f"{suite}/{domain}"):
        if key in SETTINGS:
            return SETTINGS[key]
    return DEFAULT
