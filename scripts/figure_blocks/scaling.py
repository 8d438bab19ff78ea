"""Tables of docs/scaling.md from docs/results/scaling.json (`db1 bench scaling --json`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from db1.cli.scaling import both_efficiencies, count, gigabytes, percent

from .text import measured_by, table

Results = Mapping[str, Any]

FEW, MANY = 8, 512
"""Numbers of GPUs in the table of a step: one machine, and one sequence a GPU."""
MEMORY_AT = 64
"""Number of GPUs in the table of memory by part."""
SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Numbers of GPUs in the table of efficiencies."""
WHY = {
    "batch": "one sequence a GPU",
    "network": "network",
    "memory": "memory",
}


def sizes(results: Results) -> str:
    """Parameters, work, and activations of one sequence."""
    head = ["size", "parameters", "FLOPs a token", "tokens/s a GPU", "kept, GB", "recomputed, GB"]
    rows = []
    for size in results["sizes"]:
        kept = size["activations_of_a_sequence"]
        rows.append(
            [
                size["name"],
                f"{size['parameters']:,}",
                f"{size['operations_a_token']:.3g}",
                f"{size['tokens_a_second_of_a_gpu']:,.0f}",
                gigabytes(kept["kept"]),
                gigabytes(kept["recomputed"]),
            ]
        )
    options = (
        f"--{n.replace('_', '-')} {v}" for n, v in results["assumed"].items() if v is not None
    )
    return "\n".join([table(head, rows), f"Assumed: `{' '.join(options)}`.\n"])


def states(results: Results) -> str:
    """Weights, gradients, optimizer states and buffers of a GPU, by number of GPUs and stage."""
    head = ["size", "GPUs", *(f"ZeRO {stage}" for stage in range(4))]
    rows = []
    for size in results["sizes"]:
        for gpus in sorted({row["gpus"] for row in size["rows"]}):
            found = [row["state"] for row in size["rows"] if row["gpus"] == gpus]
            totals = (gigabytes(sum(state.values())) for state in found)
            rows.append([size["name"], f"{gpus:,}", *totals])
    return table(head, rows)


def memory(results: Results) -> str:
    """The same by part, at `MEMORY_AT` GPUs."""
    parts = ("parameters", "gradients", "optimizer", "buffers")
    head = ["size", "ZeRO", "weights", "gradients", "Adam", "buffers"]
    rows = [
        [size["name"], str(row["zero_stage"]), *(gigabytes(row["state"][part]) for part in parts)]
        for size in results["sizes"]
        for row in size["rows"]
        if row["gpus"] == MEMORY_AT
    ]
    return table(head, rows)


def steps(results: Results) -> str:
    """A step of the configuration's micro-batch: what is sent, and what it costs."""
    head = [
        "size", "GPUs", "ZeRO", "at once", "sent, GB", "by adapter, GB", "network, s", "compute, s",
        "overlapped", "in turn",
    ]  # fmt: skip
    rows = []
    for size in results["sizes"]:
        for row in size["rows"]:
            step = row["step"]
            if row["gpus"] not in (FEW, MANY) or row["zero_stage"] == 1 or step is None:
                continue
            rows.append(
                [
                    size["name"],
                    f"{row['gpus']:,}",
                    str(row["zero_stage"]),
                    f"{step['micro_batch']} ({step['accumulation']} times)",
                    gigabytes(step["sent"]),
                    gigabytes(step["adapter"]),
                    f"{step['network']:.3g}",
                    f"{step['compute']:.3g}",
                    percent(step["overlapped"]),
                    percent(step["not_overlapped"]),
                ]
            )
    return table(head, rows)


def best(results: Results) -> str:
    """Efficiency of the fastest way that fits, by number of GPUs."""
    rows = []
    for size in results["sizes"]:
        found = {way["gpus"]: way["step"] for way in size["best"]}
        rows.append([size["name"], *(both_efficiencies(found.get(gpus)) for gpus in SHOWN)])
    return table(["size", *map(str, SHOWN)], rows)


def limits(results: Results) -> str:
    """Numbers of GPUs at which data parallelism begins and ends."""
    head = ["size", "fits from", "overlapped: up to", "ends by", "in turn: up to", "ends by"]
    rows = []
    for size in results["sizes"]:
        found = size["limits"]
        cells = [
            text
            for key in ("overlapped", "not_overlapped")
            for text in (count(found[key]["gpus"]), WHY[found[key]["why"]])
        ]
        rows.append([size["name"], count(found["least_gpus"]), *cells])
    return table(head, rows)


def stores(results: Results) -> str:
    """Speed of stores on one core, measured."""
    head = ["samples", "tokens/s", "MB/s read", "kB read", "reads", "kB in a batch"]
    rows = [
        [
            found["name"],
            f"{found['tokens_a_second']:,.0f}",
            f"{found['stored_bytes_a_second'] / 1e6:,.0f}",
            f"{found['stored_bytes'] / 1e3:,.1f}",
            str(found["reads"]),
            f"{found['batch_bytes'] / 1e3:,.1f}",
        ]
        for found in results["measured"]
    ]
    return "\n".join([table(head, rows), measured_by(results)])


def readers(results: Results) -> str:
    """Bytes and reader processes that one GPU of each size asks for."""
    head = [
        "size", "samples", "MB/s read", "MB/s to the GPU", "readers, in memory",
        "readers, network", "link of a machine",
    ]  # fmt: skip
    rows = [
        [
            row["size"],
            row["modality"],
            f"{row['stored_bytes_a_second'] / 1e6:,.1f}",
            f"{row['batch_bytes_a_second'] / 1e6:,.1f}",
            str(row["readers_local"]),
            str(row["readers_network"]),
            f"{100 * row['network_share']:,.1f} %",
        ]
        for row in results["needed"]
    ]
    return table(head, rows)


def _block(make: Callable[[Results], str]) -> Callable[[Mapping[str, Results]], str]:
    return lambda known: make(known["scaling"])


BLOCKS: Mapping[str, Callable[[Mapping[str, Results]], str]] = {
    "scaling_sizes": _block(sizes),
    "scaling_states": _block(states),
    "scaling_memory": _block(memory),
    "scaling_steps": _block(steps),
    "scaling_best": _block(best),
    "scaling_limits": _block(limits),
    "scaling_stores": _block(stores),
    "scaling_readers": _block(readers),
}
"""Makers of blocks by name; each is made from the results `scaling`."""
