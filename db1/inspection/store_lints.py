"""Checks of episode stores: against their references, their suite, and themselves."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.errors import Db1Error
from db1.inspection.findings import ERROR, INFO, WARNING, Finding
from db1.inspection.references import references_of
from db1.store.episodes import EpisodeStore
from db1.store.statistics import StoreStatistics
from db1.tokens.spec import StepSpec

MIN_NORMALISED = 0.5
"""Below this share of the reference expert's return data is no expert's."""
MAX_CLIPPED_SHARE = 0.01
MANY_SINGLE = 0.2
"""Share of episodes of one step from which their ends are doubted."""


def store_lints(store: EpisodeStore, *, with_environments: bool) -> list[Finding]:
    """All checks that need no pass over the values.

    Args:
        store: The store.
        with_environments: Compare it with the suite's environment, which builds that.
    """
    checks = (
        empty_store,
        lost_records,
        one_step,
        weak_expert,
        duplicate_episodes,
        returns_not_finite,
    )
    found = [finding for check in checks for finding in check(store)]
    if with_environments:
        found += other_environment(store)
    return found


def empty_store(store: EpisodeStore) -> list[Finding]:
    """A store without episodes."""
    if store.num_episodes:
        return []
    return [
        _of(store, ERROR, "empty", "the store has no episode", "collect or import some, or remove")
    ]


def lost_records(store: EpisodeStore) -> list[Finding]:
    """More steps after the last record than an episode that was being written can have."""
    longest, behind = int(store.lengths.max(initial=0)), store.num_steps_behind
    if not longest or behind <= longest:
        return []
    return [
        _of(
            store,
            WARNING,
            "lost-records",
            f"{behind} steps lie behind the last of {store.num_episodes} episodes, the longest of "
            f"which has {longest}",
            "episodes.bin lost its end: make the store again (or a long episode was cut off: the "
            "same command goes on)",
        )
    ]


def one_step(store: EpisodeStore) -> list[Finding]:
    """Many episodes of one step beside longer ones: a goal that is reached again and again."""
    num_single = int((store.lengths == 1).sum())
    is_many = num_single >= max(3, MANY_SINGLE * store.num_episodes)
    if not is_many or num_single == store.num_episodes:
        return []
    return [
        _of(
            store,
            WARNING,
            "one-step",
            f"{num_single} of {store.num_episodes} episodes have one step, others up to "
            f"{int(store.lengths.max())}",
            "was every step at a goal marked as an end? Import again (d4rl: --terminals first)",
        )
    ]


def weak_expert(store: EpisodeStore) -> list[Finding]:
    """Demonstrations far below the expert of the references.

    Episodes that were cut off, or whose actions were disturbed, return less than the references,
    which are whole and undisturbed: they say nothing about the expert.
    """
    references = references_of(store)
    header = store.header
    is_like_references = header.max_steps is None and not header.action_noise
    if references is None or not store.num_episodes or not is_like_references:
        return []
    mean = float(np.mean(store.returns))
    score = references.normalised(mean)
    if score is None or score >= MIN_NORMALISED:
        return []
    return [
        _of(
            store,
            WARNING,
            "weak-expert",
            f"mean return {mean:.4g} is {100 * score:.0f} % of the way from random "
            f"{references.random:.4g} to expert {references.expert:.4g}",
            "collect from a better expert, or filter the episodes by their return",
        )
    ]


def duplicate_episodes(store: EpisodeStore) -> list[Finding]:
    """Episodes that are there twice: the same seed, length, return and actions."""
    groups: dict[tuple[int, int, float], list[int]] = defaultdict(list)
    rows = zip(store.seeds.tolist(), store.lengths.tolist(), store.returns.tolist(), strict=True)
    for episode, key in enumerate(rows):
        groups[key].append(episode)
    repeated: dict[int, int] = {}
    for episodes in (group for group in groups.values() if len(group) > 1):
        first_with: dict[int, int] = {}
        for episode in episodes:
            actions = store.read_window(episode)[1]
            first = first_with.setdefault(zlib.crc32(actions.tobytes()), episode)
            if first != episode:
                repeated[episode] = first
    if not repeated:
        return []
    episode, first = next(iter(repeated.items()))
    return [
        _of(
            store,
            WARNING,
            "duplicates",
            f"{len(repeated)} of {store.num_episodes} episodes repeat another one; episode "
            f"{episode} is episode {first} again",
            "make the store again from seeds that differ",
        )
    ]


def returns_not_finite(store: EpisodeStore) -> list[Finding]:
    """Returns that are no finite number."""
    bad = np.flatnonzero(~np.isfinite(store.returns))
    if not len(bad):
        return []
    what = f"{len(bad)} returns are not finite, the first of episode {bad[0]}"
    return [_of(store, ERROR, "not-finite", what, "make the store again")]


def other_environment(store: EpisodeStore) -> list[Finding]:
    """A store whose fields or environment are not those of its suite today.

    A task of no suite, and a suite that is not installed, cannot be compared: that is said.
    """
    from db1.suites import parse_task_id  # loads gymnasium
    from db1.suites.plugins import check_modules

    try:
        check_modules([store.header.task])
        suite, task = parse_task_id(store.header.task)
        now, spec = suite.environment_version(task), suite.step_spec(task)
    except Db1Error as error:
        what = f"not compared with the task's environment: {error}"
        return [_of(store, INFO, "environment", what, "`db1 doctor` says what is installed")]
    found = []
    difference = spec_difference(store.spec, spec)
    if difference:
        found.append(
            _of(
                store,
                WARNING,
                "other-spec",
                f"its steps are not those of the suite today: {difference}",
                "collect again: a model trained on this store cannot act in the environment",
            )
        )
    versions = _version_difference(store.header.environment, now)
    if versions:
        found.append(
            _of(
                store,
                WARNING,
                "other-version",
                f"made in another environment: {versions}",
                "collect again, or install those versions",
            )
        )
    return found


def spec_difference(stored: StepSpec, now: StepSpec) -> str | None:
    """Names the first field in which two steps differ; None when they agree."""
    for key in sorted(stored.observation.keys() | now.observation.keys()):
        mine, theirs = stored.observation.get(key), now.observation.get(key)
        if mine != theirs:
            return f"observation {key!r}: stored {mine or 'absent'}, now {theirs or 'absent'}"
    if stored.action != now.action:
        return f"action: stored {stored.action}, now {now.action}"
    if stored.action_mask != now.action_mask:
        return f"action_mask: stored {stored.action_mask!r}, now {now.action_mask!r}"
    return None


def value_lints(store: EpisodeStore, statistics: StoreStatistics) -> list[Finding]:
    """Checks of the values themselves: numbers that are none, numbers that are clipped."""
    found = []
    for name, field in statistics.fields.items():
        num_bad = (field.num_nan or 0) + (field.num_infinite or 0)
        if num_bad:
            found.append(
                _of(
                    store,
                    ERROR,
                    "not-finite",
                    f"{num_bad} of {field.num_values} values are not finite, the first in episode "
                    f"{field.first_not_finite}",
                    "make the store again",
                    name,
                )
            )
        if (field.clipped_share or 0.0) > MAX_CLIPPED_SHARE:
            found.append(
                _of(
                    store,
                    WARNING,
                    "clipped",
                    f"{100 * field.clipped_share:.1f} % of the values ({field.minimum:.4g} to "
                    f"{field.maximum:.4g}) lie beyond what the tokenizer tells apart",
                    "scale the values in the suite, or raise vocabulary.max_magnitude",
                    name,
                )
            )
    return found


def _version_difference(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Entries of both that differ; what only one has (imports say other things) is no evidence."""
    return "; ".join(
        f"{key}: {stored[key]} then, {now[key]} now"
        for key in sorted(stored.keys() & now.keys())
        if str(stored[key]) != str(now[key])
    )


def _of(
    store: EpisodeStore, severity: str, code: str, what: str, fix: str, field: str | None = None
) -> Finding:
    where = str(store.path) if field is None else f"{store.path}, {field}"
    return Finding(severity=severity, code=code, what=what, where=where, fix=fix)
