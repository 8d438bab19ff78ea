"""Plays one evaluation episode of a task for somebody who looks on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from db1.evaluation.evaluate import load_model
from db1.evaluation.plan import data_root
from db1.evaluation.settings import EvaluationConfig, as_trained
from db1.evaluation.task import make_agent
from db1.inference.load import locate_model, read_run
from db1.rollout.episode import RolloutPolicy, StopWatching
from db1.rollout.loop import watch
from db1.rollout.policies import ModelPolicy, make_model_free_policy
from db1.suites import parse_task_id
from db1.viewer.displays import Display
from db1.viewer.scene import Scene, Spectator


def play(
    run: Path,
    task_id: str,
    config: EvaluationConfig,
    display: Display,
    *,
    checkpoint: str | None = None,
    data: Path | None = None,
    max_steps: int | None = None,
    device: str | None = None,
) -> Scene | None:
    """Plays the episode that `config.first_episode` names.

    Args:
        run: The run folder.
        task_id: `suite/task`.
        config: Policy, prompt, memory, sampling; as of an evaluation.
        display: Shows the episode.
        checkpoint: Tag; None: the newest valid checkpoint.
        data: Folder of the demonstration stores; None: the run's `data.root`.
        max_steps: Stop after that many steps; None: at the end of the episode.
        device: torch device; None: CUDA where there is one.

    Returns:
        The last scene shown; None when nothing was shown.

    Raises:
        ConfigError, DataError, CheckpointError, MissingExtra: As an evaluation of the task would.
    """
    suite, name = parse_task_id(task_id)
    suite.require(name)
    run, checkpoint = locate_model(run, checkpoint)
    parts = read_run(run)
    config = as_trained(config, parts)
    folder = Path(".") if not config.needs_demonstrations else data_root(parts, data)
    loaded = load_model(run, config, checkpoint, device)
    agent = None
    if loaded is None:
        policy: RolloutPolicy = make_model_free_policy(
            task_id,
            name=config.policy,
            seed=config.seed,
            folder=str(folder / task_id),
            episodes=parts.chosen.get(task_id),
        )
    else:
        agent = make_agent(task_id, config, folder / task_id, loaded, 1)
        policy = ModelPolicy(agent)
    seed = config.seeds[0]
    shown: list[Scene] = []

    def show(scene: Scene) -> None:
        shown[:] = [scene]
        display.show(scene)
        if max_steps is not None and scene.step >= max_steps:
            raise StopWatching

    spectator = Spectator(f"{task_id}   {config.policy}   seed {seed}", show, agent)
    with contextlib.suppress(StopWatching):
        watch(task_id, policy, [seed], spectator)
    return shown[0] if shown else None
