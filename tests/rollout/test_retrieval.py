"""The nearest demonstration step, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import DataError
from db1.rollout.loop import rollout
from db1.rollout.policies import make_model_free_policy
from db1.rollout.retrieval import RetrievalPolicy
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.suites.seeds import seed_for
from db1.tokens.spec import Episode, FieldSpec, StepSpec

ROW = np.array([0])
DISCRETE = FieldSpec(kind="discrete", num_values=4)


def store_of(path: Path, spec: StepSpec, observations: dict[str, Any], actions: Any) -> Path:
    with EpisodeWriter(path, StoreHeader(task="toy/toy", spec=spec)) as writer:
        writer.append(
            Episode(
                observations=observations,
                actions=np.asarray(actions, spec.action.dtype),
                rewards=np.zeros(len(actions), np.float32),
            )
        )
    return path


def test_numbers_are_standardised(tmp_path: Path) -> None:
    spec = StepSpec(observation={"x": FieldSpec(kind="continuous", shape=(2,))}, action=DISCRETE)
    points = np.array([[0, 0], [0, 1000], [1, 0], [1, 1000]], np.float32)
    policy = RetrievalPolicy("toy/toy", store_of(tmp_path / "s", spec, {"x": points}, range(4)))
    for x, action in (([0.1, 100], 0), ([0.2, 700], 1), ([0.9, 400], 2), ([0.6, 900], 3)):
        assert policy.act([{"x": np.array(x, np.float32)}], ROW) == [action]


def test_a_few_shot_run_knows_its_own_episodes_only(tmp_path: Path) -> None:
    spec = StepSpec(observation={"x": FieldSpec(kind="continuous", shape=(1,))}, action=DISCRETE)
    for action in range(4):  # an episode of one step each
        point = np.array([[action]], np.float32)
        folder = store_of(tmp_path / "s", spec, {"x": point}, [action])
    seen = [{"x": np.array([0.1], np.float32)}]
    assert RetrievalPolicy("toy/toy", folder).act(seen, ROW) == [0]
    policy = make_model_free_policy(
        "toy/toy", name="retrieval", folder=str(folder), episodes=[3, 2]
    )
    assert policy.act(seen, ROW) == [2]
    with pytest.raises(DataError, match="4 episodes, and the run learned from number 7"):
        RetrievalPolicy("toy/toy", folder, [1, 7])


def test_texts_images_and_discrete_values(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={
            "mission": FieldSpec(kind="text"),
            "view": FieldSpec(kind="image", shape=(16, 16, 3)),
            "way": FieldSpec(kind="discrete", shape=(2,), num_values=4),
        },
        action=DISCRETE,
    )
    views = np.zeros((4, 16, 16, 3), np.uint8)
    views[1] = views[3] = 255
    observations = {
        "mission": np.array(["left", "left", "right", "right"], object),
        "view": views,
        "way": np.array([[0, 1], [0, 1], [2, 3], [2, 1]], np.int32),
    }
    policy = RetrievalPolicy("toy/toy", store_of(tmp_path / "s", spec, observations, range(4)))

    def act(mission: str, brightness: int, way: list[int]) -> int:
        view = np.full((16, 16, 3), brightness, np.uint8)
        return policy.act([{"mission": mission, "view": view, "way": np.array(way)}], ROW)[0]

    assert act("left", 30, [0, 1]) == 0 and act("left", 220, [0, 1]) == 1
    assert act("right", 250, [2, 1]) == 3 and act("right", 10, [2, 3]) == 2
    assert act("up", 255, [0, 1]) == 1  # an unknown text: all steps count


def test_only_allowed_actions(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={
            "x": FieldSpec(kind="continuous", shape=(1,)),
            "mask": FieldSpec(kind="discrete", shape=(4,), num_values=2),
        },
        action=DISCRETE,
        action_mask="mask",
    )
    observations = {
        "x": np.arange(3, dtype=np.float32)[:, None], "mask": np.ones((3, 4), np.int32)
    }  # fmt: skip
    policy = RetrievalPolicy("toy/toy", store_of(tmp_path / "s", spec, observations, [0, 1, 2]))
    x = np.array([0.1], np.float32)
    assert policy.act([{"x": x, "mask": np.array([1, 1, 1, 1])}], ROW) == [0]
    assert policy.act([{"x": x, "mask": np.array([0, 0, 1, 1])}], ROW) == [2]
    assert policy.act([{"x": x, "mask": np.array([0, 0, 0, 1])}], ROW) == [3]


def test_beats_chance(data_root: Path) -> None:
    task = "classic_control/CartPole-v1"
    seeds = [seed_for("evaluation", i) for i in range(3)]
    means = {
        name: np.mean(
            [
                episode.total_reward
                for episode in rollout(
                    task,
                    make_model_free_policy(task, name=name, folder=str(data_root / task)),
                    seeds,
                )
            ]
        )
        for name in ("random", "retrieval")
    }
    assert means["retrieval"] > 3 * means["random"]


def test_needs_a_demonstration(tmp_path: Path) -> None:
    spec = StepSpec(observation={"x": FieldSpec(kind="continuous", shape=(1,))}, action=DISCRETE)
    with EpisodeWriter(tmp_path / "s", StoreHeader(task="toy/toy", spec=spec)):
        pass
    with pytest.raises(DataError, match="no demonstration of toy/toy"):
        RetrievalPolicy("toy/toy", tmp_path / "s")
