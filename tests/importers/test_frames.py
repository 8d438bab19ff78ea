"""Frames of tasks with their instructions: captions, splits, resuming, and what cannot be drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from db1.cli.importing import import_context, open_task
from db1.errors import ConfigError, DataError
from db1.importers.frames import FrameOptions, import_frames
from db1.importers.registry import ImportContext, ImportSummary, OpenTask
from db1.store.pairs import PairStore
from db1.tokens.spec import FieldSpec, StepSpec

CONTEXT = import_context(lambda *report: None)
CART_POLE = "classic_control/CartPole-v1"


class Counting:
    """A task whose picture shows how many actions were taken since the reset."""

    step_spec = StepSpec(
        observation={"mission": FieldSpec(kind="text")},
        action=FieldSpec(kind="discrete", num_values=2),
    )
    num_drawn = 0

    def reset(self, *, seed: int) -> tuple[dict, dict]:
        self.seed, self.count = seed, 0
        return {"mission": f" find {seed} "}, {}

    def step(self, action: int) -> tuple:
        self.count += 1
        return {"mission": f"find {self.seed}"}, 0.0, self.count == 20, False, {}

    def sample_action(self, generator: np.random.Generator, observation: dict) -> int:
        return int(generator.integers(2))

    def render_frame(self) -> np.ndarray:
        type(self).num_drawn += 1
        return np.full((200, 100, 3), self.count, dtype=np.uint8)

    def close(self) -> None:
        self.closed = True


def run(out: Path, env: object, **options: object) -> ImportSummary:
    context = ImportContext(open_task=lambda task: OpenTask(env=env, version={"id": task}))
    return import_frames("toy/count", out, FrameOptions(**options), context)


def stored(folder: Path) -> list[tuple[str, int]]:
    store = PairStore(folder)
    pixels = [np.asarray(Image.open(io.BytesIO(store.image_of(i)))) for i in range(store.num_pairs)]
    assert all(picture.shape == (128, 64, 3) for picture in pixels)
    return [(store.pair(i).texts[0], int(pixels[i][0, 0, 0])) for i in range(store.num_pairs)]


def test_frames_show_the_state_that_their_step_names(tmp_path: Path) -> None:
    env = Counting()
    summary = run(tmp_path, env, episodes=20, frames=4, every=8)
    assert summary.num_stored == 20 * 3 and env.closed  # the episode ends before the fourth frame
    assert stored(tmp_path / "test") == [(f"find {s}", n) for s in (9, 19) for n in (0, 8, 16)]
    assert {text for text, _ in stored(tmp_path / "val")} == {"find 8", "find 18"}
    assert len({text for text, _ in stored(tmp_path / "train")}) == 16
    metadata = PairStore(tmp_path / "test").pair(1).metadata
    assert (metadata["task"], metadata["seed"], metadata["step"]) == ("toy/count", 9, 8)


def test_an_interrupted_import_goes_on_and_draws_nothing_twice(tmp_path: Path) -> None:
    run(tmp_path / "a", Counting(), episodes=10, frames=2)
    run(tmp_path / "b", Counting(), episodes=10, frames=2, max_pairs=5, splits="train")
    before = Counting.num_drawn
    run(tmp_path / "b", Counting(), episodes=10, frames=2)
    assert Counting.num_drawn - before == 20 - 5
    for split in ("train", "val", "test"):
        assert stored(tmp_path / "a" / split) == stored(tmp_path / "b" / split)


def test_what_cannot_be_drawn_leaves_nothing(tmp_path: Path) -> None:
    class Blind(Counting):
        def render_frame(self) -> np.ndarray:
            raise RuntimeError("no display\nanywhere")

    with pytest.raises(DataError, match="nothing can be drawn here .no display anywhere"):
        run(tmp_path / "a", Blind(), episodes=10)
    assert not list(tmp_path.rglob("*.jsonl"))
    with pytest.raises(ConfigError, match="names no task"):
        import_frames(" , ", tmp_path / "b", FrameOptions(), CONTEXT)
    with pytest.raises(ConfigError, match="unknown task 'classic_control/CartPole'"):
        import_frames("classic_control/CartPole", tmp_path / "b", FrameOptions(), CONTEXT)
    with pytest.raises(DataError, match="seeds of evaluations, which start at 2000000"):
        import_frames(CART_POLE, tmp_path / "b", FrameOptions(episodes=2_000_001), CONTEXT)
    assert not (tmp_path / "b").exists()


def test_instructions_of_a_real_task(tmp_path: Path) -> None:
    pytest.importorskip("minigrid", reason='needs pip install "db1[babyai]"')
    task = "babyai/GoToLocal"
    import_frames(task, tmp_path, FrameOptions(episodes=10), CONTEXT)
    store = PairStore(tmp_path / "test")
    [pair] = [store.pair(i) for i in range(store.num_pairs)]
    env = open_task(task).env
    observation, _ = env.reset(seed=9)
    assert pair.texts == (observation["mission"],) and "go to" in pair.texts[0]
    found = np.asarray(Image.open(io.BytesIO(store.image_of(0))))
    assert found.shape == (128, 128, 3) and len(np.unique(found.reshape(-1, 3), axis=0)) > 3


@pytest.mark.parametrize(
    ("task", "caption"),
    [
        ("metaworld/drawer-close-v3", "drawer close"),
        ("classic_control/MountainCarContinuous-v0", "mountain car continuous"),
        ("tsp/uniform20", "uniform 20"),
        ("modular_rl/walker_7_main", "walker 7 main"),
    ],
)
def test_tasks_without_instruction_are_called_by_their_name(
    tmp_path: Path, task: str, caption: str
) -> None:
    class Silent(Counting):
        step_spec = StepSpec(
            observation={"state": FieldSpec(kind="continuous", shape=(1,))},
            action=FieldSpec(kind="discrete", num_values=2),
        )

    context = ImportContext(open_task=lambda task: OpenTask(env=Silent(), version={}))
    import_frames(task, tmp_path, FrameOptions(episodes=10), context)
    assert PairStore(tmp_path / "train").pair(0).texts == (caption,)
