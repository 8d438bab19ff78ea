"""Episodes of RLDS data sets that TFDS prepared: folders of TFRecord files, without TensorFlow.

    features.json, dataset_info.json, <name>-<split>.tfrecord-00000-of-00016, ...

    steps/observation(/*)          observations
    steps/action(/*)               the action; several parts are put one after the other by name
    steps/reward                   rewards
    steps/is_terminal              of the last step: the task itself ended
    steps/*language_instruction    text, kept as the episode's metadata `instruction`

RLDS leaves action and reward of an episode's last step undefined: it holds the final observation.
Many sets of Open X-Embodiment make it a step like the others. --last-step says which; without it
sets with instructions are the latter; a reward in a last step that would be dropped is an error.

Covers rlu_atari, rlu_control_suite, rlu_dmlab and Open X-Embodiment.

Source: Ramos et al. 2021, arXiv:2111.02767; https://github.com/google-research/rlds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of
from db1.files import resolved
from db1.formats.fields import MAX_DISCRETE, BadEpisode, SourceField, image_field, infer_field
from db1.formats.rlds_features import FILE, Feature, read_features
from db1.formats.tfrecord import Values, parse_example, read_record, record_offsets
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import listing_fingerprint
from db1.importers.registry import (
    IMPORTERS,
    ImportContext,
    ImportKind,
    ImportSummary,
    option,
)

OBSERVATION, ACTION, REWARD = "steps/observation", "steps/action", "steps/reward"
IS_TERMINAL = "steps/is_terminal"
INSTRUCTION = "instruction"
LAST_STEPS = ("observation", "step")
_SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord(?:-\d+-of-(?P<count>\d+))?")
_ALONE = {"tensor": "state", "image": "pixels", "text": "text"}


@dataclass(frozen=True, kw_only=True)
class RldsOptions(EpisodeOptions):
    """Options of `db1 import rlds`."""

    split: str = option("train", "Split, as in the files' names.")
    fields: str | None = option(None, "Observations to keep, as image,state; default: all.")
    last_step: str | None = option(
        None, "The last step is the final `observation`, or a `step` like the others."
    )
    instruction_field: bool = option(False, "Give every step its instruction as an observation.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_step is not None:
            check_one_of("--last-step", self.last_step, LAST_STEPS)


class RldsSource(EpisodeSource):
    """Episodes of one RLDS data set.

    Args:
        path: Folder of one version, or one above it.
        options: What is kept and how.
        knows_task: Whether the task's step spec is known: integers of observations need no scan.

    Raises:
        ConfigError: No such folder, split or field.
        DataError: Broken files.
    """

    def __init__(self, path: Path, options: RldsOptions, *, knows_task: bool = False) -> None:
        self._options = options
        folder = find_version(path)
        self.name = str(resolved(folder))
        of_step, self._of_episode, unknown = read_features(folder / FILE)
        name, files = _shards(folder, options.split)
        self.task = f"rlds/{name}"
        self._records = [(file, at) for file in files for at in record_offsets(file)]
        self.num_episodes = len(self._records)
        self._observed = _observed(of_step, options.fields)
        self._actions = _below(of_step, ACTION)
        if not self._observed or not self._actions:
            raise DataError(
                f"{folder / FILE}: features {', '.join(of_step)}, expected {OBSERVATION} and "
                f"{ACTION}"
            )
        self._texts = [feature for feature in of_step.values() if _is_instruction(feature)]
        self._reward, self._terminal = of_step.get(REWARD), of_step.get(IS_TERMINAL)
        self._keeps_last = (options.last_step or LAST_STEPS[bool(self._texts)]) == "step"
        self._first = self._first_example()
        self.observation = {
            key: self._field(feature, knows_task) for key, feature in self._observed.items()
        }
        if options.instruction_field:
            self.observation[INSTRUCTION] = SourceField(kind="text")
        self.action = action_field(self._action(), options)
        used = {f.path for f in (*self._observed.values(), *self._actions, *self._texts)}
        used |= {REWARD, IS_TERMINAL, "steps/is_first", "steps/is_last"}
        self.notes = tuple(self._notes(sorted({*of_step, *unknown} - used)))
        self.origin = {
            "kind": "rlds",
            "source": self.name,
            "split": options.split,
            "last_step": LAST_STEPS[self._keeps_last],
            "action": [feature.path for feature in self._actions],
            "fingerprint": listing_fingerprint([folder / FILE, *files], folder),
        }

    def episodes(self, first: int) -> Iterator[Load]:
        for number in range(first, self.num_episodes):
            yield partial(self._load, number)

    def returns(self) -> Iterator[float]:
        for number in range(self.num_episodes):
            if self._reward is None:
                yield 0.0
                continue
            rewards = self._reward.values(self._example(number), self._where(number))
            yield float(np.sum(rewards if self._keeps_last else rewards[:-1], dtype=np.float64))

    def _where(self, number: int) -> str:
        return f"{self.name} episode {number}"

    def _example(self, number: int) -> dict[str, Values]:
        file, offset = self._records[number]
        return parse_example(read_record(file, offset), self._where(number))

    def _first_example(self) -> dict[str, Values]:
        """The first Example with a step, for the sizes of its pictures."""
        for number in range(self.num_episodes):
            try:
                found = self._example(number)
            except BadEpisode:
                continue  # the import says so when it comes there
            if len(found.get(self._actions[0].path, ())):
                return found
        raise DataError(f"{self.name}: no readable episode with a step")

    def _field(self, feature: Feature, knows_task: bool) -> SourceField:
        options, where = self._options, f"{self.name}: {feature.path}"
        if feature.kind == "text":
            return SourceField(kind="text")
        if feature.kind == "image":
            head = {feature.path: self._first.get(feature.path, [])[:1]}
            shape = feature.values(head, self.name).shape[1:]
            return image_field(
                shape, image_size=options.image_size, frames=options.pictures, where=where
            )
        if feature.num_values is not None:
            return SourceField(kind="discrete", num_values=feature.num_values, dtype="int64")
        scan = partial(self._value_range, feature)
        return infer_field(
            np.dtype(feature.dtype),
            feature.shape,
            (lambda: (0, MAX_DISCRETE - 1)) if knows_task else scan,
            where,
            image_size=options.image_size,
            frames=options.pictures,
        )

    def _action(self) -> SourceField:
        """The action's field: one feature, or several numbers in a row."""
        if len(self._actions) == 1:
            return self._field(self._actions[0], False)
        size = sum(int(np.prod(f.shape, dtype=np.int64)) for f in self._actions)
        return SourceField(kind="continuous", shape=(size,), dtype="float32")

    def _value_range(self, feature: Feature) -> tuple[int, int]:
        low, high = 0, 0
        for number in range(self.num_episodes):
            try:
                values = feature.values(self._example(number), self._where(number))
            except BadEpisode:
                continue  # as above
            if len(values):
                low, high = min(low, int(values.min())), max(high, int(values.max()))
        return low, high

    def _load(self, number: int) -> SourceEpisode:
        where, found = self._where(number), self._example(number)
        parts = [feature.values(found, where) for feature in self._actions]
        actions = parts[0] if len(parts) == 1 else _joined(parts, where)
        length = len(actions) if self._keeps_last else max(len(actions) - 1, 0)
        rewards = np.zeros(len(actions), np.float32)
        if self._reward is not None:
            rewards = self._reward.values(found, where)
            self._check_last(rewards, length, where)
        texts = self._instructions(found, where)
        observations = {key: f.values(found, where) for key, f in self._observed.items()}
        if self._options.instruction_field:
            observations[INSTRUCTION] = texts if len(texts) else np.full(len(actions), "", object)
        ends = None if self._terminal is None else self._terminal.values(found, where)
        terminated = ends is not None and bool(ends[-1:].any())
        return SourceEpisode(
            observations=observations,
            actions=actions[:length],
            rewards=rewards[:length],
            terminated=terminated,
            truncated=ends is not None and not terminated,
            metadata=self._described(found, texts, where),
        )

    def _check_last(self, rewards: np.ndarray, length: int, where: str) -> None:
        if self._options.last_step is None and np.any(rewards[length:]):
            raise BadEpisode(
                f"{where}: its last step has a reward ({float(rewards[-1]):g}), so it may be a "
                "step like the others; pass --last-step step, or observation to drop it"
            )

    def _instructions(self, found: dict[str, Values], where: str) -> np.ndarray:
        for feature in self._texts:
            texts = feature.values(found, where)
            if any(texts):
                return texts
        return np.zeros(0, object)

    def _described(self, found: dict[str, Values], texts: np.ndarray, where: str) -> dict[str, Any]:
        """Metadata: the instruction, and the single values of the episode."""
        metadata: dict[str, Any] = {}
        for path, feature in self._of_episode.items():
            if feature.kind == "image" or feature.shape or path not in found:
                continue
            values = feature.values(found, where)
            if len(values) == 1:
                metadata[path.rpartition("/")[2]] = _plain(values[0])
        if len(texts):
            metadata[INSTRUCTION] = str(texts[0])
        return metadata

    def _notes(self, rest: list[str]) -> Iterator[str]:
        if rest:
            yield f"ignored the features {', '.join(rest)}"
        if self._reward is None:
            yield f"the set has no {REWARD}: rewards are 0"
        kept = "a step like the others" if self._keeps_last else "the final observation"
        yield f"the last step of an episode was taken as {kept} (--last-step)"


def find_version(path: Path) -> Path:
    """The folder with features.json: the one given, or the only one below it.

    Raises:
        ConfigError: There is none, or several.
    """
    if (path / FILE).is_file():
        return path
    found = sorted(file.parent for file in path.rglob(FILE)) if path.is_dir() else []
    if not found:
        raise ConfigError(f"{path}: no {FILE} in it or below; expected a folder that TFDS prepared")
    if len(found) > 1:
        listed = ", ".join(str(folder) for folder in found[:5])
        raise ConfigError(f"{path}: {len(found)} data sets below it ({listed}); name one of them")
    return found[0]


def _shards(folder: Path, split: str) -> tuple[str, list[Path]]:
    """Name of the data set, and the files of a split in order, all of them."""
    found = [(file, _SHARD.fullmatch(file.name)) for file in sorted(folder.iterdir())]
    shards = [(file, match) for file, match in found if match is not None]
    chosen = [(file, match) for file, match in shards if match["split"] == split]
    if not chosen:
        known = sorted({match["split"] for _, match in shards})
        raise ConfigError(
            f"{folder}: no TFRecord files of the split {split!r}, expected one of "
            f"{', '.join(known) or 'none'}"
        )
    first = chosen[0][1]
    if first["count"] is not None and int(first["count"]) != len(chosen):
        raise DataError(
            f"{folder}: {len(chosen)} files of the split {split!r}, expected {int(first['count'])} "
            f"({chosen[0][0].name}); the download is incomplete"
        )
    return first["name"], [file for file, _ in chosen]


def _below(features: dict[str, Feature], path: str) -> list[Feature]:
    return [f for key, f in sorted(features.items()) if key == path or key.startswith(f"{path}/")]


def _observed(features: dict[str, Feature], given: str | None) -> dict[str, Feature]:
    """Observation features by the key they get; those of --fields only."""
    known = {
        f.path.removeprefix(OBSERVATION).lstrip("/") or _ALONE[f.kind]: f
        for f in _below(features, OBSERVATION)
    }
    if given is None:
        return {key: feature for key, feature in known.items() if not _is_instruction(feature)}
    chosen = [key.strip() for key in given.split(",")]
    for key in chosen:
        if key not in known:
            raise ConfigError(f"--fields: no observation {key!r}, the set has {', '.join(known)}")
    return {key: known[key] for key in chosen}


def _is_instruction(feature: Feature) -> bool:
    return feature.kind == "text" and feature.path.endswith("language_instruction")


def _joined(parts: list[np.ndarray], where: str) -> np.ndarray:
    """Parts of an action as rows of float32."""
    lengths = {len(part) for part in parts}
    if len(lengths) != 1:
        raise BadEpisode(f"{where}: parts of the action have {sorted(lengths)} steps")
    return np.concatenate([np.reshape(p, (len(p), -1)).astype(np.float32) for p in parts], axis=1)


def _plain(value: Any) -> Any:
    """A single value as JSON has it."""
    plain = value if isinstance(value, str) else value.item()
    return str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain


def import_rlds(
    source: str, out: Path, options: RldsOptions, context: ImportContext
) -> ImportSummary:
    """Imports one RLDS data set; see `import_episodes`."""
    knows_task = options.task is not None and context.known_spec(options.task) is not None
    reader = RldsSource(Path(source), options, knows_task=knows_task)
    return import_episodes(reader, out, options, context)


IMPORTERS.register("rlds")(
    ImportKind(
        run=import_rlds,
        options=RldsOptions,
        help="An RLDS data set that TFDS prepared (TFRecord).",
        source_help="Folder with features.json and the .tfrecord files.",
        example="db1 import rlds rlu_control_suite/cartpole_swingup/1.1.0 --out data/rlds/cartpole",
    )
)
