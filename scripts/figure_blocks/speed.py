"""Blocks of side-by-side measurements: what `db1 bench` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .text import digits, measured_by, table, times

OURS, RELEASED = "db1", "released"
HIDDEN, WHOLE, RING = "hidden states", "whole text", "ring"
MEMORY, WINDOW = "hidden-state memory", "recomputed window"
PUBLISHED = "Transformer-XL reports, window against hidden-state memory"

Known = Mapping[str, Mapping[str, Any]]


def _ms(comparison: Mapping[str, Any], name: str) -> float:
    return 1e3 * comparison["timings"][name]["median_seconds"]


def _ratio(comparison: Mapping[str, Any], name: str, to: str = OURS) -> str:
    return times(_ms(comparison, name) / _ms(comparison, to))


def _all(known: Known) -> list[Mapping[str, Any]]:
    return [comparison for results in known.values() for comparison in results["comparisons"]]


def _work(comparison: Mapping[str, Any]) -> str:
    """Work of a comparison, without the measurement's name in front."""
    return comparison["work"].split(": ", 1)[-1]


def _most(comparisons: Iterable[Mapping[str, Any]], note: str) -> str:
    return f"{max(each['notes'][note] for each in comparisons):.1e}"


def train(known: Known) -> str:
    """A training step against the released formulation, and what is counted on shapes."""
    comparisons = _all(known)
    peak = "peak memory beyond weights, MB, "
    head = ["step", "db1, ms", "released, ms", "ratio", "peak MB: db1", "released"]
    rows = [
        [
            _work(each),
            digits(_ms(each, OURS)),
            digits(_ms(each, RELEASED)),
            _ratio(each, RELEASED),
            *(digits(each["notes"][peak + name]) for name in (OURS, RELEASED)),
        ]
        for each in comparisons
    ]
    speeds = [
        [
            _work(each),
            *(
                digits(each["notes"][note])
                for note in (
                    "operations of a step, 10^9",
                    "10^9 operations a second, db1",
                    "10^9 operations a second, one large product",
                    "least ms at that speed",
                )
            ),
        ]
        for each in comparisons
    ]
    work = ["step", "GFLOP", "GFLOP/s of db1", "of one large product", "least ms at that speed"]
    difference = _most(comparisons, "largest difference, relative")
    said = f"Losses and gradients differ by at most {difference} of their size.\n"
    parts = [table(head, rows), said, table(work, speeds), _counted(comparisons[0]["notes"])]
    return "\n".join([*parts, measured_by(*known.values())])


def _counted(notes: Mapping[str, Any]) -> str:
    return (
        f"Counted on shapes, without a device, on the path of a GPU without fused kernels: "
        f"{notes['operations a layer, uncompiled']} operations a layer uncompiled, forward and "
        f"backward, which read and write {digits(notes['MB that a layer reads and writes'])} MB; "
        f"the host waits {notes['host waits a micro-batch']} times in a micro-batch; "
        f"{notes['graph breaks']} graph breaks, {notes['graphs']} graphs, "
        f"{notes['graphs traced again']} traced again for other targets.\n"
    )


def decode(known: Known) -> str:
    """Acting with cached keys and values against recomputing the memory."""
    comparisons = _all(known)
    head = ["setting", "db1, ms a token", "ring", HIDDEN, "ratio", WHOLE, "ratio"]
    rows = []
    for each in comparisons:
        whole = WHOLE in each["timings"]
        rows.append(
            [
                _work(each),
                *(digits(_ms(each, name)) for name in (OURS, RING, HIDDEN)),
                _ratio(each, HIDDEN),
                digits(_ms(each, WHOLE)) if whole else "-",
                _ratio(each, WHOLE) if whole else "-",
            ]
        )
    difference = _most(comparisons, "largest difference of the outputs")
    return "\n".join(
        [
            table(head, rows),
            f"Outputs differ by at most {difference}.\n",
            measured_by(*known.values()),
        ]
    )


def attention(known: Known) -> str:
    """One layer's attention by db1's kernel and the others."""
    limit = "limit by bytes and operations, ms"
    head = ["work", "kernel", "ms a pass", "ratio", "peak MB", "least ms of the device"]
    rows = []
    for each in _all(known):
        notes = each["notes"]
        for name in each["timings"]:
            ours = name == OURS
            rows.append(
                [
                    _work(each) if ours else "",
                    f"db1: {notes[chosen]}" if ours and (chosen := "db1's kernel") else name,
                    digits(_ms(each, name)),
                    "" if ours else _ratio(each, name),
                    digits(notes[f"peak memory of {name}, MB"]),
                    digits(notes[limit]) if ours else "",
                ]
            )
    difference = _most(_all(known), "largest difference from the reference, relative")
    said = f"Results differ from the reference's by at most {difference} of their size.\n"
    return "\n".join([table(head, rows), said, measured_by(*known.values())])


def perplexity(known: Known) -> str:
    """Scoring text with a memory against recomputed windows."""
    head = ["work", "cached keys (db1), ms a token", HIDDEN, WINDOW,
            "window / cached keys", "window / hidden states", "published"]  # fmt: skip
    comparisons = _all(known)
    rows = [
        [
            _work(each),
            *(digits(_ms(each, name)) for name in (OURS, MEMORY, WINDOW)),
            _ratio(each, WINDOW),
            _ratio(each, WINDOW, MEMORY),
            f"{each['notes'][PUBLISHED]:,}" if PUBLISHED in each["notes"] else "-",
        ]
        for each in comparisons
    ]
    difference = _most(comparisons, "largest difference of the memories' outputs")
    said = f"The two memories' outputs differ by at most {difference}.\n"
    return "\n".join([table(head, rows), said, measured_by(*known.values())])


def data(known: Known) -> str:
    """The data engine: samples, batches, indices and stores."""
    comparisons = _all(known)
    parts = [_contenders(comparisons, starts) for starts in DATA_TABLES]
    return "\n".join([*parts, *_openings(comparisons), measured_by(*known.values())])


DATA_TABLES = (("samples of",), ("batches of", "waiting for"), ("sample index", "blend"),
               ("append", "read"))  # fmt: skip
"""Beginnings of the work that one table tells of."""


def _contenders(comparisons: Iterable[Mapping[str, Any]], starts: tuple[str, ...]) -> str:
    """A row a contender."""
    rows = []
    for each in comparisons:
        if not each["work"].startswith(starts):
            continue
        work, readers = each["work"], each["notes"].get("db1 runs with")
        for name, timing in each["timings"].items():
            told = f"db1, {readers}" if name == OURS and readers else name
            speed = f"{digits(1 / timing['median_seconds'])} {each['unit']}s"
            rows.append([work, told, speed, "" if name == OURS else _ratio(each, name)])
            work = ""
    return table(["work", "by", "a second", "db1 is faster by"], rows)


def _openings(comparisons: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for each in comparisons:
        notes = each["notes"]
        if each["work"].startswith("opening"):
            yield (
                f"{each['work'].capitalize()} takes {digits(1e3 * notes['seconds to open all'])} "
                f"ms, the first sample of each "
                f"{digits(1e3 * notes['seconds for the first sample of each'])} ms; together "
                f"{_size(notes['megabytes of memory, both'])} of memory.\n"
            )
        sizes = {key: value for key, value in notes.items() if key.startswith("bytes ")}
        if sizes:
            told = "; ".join(f"{key.removeprefix('bytes ')} {digits(value)}" for key, value in
                             sizes.items())  # fmt: skip
            yield f"{each['work'].capitalize()}, bytes: {told}.\n"


def _size(megabytes: float | str) -> str:
    return megabytes if isinstance(megabytes, str) else f"{digits(megabytes)} MB"


def freed_memory(known: Known) -> str:
    """A training step with glibc's defaults and with large blocks kept."""
    results = known["freed_memory"]
    rows = []
    for row in results["rows"]:
        default, kept = (row["tokens_per_second"][way] for way in ("default", "kept"))
        rows.append([str(row["threads"]), digits(default), digits(kept), times(kept / default)])
    head = ["threads", "default, tokens/s", "kept, tokens/s", "ratio"]
    return "\n".join([table(head, rows), measured_by(results)])


def serving(known: Known) -> str:
    """Sessions served by one process against processes that act alone."""
    found = known["serving"]["figures"]
    rows = [
        ["acts a second"]
        + [digits(found[f"{who}_acts_per_second"]) for who in ("served", "alone")],
        ["processor ms an act", digits(found["served_cpu_ms"]), digits(found["alone_cpu_ms"])],
        [
            "memory together, MB",
            digits(found["served_resident_mb"]),
            digits(found["alone_proportional_mb_sum"]),
        ],
    ]
    ratios = ("ratio_acts_per_second", "ratio_cpu", "ratio_memory")
    rows = [[*row, times(found[ratio])] for row, ratio in zip(rows, ratios, strict=True)]
    said = (
        f"{found['alone_why']}. A pass held {digits(found['served_rows_in_a_pass'])} sessions on "
        f"average; an act took {digits(found['served_median_ms'])} ms in the median and "
        f"{digits(found['served_worst_ms'])} ms at worst. No session starved: the first to finish "
        f"needed {digits(found['served_slowest_session_to_fastest'])} of the time of the last.\n"
    )
    head = ["figure", "served, one process", f"{found['alone_processes']} processes alone", "ratio"]
    return "\n".join([table(head, rows), said, measured_by(known["serving"])])


def importers(known: Known) -> str:
    """Readers of foreign data: speed and memory."""
    found = known["importers"]
    keys = ("source_mb", "steps", "steps_per_second", "resident_before_mb", "resident_peak_mb")
    head = ["kind", "source, MB", "steps", "steps/s", "resident before, MB", "at most, MB"]
    rows = [[row["kind"], *(digits(row[key]) for key in keys)] for row in found["rows"]]
    return "\n".join([table(head, rows), measured_by(found)])


def suites(known: Known) -> str:
    """Environments of each suite: steps a second, seconds to make one."""
    found = known["suites"]
    rows = [
        [
            row["suite"],
            _range(row["slowest"], row["fastest"]),
            digits(row["first_seconds"]),
            digits(row["seconds"]),
        ]
        for row in found["rows"]
    ]
    head = ["suite", "steps/s", "first environment made in, s", "another one, s"]
    return "\n".join([table(head, rows), measured_by(found)])


def _range(low: float, high: float) -> str:
    one, other = digits(low), digits(high)
    return one if one == other else f"{one} to {other}"
