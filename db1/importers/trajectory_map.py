"""Names of the arrays of foreign trajectories: `target=source` pairs and presets.

    observation.<key>   an observation; `observation.*=obs/*` takes every array below `obs/`
    action, reward      one a step; without `reward` rewards are 0
    terminated          True where the task itself ended
    truncated           True where it was cut off
    done                True where an episode ends, for whatever reason
    step                number of the step in its episode: an episode ends where it starts again
    episode             number of the episode: an episode ends where it changes
    success             True in any step: the episode succeeded
    instruction         text, kept as the episode's metadata

A source may name others after it, `terminated=terminated|done`: the first that is there counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from db1.errors import ConfigError, DataError, check_one_of, nearest

OBSERVATION = "observation."
ACTION, REWARD = "action", "reward"
TERMINATED, TRUNCATED, DONE = "terminated", "truncated", "done"
STEP, EPISODE = "step", "episode"
SUCCESS, INSTRUCTION = "success", "instruction"
TARGETS = (
    ACTION, REWARD, TERMINATED, TRUNCATED, DONE, STEP, EPISODE, SUCCESS, INSTRUCTION,
)  # fmt: skip
LAYOUTS = ("file", "group", "steps")
SUFFIXES = (".hdf5", ".h5", ".npz", ".parquet", ".npy")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """File layout of one public collection.

    Args:
        suffix: Of its files.
        layout: One of LAYOUTS.
        names: Source by target.
    """

    suffix: str
    layout: str
    names: Mapping[str, str]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "ml-jku": Preset(
            suffix=".hdf5",
            layout="file",
            names={
                "observation.state": "states",
                ACTION: "actions",
                REWARD: "rewards",
                DONE: "dones",
            },
        ),
        "vintix": Preset(
            suffix=".h5",
            layout="steps",
            names={
                "observation.state": "proprio_observation",
                ACTION: "action",
                REWARD: "reward",
                STEP: "step_num",
            },
        ),
        "amago": Preset(
            suffix=".npz",
            layout="file",
            names={
                "observation.*": "_OBS_KEY_*",
                ACTION: "actions",
                REWARD: "rews",
                TERMINATED: "dones",
            },
        ),
        "gen_dgrl": Preset(
            suffix=".npy",
            layout="file",
            names={
                "observation.pixels": "observations",
                ACTION: "actions",
                REWARD: "rewards",
                TERMINATED: "dones",
            },
        ),
        "procgen": Preset(
            suffix=".parquet",
            layout="steps",
            names={
                "observation.pixels": "observation",
                ACTION: "action",
                REWARD: "reward",
                TERMINATED: "terminated|done",
                TRUNCATED: "truncated",
            },
        ),
    }
)
"""ml-jku/meta-world and ml-jku/dm_control_10M; Vintix's data set; AMAGO's `npz` trajectories;
Meta's gen_dgrl; EpicPinkPenguin/procgen."""


def parse_map(pairs: Iterable[str] | None) -> dict[str, str]:
    """Source by target of `target=source` pairs; one text may hold several, by blanks or commas.

    Raises:
        ConfigError: No such target, no pair, or one target twice.
    """
    names: dict[str, str] = {}
    for pair in " ".join(pairs or ()).replace(",", " ").split():
        target, equals, source = pair.partition("=")
        if not equals or not source:
            raise ConfigError(f"--map {pair!r}, expected target=source, as action=actions")
        is_observation = target.startswith(OBSERVATION) and target != OBSERVATION
        if target not in TARGETS and not is_observation:
            raise ConfigError(
                f"--map {pair!r}: no target {target!r}, expected {OBSERVATION}<key> or one of "
                f"{', '.join(TARGETS)}{nearest(target, TARGETS)}"
            )
        if target in names:
            raise ConfigError(f"--map: {target} is given twice")
        if ("*" in target) != ("*" in source) or max(target.count("*"), source.count("*")) > 1:
            raise ConfigError(f"--map {pair!r}: a * belongs into both names, once")
        names[target] = source
    return names


def preset_named(name: str) -> Preset:
    """A preset.

    Raises:
        ConfigError: Unknown.
    """
    check_one_of("--preset", name, PRESETS)
    return PRESETS[name]


def resolve(names: Mapping[str, str], there: Sequence[str], where: str) -> dict[str, str]:
    """Array by target, with `*` and `|` resolved.

    Args:
        names: Result of `parse_map`, or a preset's.
        there: Arrays that there are.
        where: Names the file in errors.

    Raises:
        DataError: An array that is not there (lists those that are), no action or no observation.
    """
    listed = f"it has {', '.join(there) or 'no array'}"
    found: dict[str, str] = {}
    for target, source in names.items():
        if "*" in source:
            found |= _starred(target, source, there)
            continue
        choices = source.split("|")
        chosen = next((name for name in choices if name in there), None)
        if chosen is None:
            raise DataError(
                f"{where}: no array {source!r} for {target}; {listed}{nearest(source, there)}; "
                "name them with --map"
            )
        found[target] = chosen
    observations = [target for target in found if target.startswith(OBSERVATION)]
    if ACTION not in found or not observations:
        missing = ACTION if ACTION not in found else f"{OBSERVATION}<key>"
        raise DataError(f"{where}: nothing is mapped to {missing}; {listed}; name them with --map")
    return found


def _starred(target: str, source: str, there: Sequence[str]) -> dict[str, str]:
    head, _, tail = source.partition("*")
    inner = [
        name
        for name in there
        if name.startswith(head) and name.endswith(tail) and len(name) > len(head) + len(tail)
    ]
    return {target.replace("*", n[len(head) : len(n) - len(tail) or None]): n for n in inner}
