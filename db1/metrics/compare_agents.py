"""An evaluation next to what other agents' authors published: over many tasks, and task by task.

A task counts only where the agent verifiably had it under rules that agree with those here
(version, horizon, references), and is normalised by the agent's own references. Everything else is
named with the reason.

Differences are ours - theirs in normalised return. Their intervals come from drawing our episodes
again, and their mean from a normal distribution of its standard error, where that is known, and
within the digits that were published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.metrics.episodes import METRICS
from db1.metrics.scores import (
    NUM_RESAMPLES,
    interquartile_mean,
    normalise,
    percentile_interval,
    resampled_means,
)
from db1.metrics.seen import seen_groups
from db1.suites.scores.agents import AgentResult, agent_names, published_agents, read_agent
from db1.suites.scores.published import published_of

FEWEST_EPISODES = 20
"""Episodes here that a task needs to be judged by itself: fewer may all go well by chance."""
STATISTICS = ("share_at_least_50", "mean_normalised", "interquartile_mean")
"""Metrics over the tasks that both have."""


@dataclass(frozen=True)
class _Pair:
    """A task here and there.

    Args:
        theirs: The published result.
        scores: Of our episodes, by their references, float64 (E,).
        drawn, their_drawn: Resamples of both means, float64 (R,).
    """

    theirs: AgentResult
    scores: np.ndarray
    drawn: np.ndarray
    their_drawn: np.ndarray


def compare_agents(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results task by task next to those of every agent that has some of the tasks.

    Returns:
        For each agent: `agent`, `kind`, `source`, `rules_source` and `license`; `tasks` (by id:
        `theirs`, `ours`, `difference` and its `interval`, `their_return`, `our_return`, `episodes`,
        `unseen` (the agent did not learn it), `better`: "ours", "theirs" or None); `better`
        (counts); `few_episodes` (tasks with too few here to be judged alone); `overall` and
        `by_group` (seen and unseen ones: num_tasks and `statistics`); `not_comparable` (reason ->
        tasks), and `no_result`, the number of tasks here of which nothing is published.
    """
    found = []
    for name in agent_names():
        known = read_agent(name)
        common = [task for task in sorted(results["tasks"]) if task in known]
        if common:
            found.append(_against(known, common, results))
    return found


def _against(
    known: Mapping[str, AgentResult], common: Sequence[str], results: Mapping[str, Any]
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pairs, reasons = {}, {}
    for task in common:
        reason = _why_not(known[task], results)
        if reason is None:
            pairs[task] = _pair(known[task], results["tasks"][task]["returns"], rng)
        else:
            reasons.setdefault(reason, []).append(task)
    rows = {task: _row(pair) for task, pair in pairs.items()}
    verdicts = [row["better"] for row in rows.values()]
    first = known[common[0]]
    groups = {
        name: [t for t in tasks if t in pairs] for name, tasks in seen_groups(results).items()
    }
    groups[f"unseen by {first.agent}"] = [
        task for task, pair in pairs.items() if pair.theirs.unseen
    ]
    return {
        "agent": first.agent,
        "kind": first.kind,
        "source": first.source,
        "rules_source": first.rules_source,
        "license": first.license,
        "tasks": rows,
        "better": {
            "ours": verdicts.count("ours"),
            "theirs": verdicts.count("theirs"),
            "neither": verdicts.count(None),
        },
        "few_episodes": sum(row["episodes"] < FEWEST_EPISODES for row in rows.values()),
        "overall": _over(list(pairs.values())) if pairs else None,
        "by_group": {
            name: _over([pairs[task] for task in tasks]) for name, tasks in groups.items() if tasks
        },
        "not_comparable": reasons,
        "no_result": len(results["tasks"]) - len(common),
    }


def _why_not(theirs: AgentResult, results: Mapping[str, Any]) -> str | None:
    """Says why a task cannot be compared; None: it can."""
    return theirs.why_not if not theirs.comparable else _cut_off(results)


def _cut_off(results: Mapping[str, Any]) -> str | None:
    """Says that episodes here ended early; None: they did not."""
    steps = results.get("settings", {}).get("max_steps")
    return None if steps is None else f"episodes here were cut off after {steps:,} steps"


def _pair(theirs: AgentResult, returns: Sequence[float], rng: np.random.Generator) -> _Pair:
    assert theirs.random is not None and theirs.expert is not None  # of all that compare
    scores = normalise(np.array(returns), theirs.random, theirs.expert)
    drawn = rng.uniform(-theirs.rounding, theirs.rounding, NUM_RESAMPLES) + theirs.mean
    if theirs.count is not None:
        drawn += rng.normal(0.0, theirs.std / theirs.count**0.5, NUM_RESAMPLES)
    return _Pair(
        theirs=theirs,
        scores=scores,
        drawn=resampled_means(scores, rng),
        their_drawn=normalise(drawn, theirs.random, theirs.expert),
    )


def _row(pair: _Pair) -> dict[str, Any]:
    theirs, ours = pair.theirs.score, float(pair.scores.mean())
    assert theirs is not None and pair.theirs.random is not None and pair.theirs.expert is not None
    low, high = percentile_interval(pair.drawn - pair.their_drawn)
    is_sure = len(pair.scores) >= FEWEST_EPISODES and not low <= 0 <= high
    return {
        "theirs": theirs,
        "ours": ours,
        "difference": ours - theirs,
        "interval": [low, high],
        "their_return": pair.theirs.mean,
        "our_return": pair.theirs.random + ours * (pair.theirs.expert - pair.theirs.random),
        "episodes": len(pair.scores),
        "unseen": pair.theirs.unseen,
        "better": ("ours" if low > 0 else "theirs") if is_sure else None,
    }


def _over(pairs: Sequence[_Pair]) -> dict[str, Any]:
    """Statistics over tasks."""
    ours = np.array([pair.scores.mean() for pair in pairs])
    theirs = np.array([pair.theirs.score for pair in pairs])
    drawn = np.stack([pair.drawn for pair in pairs], axis=1)
    their_drawn = np.stack([pair.their_drawn for pair in pairs], axis=1)
    statistics = {}
    for name in STATISTICS:
        metric = METRICS[name]()
        here, there = float(metric.over_tasks(ours)), float(metric.over_tasks(theirs))
        difference = metric.over_tasks(drawn) - metric.over_tasks(their_drawn)
        statistics[name] = {
            "title": metric.title,
            "theirs": there,
            "ours": here,
            "difference": here - there,
            "interval": percentile_interval(difference),
        }
    return {"num_tasks": len(pairs), "statistics": statistics}


def compare_published(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results next to the figures over many tasks that other agents' authors published.

    An agent whose tasks or references are not published cannot be compared with. A figure over
    tasks that are not all here stands alone: one over a part of them would mislead.

    Returns:
        Rows of `agent`, `what`, `statistic` and its `title`, `theirs`, `their_interval`, `ours` and
        `our_interval` (None where not all of their tasks are here), `num_tasks` in common,
        `their_num_tasks` and `source`. Figures without a task in common are left out, and all where
        the episodes here were cut off.
    """
    rows: list[dict[str, Any]] = []
    if _cut_off(results) is not None:
        return rows
    for agent in published_agents().values():
        if agent.get("references") is None:
            continue
        figures = {"all tasks": agent} if "share_at_least_50" in agent else {}
        for what, figure in {**figures, **agent.get("suites", {})}.items():
            suite = None if what == "all tasks" else what
            scores = _common_scores(results["tasks"], agent["references"], suite)
            if scores:
                rows.append(_published_row(agent, what, figure, scores))
    return rows


def _published_row(
    agent: Mapping[str, Any],
    what: str,
    figure: Mapping[str, Any],
    scores: Sequence[np.ndarray],
) -> dict[str, Any]:
    is_all = figure["num_tasks"] == len(scores)
    name = next(n for n in ("share_at_least_50", "interquartile_mean") if n in figure)
    title, ours, drawn = _statistic(name, agent.get("over") == "episodes", scores)
    return {
        "agent": agent["name"],
        "what": what,
        "statistic": name,
        "title": title,
        "theirs": figure[name],
        "their_interval": figure.get("interval"),
        "ours": ours if is_all else None,
        "our_interval": percentile_interval(drawn) if is_all else None,
        "num_tasks": len(scores),
        "their_num_tasks": figure["num_tasks"],
        "source": agent["source"],
    }


def _statistic(
    name: str, is_over_episodes: bool, scores: Sequence[np.ndarray]
) -> tuple[str, float, np.ndarray]:
    """Title, value, and resamples float64 (R,) of a statistic of the tasks' scores (E,)."""
    rng = np.random.default_rng(0)
    if is_over_episodes:
        assert name == "interquartile_mean"
        picks = [rng.integers(0, len(s), size=(NUM_RESAMPLES, len(s))) for s in scores]
        drawn = np.concatenate([s[p] for s, p in zip(scores, picks, strict=True)], axis=1)
        value = float(interquartile_mean(np.concatenate(scores)))
        return "interquartile mean of episodes", value, interquartile_mean(drawn)
    statistic = METRICS[name]()
    drawn = np.stack([resampled_means(values, rng) for values in scores], axis=1)
    means = np.array([values.mean() for values in scores])
    return statistic.title, float(statistic.over_tasks(means)), statistic.over_tasks(drawn)


def _common_scores(
    tasks: Mapping[str, Any], references: str, suite: str | None
) -> list[np.ndarray]:
    """Normalised returns of the tasks in common whose rules agree."""
    scores: list[np.ndarray] = []
    for task, entry in sorted(tasks.items()):
        if suite is not None and task.split("/", 1)[0] != suite:
            continue
        found = published_of(task, references)
        if found is None or not found["comparable"]:
            continue
        random, expert = found.get("random"), found.get("expert")
        if None not in (random, expert) and random != expert:
            scores.append(normalise(np.array(entry["returns"]), random, expert))
    return scores
