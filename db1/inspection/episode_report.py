"""Describes an episode store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.inspection.references import StoreReferences, references_of
from db1.inspection.store_lints import store_lints, value_lints
from db1.inspection.store_report import Report, StoreReport, histogram
from db1.inspection.walk import StepLayout
from db1.store.episodes import EpisodeStore
from db1.store.frames import RAW
from db1.store.statistics import FieldStatistics
from db1.tokens.spec import FieldSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig


def describe_episodes(
    path: Path, *, verify: bool, with_environment: bool, report: Report
) -> StoreReport:
    """Checks and describes an episode store; see `stores.describe_store`."""
    store = EpisodeStore(path)
    if verify:
        store.verify(lambda done, total: report(f"{path}: checksums", done, total))
    statistics = store.statistics(
        progress=lambda done, total: report(f"{path}: values", done, total)
    )
    references = references_of(store)
    facts = _facts(store) | _scores(store, references)
    marks = {} if references is None else {"random": references.random, "expert": references.expert}
    drawn = (
        histogram("returns", store.returns, marks),
        histogram("steps of an episode", store.lengths),
    )
    summary = {
        "entries": store.num_episodes,
        "items": store.num_steps,
        "num_bytes": store.num_bytes,
        "mean": facts["return_mean"],
        "score": facts["normalised"],
    }
    findings = store_lints(store, with_environments=with_environment)
    return StoreReport(
        path=path,
        kind="episodes",
        checked=verify,
        summary=summary,
        facts=facts,
        fields={name: _figures(value) for name, value in statistics.fields.items()},
        histograms=tuple(h for h in drawn if h is not None),
        findings=tuple(findings + value_lints(store, statistics)),
    )


def _facts(store: EpisodeStore) -> dict[str, Any]:
    header, spec = store.header, store.spec
    step_tokens = StepLayout.of(spec, Vocabulary(VocabularyConfig())).min_step_tokens
    rows = [*spec.observation.values(), spec.action, FieldSpec(kind="continuous")]
    raw_bytes = store.num_steps * sum(map(_row_bytes, rows))
    is_compressed = header.image_format != RAW
    return {
        "task": header.task,
        "environment": dict(header.environment),
        "expert": header.expert,
        "action_noise": header.action_noise,
        "max_steps": header.max_steps,
        "origin": dict(header.origin),
        "created_by": header.created_by,
        "format_version": header.version,
        "image_format": header.image_format,
        "episodes": store.num_episodes,
        "steps": store.num_steps,
        "tokens": store.num_steps * step_tokens,
        "tokens_are_without_text": any(f.kind == "text" for f in spec.observation.values()),
        "step_tokens": step_tokens,
        "num_bytes": store.num_bytes,
        "raw_bytes": raw_bytes,
        "compression": raw_bytes / max(1, store.num_bytes) if is_compressed else None,
        "observation": {key: _field(f) for key, f in spec.observation.items()},
        "action": _field(spec.action),
    }


def _field(spec: FieldSpec) -> str:
    """`continuous (19, 2)`, `discrete () of 4 values`."""
    values = "" if spec.num_values is None else f" of {spec.num_values} values"
    return f"{spec.kind} {spec.shape}{values}"


def _scores(store: EpisodeStore, references: StoreReferences | None) -> dict[str, Any]:
    has_episodes = store.num_episodes > 0
    mean = float(np.mean(store.returns)) if has_episodes else None
    score = None if references is None or mean is None else references.normalised(mean)
    return {
        "return_mean": mean,
        "random": None if references is None else references.random,
        "expert_return": None if references is None else references.expert,
        "normalised": score,
        "terminated_share": float(store.terminations.mean()) if has_episodes else None,
        "success_share": _mean(store.successes),
        "seeds": [int(store.seeds.min()), int(store.seeds.max())] if has_episodes else None,
    }


def _figures(statistics: FieldStatistics) -> dict[str, Any]:
    """Figures of a field; the counts of each discrete value only where they are few."""
    figures = {key: value for key, value in statistics.__dict__.items() if value is not None}
    counts = figures.pop("value_counts", None)
    if counts is not None:
        figures["values_used"] = sum(count > 0 for count in counts)
        figures["values_known"] = len(counts)
    return figures


def _row_bytes(field_spec: Any) -> int:
    itemsize = 4 if field_spec.kind == "text" else field_spec.dtype.itemsize
    return itemsize * max(1, field_spec.size)


def _mean(values: np.ndarray) -> float | None:
    known: Sequence[float] = values[np.isfinite(values)]
    return float(np.mean(known)) if len(known) else None
