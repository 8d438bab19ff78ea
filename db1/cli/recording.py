"""`db1 play --record`: a person plays, and the episodes are stored."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from db1.cli.keyboard import Keyboard, describe, raw_keys
from db1.collection.person import Ask, record_person
from db1.errors import ConfigError
from db1.suites import TaskEnv, make_env
from db1.suites.base import Observation
from db1.tokens.spec import Episode

_SHOWN = ("terminal", "lines", None)


def record_episodes(task: str, out: Path, episodes: int, show: str | None) -> None:
    """Lets a person play episodes of a task and stores them.

    Args:
        task: `suite/task`.
        out: Folder of the stores.
        episodes: The most to play.
        show: `terminal`, `lines`, or None for what is possible.

    Raises:
        ConfigError: For another way to show it, or actions that cannot be keyed.
    """
    if show not in _SHOWN:
        raise ConfigError(f"--show: got {show!r}, expected terminal or lines with --record")
    console = Console()
    env = make_env(task)
    try:
        with raw_keys() as read_key:
            keyboard = Keyboard(env, read_key, typer.echo)
            typer.echo(f"keys: {describe(keyboard.actions, env)}")
            pictures = console.is_terminal if show is None else show == "terminal"
            ask = _with_pictures(keyboard, console) if pictures else _with_lines(keyboard)
            summary = record_person(task, episodes, out, ask, on_episode=_tell)
    finally:
        env.close()
    typer.echo(f"{summary.new_episodes} episodes added, {summary.episodes} in {summary.path}")


def _tell(episode: Episode) -> None:
    won = "" if episode.success is None else ", succeeded" if episode.success else ", no success"
    typer.echo(f"episode of {len(episode)} steps, return {episode.total_reward:.6g}{won}")


def _with_lines(keyboard: Keyboard) -> Ask:
    """Shows each observation's texts and numbers in a line."""

    def ask(env: TaskEnv, observation: Observation) -> object:
        shown = [
            f"{key} {value if isinstance(value, str) else value.ravel()[:8].tolist()}"
            for key, value in observation.items()
            if env.step_spec.observation[key].kind != "image"
        ]
        typer.echo(f"step {env.num_steps}: {'; '.join(shown)}")
        return keyboard.choose(env, observation)

    return ask


def _with_pictures(keyboard: Keyboard, console: Console) -> Ask:
    """Draws each state in the terminal."""
    from db1.inspection.pictures import half_blocks
    from db1.viewer.picture import Painter

    painter = Painter()

    def ask(env: TaskEnv, observation: Observation) -> object:
        console.clear()
        width = max(16, min(console.width - 2, 2 * (console.height - 6)))
        for line in half_blocks(painter.picture(env, observation), width):
            console.print(line)
        for key, field in env.step_spec.observation.items():
            if field.kind == "text":
                console.print(f"{key}: {observation[key]}", markup=False)
        console.print(
            f"step {env.num_steps}   keys: {describe(keyboard.actions, env)}", markup=False
        )
        return keyboard.choose(env, observation)

    return ask
