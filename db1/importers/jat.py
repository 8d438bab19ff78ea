"""Episodes of the JAT data set: parquet, one row an episode.

    continuous_observations list<list<float>>    continuous_actions list<list<float>>
    discrete_observations   list<list<int>>      discrete_actions   list<int>
    text_observations       list<string>         rewards            list<float>
    image_observations      list<struct<bytes, path>>

At least one column of observations and exactly one of actions; further columns are ignored.
Pictures are 84x84 with four grey frames, the newest last, as channels: see `pictures.py` for what
is stored. Actions of the MuJoCo tasks are rescaled from their bounds (`jat_tasks.py`); actions that
a recorded policy chose outside of them need --clip-actions. JAT does not say how an episode ended:
`terminated` is False everywhere.

SOURCE is a parquet file, a folder of them, or a data set on the Hugging Face hub with --config;
with --all-configs a folder with a folder a task, or the whole data set on the hub.

Source: Gallouédec et al. 2024, arXiv:2402.09844; jat-project/jat-dataset.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, MissingExtra
from db1.files import resolved
from db1.formats.fields import MAX_DISCRETE, BadEpisode, SourceField, infer_field
from db1.formats.parquet import ParquetRows, dense, find_parquet, innermost
from db1.formats.picture_bytes import decode_all
from db1.formats.pictures import FRAMES
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import fingerprint
from db1.importers.jat_tasks import ACTION_BOUND, jat_task_id
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option

logger = logging.getLogger(__name__)

OBSERVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "continuous_observations": "state",
        "discrete_observations": "symbols",
        "image_observations": "pixels",
        "text_observations": "text",
    }
)
"""Observation key that is stored by column, for tasks that db1 does not have."""
ACTIONS = ("continuous_actions", "discrete_actions")
REWARDS = "rewards"


@dataclass(frozen=True, kw_only=True)
class JatOptions(EpisodeOptions):
    """Options of `db1 import jat`."""

    config: str | None = option(
        None, "JAT's name of the task (mujoco-hopper); default: the name of the folder."
    )
    split: str = option("train", "Split: how the files' names begin.")
    all_configs: bool = option(
        False, "Import every control task of SOURCE, each into its own folder OUT/<suite>/<task>."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.all_configs and (self.config or self.task):
            raise ConfigError("--all-configs goes with neither --config nor --task")

    def lasting(self) -> dict[str, Any]:
        return {k: v for k, v in super().lasting().items() if k != "all_configs"}


class JatSource(EpisodeSource):
    """Episodes of one JAT task.

    Args:
        name: Absolute path or hub id.
        files: Its parquet files in order.
        config: JAT's name of the task; may be unknown to JAT.
        options: How fields are converted.
        known_task: Task of db1 that fixes the fields; integers need no scan then.
    """

    def __init__(
        self,
        name: str,
        files: list[str],
        config: str,
        options: JatOptions,
        *,
        knows_task: bool = False,
    ) -> None:
        self.packed_by_key = True  # BabyAI's direction stands before its grid
        self.name = name
        self.task = jat_task_id(config)
        self._rows = ParquetRows(files, name)
        self.num_episodes = self._rows.num_rows
        self._observation_columns, self._action_column, self.notes = _columns(
            self._rows.schema.names, name
        )
        _check_types(self._rows.schema, self.columns, name)
        local = [Path(file) for file in files if "://" not in file]
        self.origin = {
            "kind": "jat",
            "source": name,
            "config": config,
            "split": options.split,
            "fingerprint": fingerprint(local) if local else files,
        }
        self._knows_task = knows_task
        self.observation = {
            OBSERVATIONS[column]: self._field(column, options)
            for column in self._observation_columns
        }
        action = self._field(self._action_column, options)
        bound = ACTION_BOUND.get(config)
        if bound is not None and action.kind == "continuous":
            action = action.with_bounds(-bound, bound)
        self.action = action_field(action, options)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [*self._observation_columns, self._action_column, REWARDS]

    def episodes(self, first: int) -> Iterator[Load]:
        for number, row in enumerate(self._rows.rows(first, self.columns), start=first):
            yield partial(self._load, number, row)

    def returns(self) -> Iterator[float]:
        for row in self._rows.rows(0, [REWARDS]):
            values = row.column(0)[0].values
            yield float(np.sum(np.asarray(values), dtype=np.float64)) if values else 0.0

    def _load(self, number: int, row: Any) -> SourceEpisode:
        where = f"{self.name} episode {number}"
        arrays = {c: _decode(row.column(c)[0], c, f"{where}: {c}") for c in self.columns}
        return SourceEpisode(
            observations={OBSERVATIONS[c]: arrays[c] for c in self._observation_columns},
            actions=arrays[self._action_column],
            rewards=arrays[REWARDS],
        )

    def _field(self, column: str, options: JatOptions) -> SourceField:
        """The field of a column, from its first episode with a step; integers from all."""
        where = f"{self.name}: {column}"
        for row in self._rows.rows(0, [column]):
            if row.column(0)[0].is_valid and len(row.column(0)[0].values):
                first = _decode(row.column(0)[0], column, where)
                break
        else:
            raise DataError(f"{self.name}: no episode with a step")
        is_scanned = not self._knows_task or column in ACTIONS
        scan = partial(self._value_range, column) if is_scanned else lambda: (0, MAX_DISCRETE - 1)
        field = infer_field(
            first.dtype, first.shape[1:], scan, where,
            image_size=options.image_size, frames=options.pictures or FRAMES[0],
        )  # fmt: skip
        wanted = column.split("_")[0]
        if field.kind != wanted and not (wanted == "continuous" and field.kind == "discrete"):
            raise DataError(f"{where}: {field.kind} values ({first.dtype}), expected {wanted} ones")
        return replace(
            field, kind=wanted, num_values=field.num_values if wanted == "discrete" else None
        )

    def _value_range(self, column: str) -> tuple[int, int]:
        low, high = 0, 0
        for number, row in enumerate(self._rows.rows(0, [column])):
            cell = row.column(0)[0]
            values = dense(cell.values, f"{self.name} episode {number}") if cell.is_valid else []
            if len(values):
                low, high = min(low, int(np.min(values))), max(high, int(np.max(values)))
        return low, high


def import_jat(
    source: str, out: Path, options: JatOptions, context: ImportContext
) -> ImportSummary:
    """Imports one task of JAT, or all of them; see `import_episodes`."""
    if options.all_configs:
        return _import_all(source, out, options, context)
    path = Path(source)
    if path.exists():
        files = find_parquet(path, options.split)
        config = options.config or _config_of(path, files)
        name = str(resolved(path))
    else:
        files, config = hub_files(source, options), options.config or ""
        name = f"{source}:{config}"
    task = options.task or jat_task_id(config)
    knows_task = task is not None and context.known_spec(task) is not None
    reader = JatSource(name, files, config, options, knows_task=knows_task)
    return import_episodes(reader, out, options, context)


def _import_all(
    source: str, out: Path, options: JatOptions, context: ImportContext
) -> ImportSummary:
    """Imports every task that JAT's names give a task id; one that fails costs itself only.

    Raises:
        ConfigError: There is none.
        DataError: After all were tried, when some failed; names them.
    """
    path = Path(source)
    configs = sorted(p.name for p in path.iterdir()) if path.is_dir() else hub_configs(source)
    tasks = {config: task for config in configs if (task := jat_task_id(config)) is not None}
    if not tasks:
        raise ConfigError(
            f"{source}: no folder of a JAT task, such as metaworld-assembly; found "
            f"{', '.join(configs[:5]) or 'nothing'}"
        )
    done: dict[str, ImportSummary] = {}
    failures: dict[str, str] = {}
    for config, task in tasks.items():
        named = None if path.is_dir() else config  # a folder's name says it
        one = replace(options, all_configs=False, config=named)
        place = str(path / config) if path.is_dir() else source
        try:
            done[task] = import_jat(place, out / task, one, context)
        except DataError as error:
            failures[task] = str(error)
            logger.error("%s", error)
    if failures:
        listed = "; ".join(f"{task}: {why}" for task, why in failures.items())
        raise DataError(f"{len(failures)} of {len(tasks)} tasks failed: {listed}")
    others = len(configs) - len(tasks)
    counts: Counter[str] = Counter()
    for summary in done.values():
        counts.update(summary.counts)
    notes = [f"{len(done)} tasks, each in {out}/<suite>/<task>"]
    notes += [f"ignored {others} sets that are not control tasks"] if others else []
    return ImportSummary(
        source=source,
        out=out,
        unit="episodes",
        num_stored=sum(summary.num_stored for summary in done.values()),
        num_before=sum(summary.num_before for summary in done.values()),
        counts=counts,
        notes=tuple(notes),
    )


def hub_configs(source: str) -> list[str]:
    """Names of the configurations of a data set on the Hugging Face hub.

    Raises:
        MissingExtra: The package `datasets` is not installed.
        DataError: No such data set, or no network.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "import", f"reading {source} from the hub") from None
    try:
        return sorted(datasets.get_dataset_config_names(source))
    except Exception as error:  # the hub's client raises many kinds
        raise DataError(
            f"{source}: no such folder, not found on the hub, or no network "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); download its parquet files "
            "and pass their folder"
        ) from None


def hub_files(source: str, options: JatOptions) -> list[str]:
    """The parquet files of a data set on the Hugging Face hub, read where they lie.

    Raises:
        ConfigError: Without --config.
        MissingExtra: The package `datasets` is not installed.
        DataError: No such data set or split, or no network.
    """
    if options.config is None:
        raise ConfigError(f"{source}: no such file or folder; for a hub id name the --config too")
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "import", f"reading {source} from the hub") from None
    try:
        builder = datasets.load_dataset_builder(source, name=options.config)
    except Exception as error:  # the hub's client raises many kinds
        raise DataError(
            f"{source} ({options.config}): not found on the hub, or no network "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); download its parquet files "
            "and pass their folder"
        ) from None
    found = builder.config.data_files or {}
    if options.split not in found:
        raise DataError(f"{source}: no split {options.split!r}, expected one of {sorted(found)}")
    return [str(file) for file in found[options.split]]


def _config_of(path: Path, files: list[str]) -> str:
    """JAT's name of the task: the nearest folder or file name that is one."""
    candidates = [path.name, Path(files[0]).parent.name, path.stem]
    return next((name for name in candidates if jat_task_id(name)), candidates[0])


def _columns(names: list[str], where: str) -> tuple[list[str], str, tuple[str, ...]]:
    """Observation columns, the action column, and what to tell the user."""
    observations = [column for column in OBSERVATIONS if column in names]
    actions = [column for column in ACTIONS if column in names]
    if REWARDS not in names or not observations or len(actions) != 1:
        raise DataError(
            f"{where}: columns {sorted(names)}, expected {REWARDS}, one of {ACTIONS} and at least "
            f"one of {tuple(OBSERVATIONS)}; this is not a parquet file of a JAT control task"
        )
    others = sorted({*names} - {*observations, *actions, REWARDS})
    notes = (f"ignored the columns {', '.join(others)}",) if others else ()
    return observations, actions[0], notes


def _check_types(schema: Any, columns: list[str], where: str) -> None:
    """Refuses columns that do not hold one list a row.

    Raises:
        DataError: Naming the column, its type and the one that is expected.
    """
    from pyarrow import types

    for column in columns:
        kind = schema.field(column).type
        inside, depth = innermost(kind)
        if column == "text_observations":
            expected = "list<string>"
            is_right = depth == 1 and (types.is_string(inside) or types.is_large_string(inside))
        elif column == "image_observations":
            expected = "list<struct<bytes: binary, path: string>>"
            names = [field.name for field in inside] if types.is_struct(inside) else []
            is_right = depth == 1 and "bytes" in names
        else:
            expected = "list<list<float>> or list<float>"
            is_number = types.is_floating(inside) or types.is_integer(inside)
            is_right = depth >= 1 and (is_number or types.is_boolean(inside))
        if not is_right:
            raise DataError(
                f"{where}: the column {column!r} is {kind}, expected {expected}: a row is one "
                "episode, and each of its columns a list with one entry a step"
            )


def _decode(cell: Any, column: str, where: str) -> np.ndarray:
    """One cell of the table -> the array of an episode."""
    if not cell.is_valid:
        raise BadEpisode(f"{where}: missing")
    return _DECODERS.get(column, _numbers)(cell, where)


def _numbers(cell: Any, where: str) -> np.ndarray:
    return dense(cell.values, where)


def _texts(cell: Any, where: str) -> np.ndarray:
    texts = np.empty(len(cell.values), dtype=object)
    texts[:] = cell.values.to_pylist()
    return texts


def _pictures(cell: Any, where: str) -> np.ndarray:
    """Decodes the stored bytes; a `path` beside them is never opened."""
    contents = [entry["bytes"].as_py() if entry.is_valid else None for entry in cell.values]
    return decode_all(contents, where, keeps_frames=True)


_DECODERS: Mapping[str, Callable[[Any, str], np.ndarray]] = MappingProxyType(
    {"text_observations": _texts, "image_observations": _pictures}
)

IMPORTERS.register("jat")(
    ImportKind(
        run=import_jat,
        options=JatOptions,
        help="One task of the JAT data set (parquet).",
        source_help="A parquet file, a folder of them, or a hub id with --config.",
        example="db1 import jat jat-dataset/metaworld-assembly --out data/metaworld/assembly-v3",
    )
)
