"""What holds for every kind of episodes: one test runs over all formats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_episodes import FORMATS, Raw, Write, numbers

from db1.errors import ConfigError, DataError
from db1.importers import IMPORTERS, ImportContext, ImportSummary
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import FieldSpec, StepSpec

TASK = "toy/line"
LENGTHS = (5, 1, 9, 3, 7, 4, 6)


def imported(kind: str, source: str, out: Path, *, context: Any = None, **options: Any) -> Any:
    entry = IMPORTERS[kind]
    options = entry.options(**{"task": TASK, **options})
    return entry.run(source, out, options, context or ImportContext())


@pytest.fixture
def episodes() -> list[Raw]:
    return [numbers(length, seed) for seed, length in enumerate(LENGTHS)]


def assert_same(store: EpisodeStore, episodes: list[Raw]) -> None:
    assert store.num_episodes == len(episodes)
    for i, raw in enumerate(episodes):
        stored = store.read(i)
        (observation,) = stored.observations.values()
        np.testing.assert_array_equal(observation, raw.observations[: len(raw)])
        np.testing.assert_array_equal(stored.actions, raw.actions)
        np.testing.assert_array_equal(stored.rewards, raw.rewards)
        assert store.lengths[i] == len(raw)
        assert store.returns[i] == raw.rewards.sum()
    store.verify()


def test_every_episode_arrives(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    reported = []
    context = ImportContext(progress=lambda *report: reported.append(report))
    summary = imported(kind, source, tmp_path / "out", context=context)
    store = EpisodeStore(tmp_path / "out")
    assert_same(store, episodes)
    assert isinstance(summary, ImportSummary) and summary.num_stored == len(episodes)
    assert reported == [(TASK, i + 1, len(episodes)) for i in range(len(episodes))]
    assert store.header.task == TASK
    assert store.header.origin["kind"] == kind
    assert [store.metadata(i)["episode"] for i in range(len(episodes))] == list(range(7))
    assert all(store.metadata(i)["source"] for i in range(len(episodes)))
    if kind in ("d4rl", "minari"):
        assert store.terminations.tolist() == [e.terminated for e in episodes]


def test_the_same_command_adds_nothing_and_goes_on(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    assert imported(kind, source, tmp_path / "out", max_episodes=3).num_stored == 3
    summary = imported(kind, source, tmp_path / "out")
    assert (summary.num_before, summary.num_stored) == (3, 7)
    assert imported(kind, source, tmp_path / "out").num_before == 7
    assert_same(EpisodeStore(tmp_path / "out"), episodes)


KILLED = """
import os, signal, sys
from pathlib import Path
from db1.importers import IMPORTERS, ImportContext
def progress(name, done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
kind = IMPORTERS[sys.argv[1]]
context = ImportContext(progress=progress)
kind.run(sys.argv[2], Path(sys.argv[3]), kind.options(task="toy/line"), context)
"""


@pytest.mark.parametrize(
    "name",
    [
        "d4rl",
        "jat",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("db1-cache", "minari-arrow")),
        pytest.param("minari-hdf5", marks=pytest.mark.slow),
    ],
)
def test_goes_on_after_kill_9(tmp_path: Path, name: str, episodes: list[Raw]) -> None:
    kind, write = FORMATS[name]
    source, out = write(tmp_path / "source", episodes), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, kind, source, str(out)], check=False)
    assert killed.returncode == -9
    with open(out / "observations.state.bin", "ab") as file:
        file.write(b"half a row")
    summary = imported(kind, source, out)
    assert (summary.num_before, summary.num_stored) == (4, 7)
    assert_same(EpisodeStore(out), episodes)


@pytest.mark.parametrize(
    ("array", "value"), [("observations", np.nan), ("actions", np.inf), ("rewards", -np.inf)]
)
def test_values_not_finite(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw], array: str, value: float
) -> None:
    kind, write = foreign
    bad = getattr(episodes[2], array)
    bad[:2] = value
    source = write(tmp_path / "source", episodes)
    named = rf"{TASK} episode 2 .*(2|4|8) (values|rewards) not finite.*--skip-bad"
    with pytest.raises(DataError, match=named):
        imported(kind, source, tmp_path / "out")
    summary = imported(kind, source, tmp_path / "out", skip_bad=True)
    assert summary.counts["left out by --skip-bad"] == 1
    assert summary.num_stored == 6 and any("skip-bad: 1" in line for line in summary.lines())
    assert_same(EpisodeStore(tmp_path / "out"), episodes[:2] + episodes[3:])


def test_actions_outside_the_space(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    episodes[2].actions[[1, 4], 0] = 1.5
    source = write(tmp_path / "source", episodes)
    named = rf"{TASK} episode 2 .*2 of 9 actions outside the space -1..1 \(step 1: \[1.5"
    with pytest.raises(DataError, match=named):
        imported(kind, source, tmp_path / "out")
    summary = imported(kind, source, tmp_path / "out", clip_actions=True)
    assert summary.counts["steps with clipped actions"] == 2
    store = EpisodeStore(tmp_path / "out")
    assert store.metadata(2)["clipped_steps"] == 2 and store.read(2).actions.max() == 1.0
    episodes[2].actions.clip(-1, 1, out=episodes[2].actions)
    assert_same(store, episodes)


def test_given_action_bounds(tmp_path: Path, foreign: tuple[str, Write]) -> None:
    kind, write = foreign
    episodes = [numbers(6, seed, low=-0.5, high=0.5) for seed in range(3)]
    source = write(tmp_path / "source", episodes)
    imported(kind, source, tmp_path / "out", action_low=-0.5, action_high=0.5)
    stored = EpisodeStore(tmp_path / "out").read(1).actions
    np.testing.assert_allclose(stored, episodes[1].actions * 2, atol=1e-6)
    with pytest.raises(ConfigError, match="give both or neither"):
        imported(kind, source, tmp_path / "o", action_low=-0.5)
    with pytest.raises(DataError, match="expected low below high"):
        imported(kind, source, tmp_path / "o", action_low=0.5, action_high=-0.5)


def test_filter_by_return(tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    returns = np.array([e.rewards.sum() for e in episodes])
    summary = imported(kind, source, tmp_path / "out", min_return_share=0.5)
    best = float(returns.max())
    kept = [e for e in episodes if e.rewards.sum() >= best / 2]
    assert 0 < len(kept) < 7
    assert_same(EpisodeStore(tmp_path / "out"), kept)
    assert summary.counts["dropped, below --min-return-share"] == 7 - len(kept)
    assert "windowed maximum" in summary.lines()[-1]
    imported(kind, source, tmp_path / "o", min_return_share=1.0, expert_return=best - 1)
    store = EpisodeStore(tmp_path / "o")
    assert store.num_episodes == (returns >= best - 1).sum()
    assert store.header.origin["return_filter"]["expert_origin"] == "--expert-return"
    with pytest.raises(DataError, match="no episode to store.*min-return-share: 7"):
        imported(kind, source, tmp_path / "p", min_return_share=1.0, expert_return=1e9)
    assert not (tmp_path / "p").exists()


def test_a_store_of_another_origin_is_refused(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    imported(kind, source, tmp_path / "out")
    other = write(tmp_path / "other", [numbers(3, 9)])
    with pytest.raises(DataError, match="another header .*origin.*write to another folder"):
        imported(kind, other, tmp_path / "out")
    with pytest.raises(DataError, match="another header .*origin"):
        imported(kind, source, tmp_path / "out", min_return_share=0.1)
    with pytest.raises(DataError, match="another header .*task"):
        imported(kind, source, tmp_path / "out", task="toy/other")
    assert_same(EpisodeStore(tmp_path / "out"), episodes)


def test_a_store_that_was_collected_is_refused(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    spec = StepSpec(
        observation={"state": FieldSpec(kind="continuous", shape=(4,))},
        action=FieldSpec(kind="continuous", shape=(2,)),
    )
    with EpisodeWriter(tmp_path / "out", StoreHeader(task=TASK, spec=spec)):
        pass
    with pytest.raises(DataError, match="another header"):
        imported(kind, source, tmp_path / "out")


def test_a_known_task_fixes_the_fields(
    tmp_path: Path, foreign: tuple[str, Write], episodes: list[Raw]
) -> None:
    kind, write = foreign
    source = write(tmp_path / "source", episodes)
    known = StepSpec(
        observation={
            "goal": FieldSpec(kind="continuous", shape=(3,)),
            "a": FieldSpec(kind="continuous"),
        },
        action=FieldSpec(kind="continuous", shape=(2,)),
    )
    context = ImportContext(known_spec={TASK: known}.get)
    if kind != "jat":  # which is known to pack them so
        with pytest.raises(DataError, match=r"a \(1\), goal \(3\) lie in one vector.*--order"):
            imported(kind, source, tmp_path / "out", context=context)
    imported(kind, source, tmp_path / "out", context=context, order="a,goal")
    store = EpisodeStore(tmp_path / "out")
    assert store.spec == known
    stored = store.read(2).observations
    np.testing.assert_array_equal(stored["a"], episodes[2].observations[:9, 0])
    np.testing.assert_array_equal(stored["goal"], episodes[2].observations[:9, 1:])
    imported(kind, source, tmp_path / "other", context=context, order="goal,a")
    stored = EpisodeStore(tmp_path / "other").read(2).observations
    np.testing.assert_array_equal(stored["goal"], episodes[2].observations[:9, :3])
    with pytest.raises(ConfigError, match="--order goal, expected each once: a, goal"):
        imported(kind, source, tmp_path / "o", context=context, order="goal")
    wrong = StepSpec(observation=known.observation, action=FieldSpec(kind="discrete", num_values=3))
    context = ImportContext(known_spec={TASK: wrong}.get)
    with pytest.raises(DataError, match="another action; the source has .* the task .* 3 values"):
        imported(kind, source, tmp_path / "o", context=context)


def test_no_task_and_a_broken_one(tmp_path: Path, episodes: list[Raw]) -> None:
    kind, write = FORMATS["db1-cache"]
    source = write(tmp_path / "source", episodes)
    with pytest.raises(ConfigError, match="names no task; pass --task"):
        imported(kind, source, tmp_path / "out", task=None)
    with pytest.raises(ConfigError, match="expected suite/task"):
        imported(kind, source, tmp_path / "out", task="line")
    with pytest.raises(ConfigError, match="--frames"):
        imported(kind, source, tmp_path / "out", frames="oldest")
    with pytest.raises(ConfigError, match="--image-format"):
        imported(kind, source, tmp_path / "out", image_format="jpeg")


FULL = """
import resource, signal, sys
from pathlib import Path
from db1.errors import DataError
from db1.importers import IMPORTERS, ImportContext
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
kind = IMPORTERS["d4rl"]
try:
    kind.run(sys.argv[1], Path(sys.argv[2]), kind.options(task="toy/line"), ImportContext())
except DataError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path, episodes: list[Raw]) -> None:
    source, out = FORMATS["d4rl"][1](tmp_path / "source", episodes), tmp_path / "out"
    imported("d4rl", source, out, max_episodes=2)
    full = subprocess.run(
        [sys.executable, "-c", FULL, source, str(out)], capture_output=True, text=True, check=False
    )
    assert full.returncode == 1 and "cannot write episode 2" in full.stderr, full.stderr
    assert EpisodeStore(out).num_episodes == 2
    assert imported("d4rl", source, out).num_before == 2
    assert_same(EpisodeStore(out), episodes)
    fresh = [sys.executable, "-c", FULL, source, str(tmp_path / "fresh")]
    assert "cannot write" in subprocess.run(fresh, capture_output=True, text=True).stderr
    assert not (tmp_path / "fresh").exists()


def test_seeds_of_evaluations_are_left_out(tmp_path: Path, episodes: list[Raw]) -> None:
    for i, episode in enumerate(episodes):
        episode.seed = 100 + i
    source = FORMATS["minari-hdf5"][1](tmp_path / "source", episodes)
    context = ImportContext(forbidden_seeds=range(102, 104))
    summary = imported("minari", source, tmp_path / "out", context=context)
    assert summary.counts["dropped, seed of an evaluation"] == 2
    assert EpisodeStore(tmp_path / "out").seeds.tolist() == [100, 101, 104, 105, 106]
