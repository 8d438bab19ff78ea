"""The tsp expert's tours against the best that longer searches find, and against lower bounds.

Each instance is also solved by elkai with more runs and, where it is installed, by fast-tsp; the
shortest tour of all is the best known one. Lower bounds are those of
`db1/suites/scores/bounds.json`, which are proved.

    pip install fast-tsp && python scripts/compare_tours.py --tasks tsp100 --runs 20 --seconds 1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import elkai
import numpy as np

from db1.collection.measurement import play
from db1.experts import make_expert
from db1.files import atomic_write_text
from db1.suites import make_env, task_ids
from db1.suites.scores.standing import largest_return

try:
    import fast_tsp
except ImportError:
    fast_tsp = None

LARGEST = 65_000
"""fast-tsp takes distances below 65,536; the longest becomes this one in either search."""


def best_known(distances: np.ndarray, runs: int, seconds: float) -> float:
    """Returns the length of the shortest tour that a search finds."""
    whole = np.rint(distances * (LARGEST / distances.max())).astype(np.int64).tolist()
    tours = [elkai.DistanceMatrix(whole).solve_tsp(runs=runs)[:-1]]
    if fast_tsp is not None:
        tours.append(fast_tsp.find_tour(whole, duration_seconds=seconds))
    return min(float(distances[tour, np.roll(tour, -1)].sum()) for tour in tours)


def main() -> None:
    """Prints one line an instance, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="tsp100", help="beginning of the tasks' names")
    parser.add_argument("--runs", type=int, default=20, help="of elkai")
    parser.add_argument("--seconds", type=float, default=1.0, help="of fast-tsp")
    parser.add_argument("--json", type=Path, help="write the means to this file")
    arguments = parser.parse_args()
    rows = []
    for task_id in task_ids("tsp"):
        if not task_id.startswith(f"tsp/{arguments.tasks}-"):
            continue
        env = make_env(task_id)
        length = -play(env, make_expert(task_id), 1_000_000).total_reward
        known = best_known(env.unwrapped.distances, arguments.runs, arguments.seconds)
        bound = largest_return(task_id)
        over_bound = np.nan if bound is None else length / -bound - 1.0
        rows.append((length / min(length, known) - 1.0, over_bound))
        print(f"{task_id}: {length:.5f}, best known {known:.5f}, over the bound {over_bound:.3%}")
    searches = ["elkai"] if fast_tsp is None else ["elkai", "fast-tsp"]
    found = summary(np.array(rows)) | {"searches": searches}
    print(
        f"{found['instances']} instances: over the best known tour {found['mean_gap']:.4%} on "
        f"average, {found['largest_gap']:.4%} at most, {found['equal']} equal to it; "
        f"over the lower bound {found['mean_over_bound']:.3%} on average, "
        f"{found['largest_over_bound']:.3%} at most"
    )
    if arguments.json:
        atomic_write_text(arguments.json, json.dumps(found, indent=1) + "\n")


def summary(gaps: np.ndarray) -> dict[str, Any]:
    """Means over the instances.

    Args:
        gaps: float64 (n, 2): over the best known tour, and over the lower bound or NaN.
    """
    over_best, over_bound = gaps.T
    return {
        "instances": len(gaps),
        "mean_gap": float(over_best.mean()),
        "largest_gap": float(over_best.max()),
        "equal": int((over_best < 1e-6).sum()),
        "mean_over_bound": float(np.nanmean(over_bound)),
        "largest_over_bound": float(np.nanmax(over_bound)),
    }


if __name__ == "__main__":
    main()
