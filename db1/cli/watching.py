"""Verbs that show episodes: `db1 record`, `db1 play`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from db1.cli.console import Console
from db1.cli.device import checked_device
from db1.cli.model_argument import Run, Weights
from db1.cli.options import Of, from_dataclasses
from db1.cli.progress import running_bars
from db1.errors import check_one_of
from db1.evaluation.execution import TaskSelection
from db1.evaluation.settings import EvaluationConfig
from db1.options import option
from db1.ranges import Checked, Count, Natural, Range
from db1.runtime import draw_off_screen, has_display
from db1.viewer.film import FilmConfig

_SHOWN = ("window", "terminal", "lines", "nothing")
_SETTINGS = (
    "policy",
    "greedy",
    "temperature",
    "seed",
    "prompt",
    "memory_length",
    "instruction",
    "random_weights",
)
"""Fields of `EvaluationConfig` that mean something to one episode."""


@dataclass(frozen=True, kw_only=True)
class RecordOptions(Checked):
    """Options of `db1 record` beside those of the films themselves."""

    per_suite: Count | None = option(
        None, "Most tasks per suite, spread from its best to its worst."
    )
    run: Path | None = option(None, "Run folder, if it was moved.")
    data: Path | None = option(None, "Folder of demonstrations for prompts; default: the run's.")
    overwrite: bool = option(False, "Film again what was filmed before.", two_way=True)


@from_dataclasses
def record(
    folder: Annotated[Path, typer.Argument(help="Folder with results.json.")],
    selection: Annotated[TaskSelection, Of(TaskSelection, "tasks", "suites")],
    film: FilmConfig,
    weights: Annotated[Weights, Of(Weights, "device")],
    wanted: RecordOptions,
) -> None:
    """Films the best, median and worst episode of each evaluated task, for the report.

    The episodes are run again from their seeds, and their returns compared with results.json. What
    is filmed already is kept: the same command resumes.

    Example: db1 record runs/db1_tiny/evaluation

    Example: db1 record runs/big/evaluation --per-suite 3 --size 160
    """
    draw_off_screen()
    from db1.evaluation.results import read_results
    from db1.suites.plugins import load_run_plugins
    from db1.viewer.record import record
    from db1.viewer.selection import choose_tasks

    results = read_results(folder)
    load_run_plugins(results["provenance"].get("config") or {}, results["tasks"])
    total = len(choose_tasks(results, selection.tasks, selection.suites, wanted.per_suite))
    with running_bars(Console(), total) as progress:
        recordings = record(
            folder,
            film,
            tasks=selection.tasks,
            suites=selection.suites,
            per_suite=wanted.per_suite,
            run=wanted.run,
            data=wanted.data,
            overwrite=wanted.overwrite,
            device=checked_device(weights.device),
            progress=progress,
        )
    episodes = [e for r in recordings.values() for e in r.get("episodes", {}).values()]
    same = sum(episode["same"] for episode in episodes)
    typer.echo(f"recorded: {len(episodes)} episodes of {len(recordings)} tasks in {folder}/videos")
    typer.echo(f"same returns as evaluated: {same} of {len(episodes)}")
    failures = {task: r["failure"] for task, r in recordings.items() if "failure" in r}
    for name, reason in failures.items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if failures:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Shown(Checked):
    """Options of how an episode is shown."""

    show: str | None = option(
        None, "window, terminal, lines or nothing; default: what is possible."
    )
    out: Path | None = option(None, "Also write a film: FILE.mp4, FILE.webp or FILE.gif.")
    speed: Annotated[float, Range(least=0.1)] = option(15.0, "Steps per second.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show is not None:
            check_one_of("--show", self.show, _SHOWN)


@dataclass(frozen=True, kw_only=True)
class PlayedEpisode(Checked):
    """Options of which episode is played, and by which settings."""

    episode: Natural = option(0, "Which episode: number of its evaluation seed, from 0.")
    max_steps: Count | None = option(None, "Stop after this many steps.")
    evaluation: Path | None = option(
        None, "Folder with results.json whose settings to use; the settings below are then ignored."
    )
    data: Path | None = option(None, "Folder of demonstrations; default: the run's.")

    def settings(self, given: EvaluationConfig) -> EvaluationConfig:
        """Those of one evaluation episode: as given, or as --evaluation was played."""
        from db1.evaluation.results import read_results
        from db1.viewer.record import settings_of

        if self.evaluation is None:
            return replace(given, episodes=1, first_episode=self.episode)
        theirs = settings_of(read_results(self.evaluation))
        return replace(theirs, episodes=1, first_episode=theirs.first_episode + self.episode)


@from_dataclasses
def play(
    run: Run,
    task: Annotated[str, typer.Argument(help="suite/task.")],
    settings: Annotated[EvaluationConfig, Of(EvaluationConfig, *_SETTINGS)],
    shown: Shown,
    played: PlayedEpisode,
    weights: Weights,
    record: Annotated[
        Path | None,
        typer.Option(
            help="You play, with the keyboard, and your episodes go to the task's store in this "
            "folder; RUN is not looked at, - will do."
        ),
    ] = None,
    episodes: Annotated[
        int, typer.Option(help="With --record: most episodes to play.", min=1)
    ] = 10,
) -> None:
    """Shows one episode, with what the model sees and how likely its actions are.

    It is the same episode as in an evaluation of the same settings. In a window: space pauses,
    the right arrow makes one step, + and - change the speed, q ends.

    Example: db1 play runs/db1_tiny babyai/KeyCorridorS3R1

    Example: db1 play runs/db1_tiny tsp/uniform20 --episode 3 --out tour.webp --show nothing

    Example: db1 play runs/db1_tiny metaworld/reach-v3 --policy expert --show terminal

    Example: db1 play runs/big babyai/GoToLocal --instruction "go to the red key"

    Example: db1 play runs/big dmc/walker-walk --evaluation runs/big/evaluation --episode 7

    Example: db1 play - babyai/GoToLocal --record data/mine
    """
    draw_off_screen()
    if record is not None:
        from db1.cli.recording import record_episodes

        record_episodes(task, record, episodes, shown.show)
        return
    from db1.viewer.episode import play

    config = played.settings(settings)
    with _displays(shown, task) as display:
        last = play(
            run,
            task,
            config,
            display,
            checkpoint=weights.checkpoint,
            data=played.data,
            max_steps=played.max_steps,
            device=checked_device(weights.device),
        )
    if last is not None:
        typer.echo(last.end or f"stopped after {last.step} steps, return {last.total_reward:.6g}")
    if shown.out is not None:
        typer.echo(f"film: {shown.out}")


class _Faces:
    """Several displays as one; closed at the end, given up by an error."""

    def __init__(self) -> None:
        self.displays: list[Any] = []

    def show(self, scene: Any) -> None:
        for display in self.displays:
            display.show(scene)

    def __enter__(self) -> _Faces:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        for display in self.displays:
            end = display.close if kind is None else getattr(display, "give_up", display.close)
            end()


def _displays(shown: Shown, title: str) -> _Faces:
    """The film first, so that what it lacks is told before anything opens."""
    from db1.cli.terminal import Terminal
    from db1.viewer.displays import FilmDisplay, Lines, Window

    console = Console()
    show = shown.show
    if show is None:
        show = "nothing" if shown.out is not None else _possible(console)
    both = _Faces()
    if shown.out is not None:
        both.displays.append(FilmDisplay(shown.out, shown.speed))
    if show == "window":
        both.displays.append(Window(title, shown.speed))
    elif show == "terminal":
        both.displays.append(Terminal(console, shown.speed))
    elif show == "lines":
        both.displays.append(Lines(typer.echo))
    return both


def _possible(console: Console) -> str:
    """A window where there is a display, pictures in a terminal, lines in a pipe."""
    if has_display() and importlib.util.find_spec("pygame") is not None:
        return "window"
    return "terminal" if console.is_terminal else "lines"


VERBS = {"record": record, "play": play}
