"""Frames of db1's own tasks with what is to be done there: pictures that come from no data set.

    seed --reset--> frame 0 --random actions--> frame 1 ...       the picture, as a person sees it
    "go to the red ball"                                          the caption: the instruction

The caption is the text of the observation where a task has one (`mission`), else the task's name in
words ("drawer close"). Of ten episodes the ninth is in `val` and the tenth in `test`, so that more
episodes change no split. Seeds are those of collection; evaluations use others.

The environments come from the caller (`ImportContext.open_task`): this room knows no suite.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from db1.errors import ConfigError, DataError
from db1.importers.pair_import import import_pairs
from db1.importers.pair_source import PairOptions, PairSet, PairSplit, SourcePair
from db1.importers.registry import (
    IMPORTERS,
    ImportContext,
    ImportKind,
    ImportSummary,
    OpenTask,
    option,
)
from db1.ranges import Count, Range
from db1.store.pair_layout import CAPTION
from db1.store.pairs import Pair

_PLACES = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}
"""Last digits of the seeds of each split."""


@dataclass(frozen=True, kw_only=True)
class FrameOptions(PairOptions):
    """Options of `db1 import frames`."""

    episodes: Annotated[int, Range(least=10)] = option(100, "Episodes of each task.")
    frames: Count = option(1, "Frames of each episode; the first shows its start.")
    every: Count = option(8, "Random actions from one frame to the next.")
    side: Annotated[int, Range(least=16, most=16_384)] = option(
        128, "Longest side of the stored frames in pixels."
    )


def import_frames(
    source: str, out: Path, options: FrameOptions, context: ImportContext
) -> ImportSummary:
    """Draws and stores frames; see `import_pairs`.

    Args:
        source: Task ids, with commas between them.
        out: Folder of the set's stores.
        options: What is kept and how.
        context: Opens the tasks; progress.

    Raises:
        ConfigError: No task or an unknown one.
        DataError: A task that cannot be drawn, or seeds that belong to evaluations.
        MissingExtra: A task's suite is not installed.
    """
    tasks = list(dict.fromkeys(name.strip() for name in source.split(",") if name.strip()))
    if not tasks:
        raise ConfigError("frames: names no task; expected ids such as babyai/GoToLocal")
    seeds = range(options.episodes)
    if context.forbidden_seeds and seeds.stop > context.forbidden_seeds.start:
        raise DataError(
            f"frames: --episodes {options.episodes} reaches the seeds of evaluations, which start "
            f"at {context.forbidden_seeds.start}; take fewer"
        )
    opened = {task: context.open_task(task) for task in tasks}
    try:
        found = PairSet(
            name="frames",
            source=", ".join(tasks),
            kind=CAPTION,
            splits={
                split: partial(_split, opened, [s for s in seeds if s % 10 in digits], options)
                for split, digits in _PLACES.items()
            },
            origin={
                "kind": "frames",
                "tasks": {task: dict(open_task.version) for task, open_task in opened.items()},
            },
        )
        return import_pairs(found, out, options, context)
    finally:
        for open_task in opened.values():
            open_task.env.close()


def _split(opened: dict[str, OpenTask], seeds: list[int], options: FrameOptions) -> PairSplit:
    return PairSplit(
        pairs=partial(_pairs, opened, seeds, options),
        num_pairs=len(opened) * len(seeds) * options.frames,
    )


def _pairs(
    opened: dict[str, OpenTask], seeds: list[int], options: FrameOptions
) -> Iterator[SourcePair]:
    """Yields a seed's frames of all tasks before the next seed's.

    A frame can be loaded until the next pair is asked for.
    """
    for seed in seeds:
        for task, open_task in opened.items():
            yield from _frames(task, open_task.env, seed, options)


def _frames(task: str, env: Any, seed: int, options: FrameOptions) -> Iterator[SourcePair]:
    """The frames of one episode; it ends earlier where the episode does."""
    generator = np.random.default_rng((zlib.crc32(task.encode()), seed))
    observation, _ = env.reset(seed=seed)
    for number in range(options.frames):
        for _ in range(options.every if number else 0):
            action = env.sample_action(generator, observation)
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return
        step = number * options.every
        pair = Pair(
            image_name=f"{task}/{seed}-{step}.png",
            texts=(_caption(task, env, observation),),
            metadata={"task": task, "seed": seed, "step": step},
        )
        yield SourcePair(pair=pair, load=_drawer(task, env, options.side))


def _caption(task: str, env: Any, observation: dict[str, Any]) -> str:
    """The task's instruction in this episode, or its name: drawer-close-v3 -> drawer close."""
    fields = env.step_spec.observation
    texts = [str(observation[key]) for key, field in fields.items() if field.kind == "text"]
    instruction = " ".join(text.strip() for text in texts if text.strip())
    if instruction:
        return instruction
    name = re.sub(r"-v\d+$", "", task.partition("/")[2])
    words = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", re.sub(r"[-_]+", " ", name))
    return words.lower()


def _drawer(task: str, env: Any, side: int) -> Callable[[], bytes]:
    def draw() -> bytes:
        try:
            picture = Image.fromarray(env.render_frame())
        except DataError:
            raise
        except Exception as error:  # whatever a simulator's renderer raises without a display
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(f"{task}: nothing can be drawn here ({reason})") from None
        if max(picture.size) > side:
            picture.thumbnail((side, side), Image.Resampling.BOX)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    return draw


IMPORTERS.register("frames")(
    ImportKind(
        run=import_frames,
        options=FrameOptions,
        help="Frames of db1's own tasks with their instructions as captions.",
        source_help="Task ids, with commas between them.",
        example="db1 import frames babyai/GoToLocal,babyai/PickupLoc --out data/pairs/frames",
    )
)
