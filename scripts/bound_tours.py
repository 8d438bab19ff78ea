"""Lower bounds of the fixed tsp instances: no tour is shorter, so no return is larger.

The bound is Held and Karp's: whatever prices the cities get, the cheapest spanning tree that uses
one city twice (a 1-tree) costs at most as much as the cheapest tour; prices are raised where a tree
branches and lowered where it ends. A price path that stops early still gives a true bound.

    python scripts/bound_tours.py --iterations 600

Source: Held and Karp 1971, "The traveling-salesman problem and minimum spanning trees: part II";
step sizes as in Volgenant and Jonker 1982.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from db1.suites import make_env, task_ids
from db1.suites.scores import references_of
from db1.suites.scores.standing import BOUNDS

WHY = "minus Held and Karp's lower bound of the tour (scripts/bound_tours.py)"


def one_tree(costs: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the cost of the cheapest 1-tree, and each city's number of edges.

    Args:
        costs: float64 (n, n), symmetric, infinite on the diagonal.
    """
    n = len(costs)
    degrees = np.zeros(n, dtype=np.int64)
    # A spanning tree of all cities but the first, by Prim's algorithm.
    nearest, parent = costs[1].copy(), np.ones(n, dtype=np.int64)
    outside = np.ones(n, dtype=bool)
    outside[:2] = False
    total = 0.0
    for _ in range(n - 2):
        city = int(np.argmin(np.where(outside, nearest, np.inf)))
        total += nearest[city]
        degrees[[city, parent[city]]] += 1
        outside[city] = False
        closer = costs[city] < nearest
        nearest[closer], parent[closer] = costs[city][closer], city
    ends = np.argsort(costs[0])[:2]
    degrees[ends] += 1
    degrees[0] = 2
    return total + float(costs[0, ends].sum()), degrees


def lower_bound(distances: np.ndarray, upper: float, iterations: int) -> float:
    """Returns a length that no closed tour undercuts.

    Args:
        distances: float64 (n, n).
        upper: Length of some tour; it sets the step sizes only.
        iterations: Steps of the prices.
    """
    costs = distances.astype(np.float64).copy()
    np.fill_diagonal(costs, np.inf)
    prices = np.zeros(len(costs))
    best, factor, stale, before = -np.inf, 2.0, 0, np.zeros(len(costs))
    for _ in range(iterations):
        cost, degrees = one_tree(costs + prices[:, None] + prices[None, :])
        bound = cost - 2.0 * prices.sum()
        stale = 0 if bound > best + 1e-9 else stale + 1
        best = max(best, bound)
        if stale == 12:
            factor, stale = factor / 2.0, 0
        slope = (degrees - 2).astype(np.float64)
        if not slope.any():
            return best  # the 1-tree is a tour: the optimum
        step = factor * max(upper - bound, 1e-6 * upper) / np.square(slope).sum()
        prices += step * (0.6 * slope + 0.4 * before)
        before = slope
    return best


def main() -> None:
    """Bounds every fixed instance and writes the entries into `bounds.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--out", type=Path, default=BOUNDS)
    arguments = parser.parse_args()
    content = json.loads(arguments.out.read_text(encoding="utf-8"))
    for task_id in task_ids("tsp"):
        if "/uniform" in task_id:
            continue  # other cities for every seed
        env = make_env(task_id)
        env.reset(seed=1_000_000)
        expert = references_of(task_id)["measured"].expert
        bound = lower_bound(env.unwrapped.distances, -expert, arguments.iterations)
        content[task_id] = {"return": -math.floor(bound * 1e6) / 1e6, "why": WHY}
        print(f"{task_id}: bound {bound:.4f}, expert {-expert:.4f}, gap {-expert / bound - 1:.2%}")
    lines = [f" {json.dumps(task)}: {json.dumps(entry)}" for task, entry in sorted(content.items())]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
