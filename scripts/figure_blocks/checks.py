"""Blocks of sizes, counts and trials: what scripts and dry runs wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .text import between, digits, measured_by, percent, table

GATO = {"db1_79m": 79e6, "db1_364m": 364e6, "db1_1.2b": 1.18e9}
"""Parameters of Gato's three models. Source: Reed et al. 2022, section 4 and table 4."""

KERNELS = {
    "forward": "forward",
    "scores": "backward: scores",
    "queries": "backward: queries",
    "keys": "backward: keys and values",
}

Known = Mapping[str, Mapping[str, Any]]


def machine(known: Known) -> str:
    """Machines of all other measurements, one sentence each."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for results in known.values():
        here = results["machine"]
        keys = ("processor", "cores", "memory_gib", "torch", "python")
        groups.setdefault(tuple(here[key] for key in keys), []).append(here)
    lines = []
    for (processor, cores, memory, torch, python), found in groups.items():
        lines.append(
            f"{len(found)} measurements on {cores} cores of {processor}, {memory} GiB, torch "
            f"{torch}, Python {python}: {between(found, 'date')}, load at the start "
            f"{between(found, 'load')}, commit {', '.join(sorted({h['commit'] for h in found}))}, "
            f"{digits(sum(each['seconds'] for each in found) / 60)} minutes in all.\n"
        )
    return "\n".join(lines)


def parameters(known: Known) -> str:
    """Parameter counts of the three sizes, by dry runs."""
    rows = []
    for results in known.values():
        counts, name = results["parameters"], results["name"]
        without = counts["total"] - counts["vision"]
        off = without / GATO[name] - 1
        side = "above" if off > 0 else "below"
        rows.append([name, f"{counts['total']:,}", f"{without:,}", f"{percent(abs(off))} {side}"])
    head = ["config", "parameters", "without vision encoder", "against Gato's number"]
    return "\n".join([table(head, rows), measured_by(*known.values())])


def kernels(known: Known) -> str:
    """Registers, shared memory and spills of the fused kernels."""
    found = known["kernels"]
    gpus = sorted({row["gpu"] for row in found["rows"]})
    taken = {(row["kernel"], row["gpu"]): row for row in found["rows"]}
    rows = [
        [
            KERNELS[kernel],
            *(
                f"{taken[kernel, gpu]['registers']}, "
                f"{taken[kernel, gpu]['shared_bytes'] / 1024:.0f}"
                for gpu in gpus
            ),
        ]
        for kernel in dict.fromkeys(row["kernel"] for row in found["rows"])
    ]
    most = max(row["stack_bytes"] for row in found["rows"])
    spills = "no kernel spills" if not most else f"up to {most} bytes a thread spill"
    head = ["registers a thread, shared KiB", *gpus]
    return "\n".join([table(head, rows), f"triton {found['triton']}; {spills}.\n",
                      measured_by(found)])  # fmt: skip


def tours(known: Known) -> str:
    """The tsp expert's tours against longer searches and lower bounds."""
    found = known["tours"]
    mean, largest, over, most = (
        f"{100 * found[key]:.2g} %"
        for key in ("mean_gap", "largest_gap", "mean_over_bound", "largest_over_bound")
    )
    return (
        f"{found['instances']} instances: the expert's tour is {mean} longer than the best known "
        f"one ({' and '.join(found['searches'])}) on average, {largest} at most, {found['equal']} "
        f"equal to it; over the proved lower bound {over} on average, {most} at most.\n\n"
        f"{measured_by(found)}"
    )


def released(known: Known) -> str:
    """Time and memory of a checkpoint of the published layout."""
    found = known["released"]
    acted = found["act"]
    rows = [
        [
            f"write the synthetic checkpoint ({digits(found['checkpoint_mb'])} MB)",
            *_spent(found["write"]),
        ],
        ["`db1 convert`", *_spent(found["convert"])],
        ["load for acting", digits(acted["loading"]), digits(acted["peak_mb"])],
        [
            f"first and second action in {found['task']}",
            f"{digits(acted['first_action'])}, {digits(acted['second_action'])}",
            digits(acted["peak_mb"]),
        ],
    ]
    head = [f"step, at size {found['size']}", "seconds", "peak resident MB"]
    return "\n".join([table(head, rows), measured_by(found)])


def _spent(step: Mapping[str, float]) -> list[str]:
    return [digits(step["seconds"]), digits(step["peak_mb"])]


def text_memory(known: Known) -> str:
    """Perplexity of held-out text by length of the memory."""
    found = known["text_memory"]
    rows = [
        [
            str(row["memory_length"]),
            f"{row['perplexity']:.2f}",
            f"{row['bits_per_byte']:.3f}",
            f"{row['ratio']:.3f}",
        ]
        for scores in found["texts"].values()
        for row in scores
    ]
    counts = {row["num_tokens"] for scores in found["texts"].values() for row in scores}
    told = " and ".join(f"{count:,}" for count in sorted(counts))
    way = "a window each" if found["sliding_window"] else f"{found['target_length']} at once"
    said = f"{told} held-out tokens, {way}.\n"
    head = ["memory", "perplexity", "bits per byte", "of unigram"]
    return "\n".join([table(head, rows), said, measured_by(found)])


def faults(known: Known) -> str:
    """Kills of a training, and what came of it."""
    found = known["faults"]
    kills = ", ".join(f"{count} at a {moment}" for moment, count in found["kills"].items())
    ranks = ", ".join(f"{count} of rank {rank}" for rank, count in found["ranks"].items())
    yes = {True: "equal to the bit", False: "NOT equal"}
    return (
        f"{sum(found['kills'].values())} kills ({kills}; {ranks}) in {found['steps']} steps, "
        f"{found['starts']} starts and {digits(found['seconds'])} s: weights "
        f"{yes[found['equal_weights']]}, losses {yes[found['equal_losses']]}, "
        f"{len(found['problems'])} problems.\n\n{measured_by(found)}"
    )


def fuzz(known: Known) -> str:
    """The storms of bad input."""
    found = known["fuzz"]
    keys = ("trials", "refused", "found", "faults")
    rows = [
        [f"`{row['name']}`", *(f"{row[key]:,}" for key in keys), digits(row["seconds"]),
         str(row["seed"])]
        for row in found["rows"]
    ]  # fmt: skip
    head = ["storm", "trials", "refused", "findings", "faults", "seconds", "seed"]
    return "\n".join([table(head, rows), measured_by(found)])


def stranger(known: Known) -> str:
    """From a clone to a film, and with it the quickstart's stages."""
    found = known["stranger"]
    seconds = {row["stage"]: row["seconds"] for row in found["rows"]}
    parts = ", ".join(f"{stage} {digits(took)} s" for stage, took in seconds.items())
    lines = [
        f"From `git clone` to the first film of an agent (`{found['film']}`, "
        f"{digits(found['film_kb'])} kB): {digits(sum(seconds.values()))} s ({parts}).\n"
    ]
    if stages := found.get("quickstart"):
        rows = [[row["stage"], digits(row["seconds"])] for row in stages]
        total = digits(sum(row["seconds"] for row in stages))
        lines.append(table(["stage of the quickstart", "seconds"], [*rows, ["all", total]]))
    return "\n".join([*lines, measured_by(found)])
