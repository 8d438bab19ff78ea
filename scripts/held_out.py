"""Scores on tasks that the model in the box never saw, by number of demonstrations.

    python scripts/held_out.py                         ML45's five test tasks, five BabyAI levels
    python scripts/held_out.py --split ml45-test --demonstrations 1 --demonstrations 5 --steps 100

Each task is played by the model as it is (told in words what to do), by the model primed with a
demonstration, fine-tuned on the first demonstrations, by the same model from scratch on the same
ones, and by retrieval, which plays the action of the nearest demonstrated step. Draws
`docs/held_out.png`; `scripts/benchmarks.sh held_out` keeps the figures for the pages. Run again, it
goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import db1  # noqa: E402
from db1.benchmarks.few_shot import FewShotBenchmark, bench_few_shot  # noqa: E402
from db1.benchmarks.intervals import mean_interval  # noqa: E402
from db1.errors import Db1Error  # noqa: E402
from db1.splits import SPLITS, split_tasks  # noqa: E402

CONFIG = ROOT / "configs" / "finetune.yaml"
DATA = Path("data/held_out")
MAX_STEPS = {"metaworld": 300, "babyai": None}
NOISE = {"metaworld": 0.1, "babyai": 0.05}
LINES = {
    "fine-tuned": "#3465a4",
    "primed": "#73d216",
    "from scratch": "#888a85",
    "retrieval": "#c17d11",
}
"""Who plays, and the colour of its curve; `fine-tuned` begins at 0 with the model as it is."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Args:
        model: What `db1.load` takes.
        counts: Numbers of demonstrations.
        steps: Optimizer steps of a training.
        seeds: Trainings of each start and count.
        episodes: Rollouts of each.
        processes: Trainings at once.
        runs: Folder of runs and evaluations.
    """

    model: str
    counts: Sequence[int]
    steps: int
    seeds: int
    episodes: int
    processes: int
    runs: Path

    def play(self, task: str, name: str, **settings: Any) -> float:
        """Score of one evaluation without training."""
        results = db1.evaluate(
            self.model,
            [task],
            episodes=self.episodes,
            reference="measured",
            out=self.runs / task / name,
            **settings,
        )
        if task in results["failures"]:
            sys.exit(f"{task}, {name}: {results['failures'][task]}")
        return results["tasks"][task]["normalised"]


def points(plan: Plan, task: str) -> Iterator[dict[str, Any]]:
    """(who, demonstrations, score) of a task, one a training or evaluation."""
    yield {"who": "fine-tuned", "demonstrations": 0, "score": plan.play(task, "0", prompt=False)}
    for count in plan.counts:
        root = DATA / str(count)
        suite = task.split("/")[0]
        db1.collect(
            task,
            out=root,
            episodes=count,
            max_steps=MAX_STEPS[suite],
            action_noise=NOISE[suite],
            reference_episodes=1,
        )
        score = plan.play(task, f"retrieval-{count}", policy="retrieval", data=root)
        yield {"who": "retrieval", "demonstrations": count, "score": score}
        if count == plan.counts[0]:
            score = plan.play(task, f"primed-{count}", prompt=True, data=root)
            yield {"who": "primed", "demonstrations": count, "score": score}
        yield from _trained(plan, task, count, root)


def _trained(plan: Plan, task: str, count: int, root: Path) -> Iterator[dict[str, Any]]:
    """Fine-tuned and from scratch, on all demonstrations of a folder."""
    bench = FewShotBenchmark(
        config=CONFIG,
        overrides=(
            f"init_from={plan.model}",
            f"task={task}",
            f"data.root={root}",
            "data.heldout_share=0",
            f"training.num_steps={plan.steps}",
            f"training.warmup_steps={min(20, plan.steps // 2)}",
            f"training.checkpoint_every={plan.steps}",
        ),
        episodes=(count,),
        num_seeds=plan.seeds,
        evaluation_episodes=plan.episodes,
        processes=plan.processes,
        out=plan.runs / task / f"trained-{count}",
    )
    names = {"pretrained": "fine-tuned", "scratch": "from scratch"}
    for point in bench_few_shot(bench)["points"]:
        yield {
            "who": names[point["start"]],
            "demonstrations": count,
            "seed": point["seed"],
            "score": point["score"],
        }


def curves(
    tasks: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """suite -> who -> means over the suite's tasks with 95 % intervals, by demonstrations."""
    suites: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for suite in sorted({task.split("/")[0] for task in tasks}):
        own = [found for task, found in tasks.items() if task.startswith(f"{suite}/")]
        suites[suite] = {
            who: [
                {"demonstrations": count} | mean_interval(scores)
                for count, scores in _by_count(own, who).items()
            ]
            for who in LINES
        }
    return suites


def _by_count(tasks: Sequence[Sequence[Mapping[str, Any]]], who: str) -> dict[int, list[float]]:
    """Scores of each task, a mean over its seeds, by number of demonstrations."""
    counts = sorted({p["demonstrations"] for found in tasks for p in found if p["who"] == who})
    return {
        count: [
            mean_interval(
                [p["score"] for p in found if (p["who"], p["demonstrations"]) == (who, count)]
            )["mean"]
            for found in tasks
        ]
        for count in counts
    }


def plot(suites: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """One panel a suite: score by number of demonstrations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, len(suites), sharey=True, squeeze=False)[0]
    for axes, (suite, lines) in zip(panels, suites.items(), strict=True):
        counts = sorted({row["demonstrations"] for rows in lines.values() for row in rows})
        places = {count: place for place, count in enumerate(counts)}
        for shift, (who, rows) in enumerate(lines.items()):
            x = [places[row["demonstrations"]] + 0.06 * (shift - 1.5) for row in rows]
            y = [row["mean"] for row in rows]
            errors = [
                0 if row["interval"] is None else row["interval"][1] - row["mean"] for row in rows
            ]
            axes.errorbar(x, y, yerr=errors, color=LINES[who], marker="o", capsize=3, label=who)
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
        axes.set_title(f"{suite}: tasks never seen in training", fontsize=10)
        axes.set_xlabel("demonstrations of the task")
        for height, style in ((0, "-"), (1, "--")):
            axes.axhline(height, color="0.6", linewidth=0.8, linestyle=style)
    panels[0].set_ylabel("score (0 random, 1 expert)")
    panels[0].legend(frameon=False)
    FigureCanvasAgg(figure).print_figure(path, dpi=110)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base")
    parser.add_argument("--split", action="append", choices=sorted(SPLITS))
    parser.add_argument("--demonstrations", action="append", type=int)
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of a training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each start and count")
    parser.add_argument("--episodes", type=int, default=10, help="rollouts of each")
    parser.add_argument("--processes", type=int, default=2, help="trainings at once")
    parser.add_argument("--runs", type=Path, default=Path("runs/held_out"))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "held_out.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(
        model=arguments.model,
        counts=sorted(arguments.demonstrations or (1, 5, 10, 25)),
        steps=arguments.steps,
        seeds=arguments.seeds,
        episodes=arguments.episodes,
        processes=arguments.processes,
        runs=arguments.runs,
    )
    names = arguments.split or ["ml45-test", "babyai-unseen"]
    tasks = {}
    for task in (task for name in names for task in split_tasks(name)):
        tasks[task] = list(points(plan, task))
        print(task, *(f"{p['who']} {p['demonstrations']}: {p['score']:.2f};" for p in tasks[task]))
    content = {
        "splits": names,
        "episodes": plan.episodes,
        "steps": plan.steps,
        "seeds": plan.seeds,
        "curves": curves(tasks),
        "tasks": tasks,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot(content["curves"], arguments.picture)


if __name__ == "__main__":
    try:
        main()
    except Db1Error as error:
        sys.exit(f"held_out: {error}")
