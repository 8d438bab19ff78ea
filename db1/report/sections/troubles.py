"""Failures, and results that do not quite compare."""

from __future__ import annotations

from collections import Counter

from db1.evaluation.references import STORE
from db1.report.blocks import Block, Facts, Prose, Section
from db1.report.material import Material
from db1.report.wording import count


def troubles(material: Material) -> Section | None:
    """Failed tasks, references of other versions, tasks without any."""
    results = material.results
    groups = {
        "failed": results["failures"],
        "scored by references of another environment version": results["version_mismatches"],
        "without reference returns, so without a score": results.get("missing_references", {}),
        "played without a prompt, for want of demonstrations": results.get("missing_prompts", {}),
    }
    blocks: list[Block] = []
    for what, tasks in groups.items():
        if tasks:
            blocks.append(Prose(text=f"{count(len(tasks), 'task')} {what}:", is_warning=True))
            blocks.append(Facts(pairs={task: str(reason) for task, reason in tasks.items()}))
    if not blocks:
        return None
    return Section(name="troubles", title="Failures and mismatches", blocks=tuple(blocks))


def references(material: Material) -> Section | None:
    """Counts of tasks by the kind of reference that normalised them."""
    counts = Counter(
        entry["reference"].get("name", STORE)
        for entry in material.results["tasks"].values()
        if entry["reference"] is not None
    )
    if not counts:
        return None
    pairs = {name: count(number, "task") for name, number in sorted(counts.items())}
    return Section(
        name="references", title="References", blocks=(Facts(pairs=pairs),), is_folded=True
    )
