"""Output of `db1 train --dry-run`: tables of parameters, memory, work and sources."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from db1.cli.console import Console
from db1.training.sizing.plan import SourcePlan, TrainingPlan

_MANY_SOURCES = 30


def show_plan(plan: TrainingPlan, console: Console) -> None:
    """Prints a plan.

    Args:
        plan: From `db1.training.sizing.plan.plan`.
        console: Where to.
    """
    console.print(_parameters(plan))
    console.print(_training_memory(plan))
    console.print(_acting_memory(plan))
    console.print(_work(plan))
    if plan.sources_unknown is None:
        console.print(_sources(plan))
    else:
        console.print(f"mixture: not known yet: {plan.sources_unknown}", highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _parameters(plan: TrainingPlan) -> Table:
    table = _table(f"{plan.name}: parameters", "part", "parameters", "share")
    for part, count in plan.parameters.items():
        table.add_row(part, f"{count:,}", f"{100 * count / plan.num_parameters:.1f} %")
    table.add_section()
    table.add_row("total", f"{plan.num_parameters:,}", "")
    return table


def _training_memory(plan: TrainingPlan) -> Table:
    title = (
        f"memory of each of {plan.world_size} process(es), {plan.precision}, "
        f"{plan.accumulation} micro-batch(es) a step"
    )
    columns = ("parameters", "gradients", "optimizer", "buffers", "activations", "needed")
    table = _table(title, "", *columns, "with activation checkpointing")
    for way, state in plan.state.items():
        is_configured = way == plan.configured
        kept = plan.activations.total(plan.checkpointing if is_configured else False)
        table.add_row(
            f"{way} (configured)" if is_configured else way,
            *map(_size, (state.parameters, state.gradients, state.optimizer, state.buffers)),
            _size(kept),
            _size(plan.needed(way, plan.checkpointing if is_configured else False)),
            _size(plan.needed(way, True)),
            style="bold" if is_configured else None,
        )
    per_patch = _size(plan.activations.image_patch)
    table.caption = f"activations of text; an image patch adds {per_patch}"
    return table


def _acting_memory(plan: TrainingPlan) -> Table:
    columns = ("weights", "keys and values", "position terms", "needed")
    table = _table("memory for acting, float32", "episodes at once", *columns)
    for count, memory in plan.acting.items():
        parts = (memory.weights, memory.keys_and_values, memory.position_terms, memory.total)
        table.add_row(str(count), *map(_size, parts))
    return table


def _work(plan: TrainingPlan) -> Table:
    work = plan.work
    table = _table("work", "", "")
    table.show_header = False
    table.add_row("tokens of an optimizer step", f"{plan.tokens_per_step:,}")
    table.add_row("optimizer steps", f"{plan.num_steps:,}")
    table.add_row("tokens in all", f"{work.tokens:,}")
    table.add_row("operations a token (FLOPs)", f"{work.per_token:.3g}")
    table.add_row("  matrices of the layers", f"{work.layers:.3g}")
    table.add_row("  attention", f"{work.attention:.3g}")
    table.add_row("  scores of all ids, where predicted", f"{work.output:.3g}")
    table.add_row("operations in all", f"{work.model:.3g}")
    if work.recomputed:
        table.add_row("  with what is computed twice", f"{work.hardware:.3g}")
    return table


def _sources(plan: TrainingPlan) -> Table:
    """One row a source, or one a suite where they are many."""
    table = _table("mixture", "source", "share", "sequences", "stored", "passes")
    by_suite = len(plan.sources) > _MANY_SOURCES
    for group in _by_suite(plan.sources) if by_suite else [[source] for source in plan.sources]:
        first = group[0]
        single = len(group) == 1
        stored = sum(source.stored is not None for source in group)
        if single:
            figures = ("no data yet" if first.stored is None else f"{first.stored:,}",)
            figures += ("" if first.passes is None else f"{first.passes:,.1f}",)
        else:
            figures = (f"{stored} of {len(group)}", "")
        table.add_row(
            first.name if single else f"{first.name.split('/')[0]}, {len(group)} tasks",
            f"{100 * sum(source.share for source in group):.2f} %",
            f"{sum(source.sequences for source in group):,.0f}",
            *figures,
        )
    if by_suite:
        table.caption = "stored: of how many tasks; --json has each source"
    return table


def _by_suite(sources: Sequence[SourcePlan]) -> list[list[SourcePlan]]:
    groups: dict[str, list[SourcePlan]] = {}
    for source in sources:
        groups.setdefault(source.name.split("/")[0], []).append(source)
    return list(groups.values())


def _size(num_bytes: float) -> str:
    """1536 -> `1.50 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.2f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.2f} TiB"
