"""The verbs `db1 import KIND`, one command a registered kind, and `db1 export KIND`."""

from __future__ import annotations

import functools
import logging
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from db1.cli.console import Console
from db1.cli.model_argument import Run
from db1.cli.options import from_dataclasses
from db1.cli.progress import task_bars
from db1.cli.verbs import Verb, VerbGroup
from db1.errors import MissingExtra
from db1.importers import IMPORTERS, ImportContext, ImportKind
from db1.importers.registry import OpenTask, Progress
from db1.tokens.spec import StepSpec

logger = logging.getLogger(__name__)

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Imports foreign data into a store of db1. A run that was stopped goes on with the same "
    "command. Example: db1 import d4rl hopper_expert-v2.hdf5 --out data/hopper",
)
export_app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Exports a store or a model. Example: db1 export minari data/hopper minari/hopper",
)


@functools.cache
def known_spec(task: str) -> StepSpec | None:
    """Step spec of one of db1's own tasks; None for another one.

    Where the suite is not installed, the fields come from the data (with a warning).
    """
    from db1.suites import SUITES

    suite_name, _, name = task.partition("/")
    if suite_name not in SUITES or name not in SUITES[suite_name].task_names():
        return None
    try:
        return SUITES[suite_name].step_spec(name)
    except MissingExtra as error:
        logger.warning("%s; the fields of %s are taken from the data", error, task)
        return None


def packed_order(task: str) -> tuple[str, ...]:
    """Keys of a task in the order in which data sets pack its numbers; () where it is not known."""
    from db1.suites import SUITES

    suite_name, _, name = task.partition("/")
    return SUITES[suite_name].packed_order(name) if known_spec(task) is not None else ()


def open_task(task: str) -> OpenTask:
    """One of db1's own tasks, for importers that draw them."""
    from db1.runtime import choose_renderer
    from db1.suites import parse_task_id

    suite, name = parse_task_id(task)
    choose_renderer()  # before the suite loads MuJoCo
    return OpenTask(env=suite.make_env(name), version=suite.environment_version(name))


def import_context(report: Callable[..., None]) -> ImportContext:
    """Services of the command line for every importer."""
    from db1.suites.seeds import EVALUATION

    return ImportContext(
        progress=typing.cast(Progress, report),
        known_spec=known_spec,
        forbidden_seeds=EVALUATION,
        open_task=open_task,
        packed_order=packed_order,
    )


def _check_task(task: str | None) -> None:
    """ConfigError for a --task that misspells a task of one of db1's suites."""
    from db1.suites import SUITES

    suite_name, _, name = (task or "").partition("/")
    if suite_name in SUITES:
        SUITES[suite_name].check_task(name)


def _command(kind: ImportKind) -> Callable[..., None]:
    """The typer command of a kind: SOURCE, --out and the options of its dataclass."""

    def command(source: Any, out: Any, options: Any) -> None:
        console = Console()
        _check_task(getattr(options, "task", None))
        with task_bars(console) as report:
            summary = kind.run(source, out, options, import_context(report))
        for line in summary.lines():
            console.print(line, soft_wrap=True, markup=False)

    command.__annotations__ = {
        "source": Annotated[str, typer.Argument(help=kind.source_help, metavar="SOURCE")],
        "out": Annotated[Path, typer.Option(help="Folder for the store.", show_default=False)],
        "options": kind.options,
    }
    command.__doc__ = f"{kind.help}\n\nExample: {kind.example}"
    return from_dataclasses(command)


for _name in sorted(IMPORTERS):
    app.command(_name, cls=Verb)(_command(IMPORTERS[_name]))


@export_app.command("minari", cls=Verb)
def export_minari_(
    store: Annotated[Path, typer.Argument(help="Folder of an episode store.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new data set.")],
    dataset_id: Annotated[str, typer.Option(help="Minari's id: namespace/name-v0.")] = (
        "db1/export-v0"
    ),
    data_format: Annotated[str, typer.Option(help="hdf5 or arrow.")] = "hdf5",
) -> None:
    """Writes a store as a Minari data set.

    Example: db1 export minari data/mujoco/Hopper-v5 minari/hopper --dataset-id mine/hopper-v0
    """
    from db1.exporters.minari import export_minari

    console = Console()
    with task_bars(console) as report:
        summary = export_minari(
            store,
            out,
            dataset_id=dataset_id,
            data_format=data_format,
            progress=typing.cast(Progress, report),
        )
    console.print(
        f"{out}: {summary.dataset_id}, {summary.num_episodes:,} episodes of "
        f"{summary.num_steps:,} steps; {summary.num_repeated:,} final observations repeated",
        soft_wrap=True,
        markup=False,
    )


@export_app.command("lerobot", cls=Verb)
def export_lerobot_(
    store: Annotated[Path, typer.Argument(help="Folder of an episode store.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new data set.")],
    fps: Annotated[int, typer.Option(help="Steps per second.", min=1)] = 10,
    instruction: Annotated[
        str | None,
        typer.Option(help="Task text of episodes that have none; default: the store's."),
    ] = None,
) -> None:
    """Writes a store as a LeRobot data set (v3.0), which `db1 import lerobot` reads back.

    Example: db1 export lerobot data/metaworld/reach-v3 lerobot/reach --fps 80
    """
    from db1.exporters.lerobot import export_lerobot

    console = Console()
    with task_bars(console) as report:
        summary = export_lerobot(
            store, out, fps=fps, instruction=instruction, progress=typing.cast(Progress, report)
        )
    console.print(
        f"{out}: LeRobot v3.0, {summary.num_episodes:,} episodes of {summary.num_steps:,} steps, "
        f"{summary.num_tasks:,} task texts",
        soft_wrap=True,
        markup=False,
    )


@export_app.command("onnx", cls=Verb)
def export_onnx_(
    run: Run,
    out: Annotated[Path, typer.Argument(help="New folder.")],
    memory: Annotated[
        int | None,
        typer.Option(
            help="Tokens of memory, the task's words in front included; default: the model's.",
            min=1,
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Also a graph for images of this HEIGHTxWIDTH.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint tag; default: the newest.")
    ] = None,
) -> None:
    """Writes a model as ONNX graphs: a step of acting with its memory as input and output, and
    what turns number patches and images into its inputs; checks each in onnxruntime.

    Example: db1 export onnx base onnx/base --memory 84

    Example: db1 export onnx runs/db1_tiny onnx/tiny --image 64x80
    """
    from db1.checkpoint.bundle import read_bundle
    from db1.checkpoint.onnx_export import export_onnx

    console = Console()
    size = None if image is None else _height_and_width(image)
    bundle = read_bundle(run, tag=checkpoint)
    written = export_onnx(bundle, out, memory_length=memory, image=size)
    largest = max(written.differences.values())
    console.print(
        f"{out}: {', '.join(written.differences)}, {written.num_bytes / 1e6:.1f} MB; onnxruntime "
        f"and PyTorch agree to {largest:.0e} of the largest number",
        soft_wrap=True,
        markup=False,
    )


def _height_and_width(text: str) -> tuple[int, int]:
    """Reads a size such as `64x80`."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"got {text!r}, expected HEIGHTxWIDTH such as 64x80")
    return int(height), int(width)


APPS = {"import": app, "export": export_app}
