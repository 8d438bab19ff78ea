"""Episodes of a source -> an episode store, one at a time.

Each stored episode has in its metadata the `source` (a data set's id or a file's name) and the
number of the `episode` there. A run that was killed goes on after the last stored episode, so
that none is stored twice; the store's header names the source and the options, and another source
is refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError
from db1.formats.fields import BadEpisode, SourceField, convert, convert_actions
from db1.formats.pictures import GREY
from db1.importers.episode_source import EpisodeOptions, EpisodeSource, SourceEpisode, reward_array
from db1.importers.fitting import Fitting, fit
from db1.importers.new_store import store_or_nothing
from db1.importers.registry import ImportContext, ImportSummary
from db1.importers.returns import ReturnFilter, return_filter
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, StepSpec

logger = logging.getLogger(__name__)

EMPTY = "dropped, length 0"
BELOW = "dropped, below --min-return-share"
BAD = "left out by --skip-bad"
EVALUATION_SEED = "dropped, seed of an evaluation"
CLIPPED = "steps with clipped actions"
BEFORE = "left out by an earlier run"
SOURCE_KEY = "source"
MANY_SINGLE = 0.2
"""Share of episodes of one step from which the user is told."""
EPISODE_KEY = "episode"


@dataclass(frozen=True, kw_only=True)
class _Import:
    """One import at work."""

    source: EpisodeSource
    task: str
    fitting: Fitting
    returns: ReturnFilter | None
    options: EpisodeOptions
    context: ImportContext
    counts: Counter[str] = field(default_factory=Counter)

    def header(self) -> StoreHeader:
        origin: dict[str, Any] = {**self.source.origin, "options": self.options.lasting()}
        if self.returns is not None:
            origin["return_filter"] = dict(self.returns.to_dict())
        action = self.fitting.action
        if self.options.action_bounds is not None and action.low is not None:
            origin["action_low"] = action.low.tolist()
            origin["action_high"] = np.asarray(action.high).tolist()
        if self.source.references:
            origin["references"] = dict(self.source.references)
        return StoreHeader(
            task=self.task,
            spec=self.fitting.spec,
            max_steps=None,
            origin=origin,
            image_format=self.options.image_format,
        )

    def fill(self, writer: EpisodeWriter) -> None:
        """Appends what the store lacks."""
        first = self._next_episode(writer)
        self.counts[BEFORE] += first - writer.num_episodes
        limit = self.options.max_episodes
        for number, load in enumerate(self.source.episodes(first), start=first):
            if limit is not None and writer.num_episodes >= limit:
                return
            episode = self._episode(number, load)
            if episode is not None:
                writer.append(episode)
            self.context.progress(self.task, number + 1, self.source.num_episodes)

    def _next_episode(self, writer: EpisodeWriter) -> int:
        """Number of the first source episode after the last stored one."""
        if writer.num_episodes == 0:
            return 0
        last = EpisodeStore(writer.path).metadata(writer.num_episodes - 1)
        if not isinstance(last.get(EPISODE_KEY), int):
            raise DataError(
                f"{writer.path}: its last episode does not say which episode of the source it is; "
                "write to another folder"
            )
        return last[EPISODE_KEY] + 1

    def _episode(self, number: int, load: Any) -> Episode | None:
        """Loads, checks and converts one episode; None (and counted) when it is left out."""
        try:
            loaded = load()
            if len(loaded.actions) == 0:
                self.counts[EMPTY] += 1
                return None
            if loaded.seed in self.context.forbidden_seeds:
                self.counts[EVALUATION_SEED] += 1
                return None
            return self._kept(loaded, number)
        except BadEpisode as error:
            named = str(error) if str(error).startswith(self.task) else f"{self.task}: {error}"
            if not self.options.skip_bad:
                raise BadEpisode(f"{named}; pass --skip-bad to leave it out") from None
            logger.warning("%s", named)
            self.counts[BAD] += 1
            return None

    def _kept(self, loaded: SourceEpisode, number: int) -> Episode | None:
        where = f"{self.task} episode {number} of {self.source.name}"
        num_steps = _num_steps(loaded, where)
        with np.errstate(over="ignore"):  # beyond float32: the check finds it
            rewards = reward_array(loaded.rewards).astype(np.float32)
        if not np.isfinite(rewards).all():
            num_bad = int((~np.isfinite(rewards)).sum())
            raise BadEpisode(f"{where}: {num_bad} rewards not finite")
        if self.returns is not None and rewards.sum(dtype=np.float64) < self.returns.threshold:
            self.counts[BELOW] += 1
            return None
        actions = convert_actions(
            self.fitting.action, loaded.actions, f"{where}: action", clip=self.options.clip_actions
        )
        converted = {
            key: convert(spec, loaded.observations[key][:num_steps], f"{where}: {key}")
            for key, spec in self.fitting.observation.items()
        }
        metadata = {SOURCE_KEY: Path(self.source.name).name, EPISODE_KEY: number, **loaded.metadata}
        if loaded.truncated:
            metadata["truncated"] = True
        if actions.num_clipped:
            self.counts[CLIPPED] += actions.num_clipped
            metadata["clipped_steps"] = actions.num_clipped
        return Episode(
            observations=self.fitting.observations(converted, where),
            actions=actions.values,
            rewards=rewards,
            seed=loaded.seed,
            terminated=loaded.terminated,
            success=loaded.success,
            metadata=metadata,
        )


def import_episodes(
    source: EpisodeSource, out: Path, options: EpisodeOptions, context: ImportContext
) -> ImportSummary:
    """Stores the episodes of a source; goes on where an earlier run was killed.

    Args:
        source: The episodes; closed at the end.
        out: Folder of the store.
        options: What is kept and how.
        context: Progress and the specs of db1's own tasks.

    Raises:
        ConfigError: The source names no task and there is no --task.
        DataError: Broken data, a store of another origin, or a full disk. What was stored before
            stays, and the same command goes on; a store without an episode is removed.
    """
    try:
        task = task_of(source, options)
        known = context.known_spec(task)
        fitting = fit(
            source.observation,
            _bounded(source, options),
            known,
            f"{source.name} as {task}",
            order=options.order and [key.strip() for key in options.order.split(",")],
            known_order=partial(_known_order, source, task, known, context),
        )
        work = _Import(
            source=source, task=task, fitting=fitting, options=options, context=context,
            returns=return_filter(options, source),
        )  # fmt: skip
        with store_or_nothing(
            out, partial(EpisodeWriter, out, work.header()), lambda writer: writer.num_episodes
        ) as writer:
            num_before = writer.num_episodes
            work.fill(writer)
            num_stored = writer.num_episodes
            if num_stored == 0:
                raise DataError(f"{source.name}: no episode to store {_reasons(work.counts)}")
    finally:
        source.close()
    return ImportSummary(
        source=source.name,
        out=out,
        unit="episodes",
        num_stored=num_stored,
        num_before=num_before,
        counts=dict(work.counts),
        notes=tuple(_notes(work, out, num_before)),
    )


def _notes(work: _Import, out: Path, num_before: int) -> Iterator[str]:
    """Sentences about the store for the person who imports."""
    yield from work.source.notes
    yield from _order_notes(work.fitting)
    yield from _length_notes(out, num_before)
    yield from _colour_notes(work.task, work.fitting, work.options)
    if work.returns is not None:
        yield (
            f"kept returns from {work.returns.threshold:.6g} on: {work.returns.share:g} of the "
            f"expert's {work.returns.expert:.6g} ({work.returns.origin})"
        )


def _order_notes(fitting: Fitting) -> list[str]:
    """In which order packed numbers were taken apart."""
    keys = ", ".join(fitting.order)
    return [f"one vector was taken apart as {keys} (--order says otherwise)"] if keys else []


def _known_order(
    source: EpisodeSource, task: str, known: StepSpec | None, context: ImportContext
) -> tuple[str, ...]:
    if source.packed_by_key and known is not None:
        return tuple(sorted(known.observation))
    return context.packed_order(task)


def _length_notes(path: Path, num_before: int) -> list[str]:
    """A warning where many of the new episodes have one step."""
    lengths = EpisodeStore(path).lengths[num_before:]
    num_single = int((lengths == 1).sum())
    if num_single < max(3, MANY_SINGLE * len(lengths)) or (lengths == 1).all():
        return []
    return [
        f"{num_single} of {len(lengths)} episodes have one step: is every step at a goal marked as "
        "an end? They would be learned from, and be prompts, as whole episodes"
    ]


def _bounded(source: EpisodeSource, options: EpisodeOptions) -> SourceField:
    """The source's action, with --action-bounds data between its smallest and largest values."""
    if options.action_bounds is None or source.action.kind != "continuous":
        return source.action
    field = replace(source.action, low=None, high=None)
    return field.with_bounds(*source.action_range(), "--action-bounds")


def _colour_notes(task: str, fitting: Fitting, options: EpisodeOptions) -> list[str]:
    """A warning where colours are stored for tasks that show grey frames."""
    pictures = [field.picture for field in fitting.observation.values()]
    has_colours = any(picture is not None and picture.channels == 3 for picture in pictures)
    if not task.startswith("atari/") or not has_colours or options.frames in GREY:
        return []
    return [
        f"{task} shows grey maxima of two frames, and these pictures were stored in colour: pass "
        "--frames grey-max"
    ]


def task_of(source: EpisodeSource, options: EpisodeOptions) -> str:
    """The store's task id: --task, or what the source suggests."""
    task = options.task or source.task
    if task is None:
        raise ConfigError(f"{source.name}: the source names no task; pass --task suite/task")
    suite, _, name = task.partition("/")
    if not suite or not name:
        raise ConfigError(f"--task {task!r}, expected suite/task")
    return task


def _num_steps(loaded: SourceEpisode, where: str) -> int:
    """T, after checking that every array has T rows (observations also T + 1)."""
    num_steps = len(loaded.actions)
    lengths = {key: len(values) for key, values in loaded.observations.items()}
    has_final = set(lengths.values()) == {num_steps + 1}
    if not has_final and set(lengths.values()) != {num_steps}:
        raise BadEpisode(
            f"{where}: {num_steps} actions and observations of lengths {lengths}, expected "
            f"{num_steps} or {num_steps + 1} each"
        )
    rewards = reward_array(loaded.rewards)
    if rewards.shape != (num_steps,) or rewards.dtype.kind not in "fiub":
        raise BadEpisode(
            f"{where}: rewards {rewards.dtype} {rewards.shape}, expected {num_steps} numbers"
        )
    return num_steps


def _reasons(counts: Counter[str]) -> str:
    listed = ", ".join(f"{reason}: {count}" for reason, count in counts.items() if count)
    return f"({listed})" if listed else "(the source is empty)"
