"""Named splits: tasks that published work keeps from training, to be scored as unseen ones.

    ml45-test     Meta-World's ML45: its five test tasks
    regent-12     the twelve of JAT's tasks that REGENT did not learn
    babyai-unseen five BabyAI levels that db1's own flagship leaves out (configs/db1_base.yaml)
    vintix-test   of Vintix' fifteen test tasks the five that db1 has (the others belong to
                  Bi-DexHands and the Industrial Benchmark)

`data.held_out` of an experiment keeps them out of a mixture, `db1 eval --split` plays them.

Source: Yu et al. 2019, arXiv:1910.10897 (ML45); Sridhar et al. 2025, arXiv:2412.04759, its list of
unseen tasks; Polubarov et al. 2025, arXiv:2501.19400.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from db1.errors import ConfigError, nearest

_ML45_TEST = tuple(
    f"metaworld/{name}-v3"
    for name in ("bin-picking", "box-close", "door-lock", "door-unlock", "hand-insert")
)
_REGENT_GAMES = ("Alien", "MsPacman", "Pong", "SpaceInvaders", "StarGunner")

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ml45-test": _ML45_TEST,
        "regent-12": (
            *(f"atari/{game}" for game in _REGENT_GAMES),
            *_ML45_TEST,
            "mujoco/HalfCheetah-v5",
            "mujoco/Hopper-v5",
        ),
        "vintix-test": _ML45_TEST,
        "babyai-unseen": tuple(
            f"babyai/{level}"
            for level in (
                "GoToImpUnlock",
                "GoToSeqS5R2",
                "OpenTwoDoors",
                "PickupAbove",
                "PutNextS5N2",
            )
        ),
    }
)
"""Task ids by name of the split."""


def split_tasks(name: str) -> tuple[str, ...]:
    """Task ids of a split.

    Raises:
        ConfigError: For an unknown split; names the known ones.
    """
    if name not in SPLITS:
        raise ConfigError(
            f"split {name!r}, expected one of {', '.join(SPLITS)}{nearest(name, SPLITS)}"
        )
    return SPLITS[name]


def tasks_of_splits(names: Iterable[str]) -> dict[str, str]:
    """Tasks of some splits, and of each task the first of these splits that has it.

    Raises:
        ConfigError: For an unknown split.
    """
    found: dict[str, str] = {}
    for name in names:
        for task in split_tasks(name):
            found.setdefault(task, name)
    return found


def splits_of(task: str) -> tuple[str, ...]:
    """Names of the splits that hold a task."""
    return tuple(name for name, tasks in SPLITS.items() if task in tasks)
