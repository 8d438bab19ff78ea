"""Registered environments as tasks: spaces to fields and back, ends, and what is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gs

from db1.errors import ConfigError, DataError
from db1.suites import SUITES, make_env, parse_task_id
from db1.suites.base import as_rgb
from db1.suites.contract import check_task
from db1.suites.gym import LONGEST
from db1.suites.spaces import MAX_PATCHES, StepAdapter, action_map, observation_leaves

PASS = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Blackjack-v1",
    "Taxi-v4",
    "FrozenLake-v1",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Reacher-v5",
    "minigrid:MiniGrid-DoorKey-5x5-v0",
    "minigrid:MiniGrid-FourRooms-v0",
    "minigrid:BabyAI-GoToLocal-v0",
    "minigrid:MiniGrid-MultiRoom-N2-S4-v0",
    "minigrid:MiniGrid-Fetch-5x5-N2-v0",
    "gymnasium_robotics:FetchReach-v4",
    "gymnasium_robotics:FetchPush-v4",
    "gymnasium_robotics:HandReach-v3",
    "gymnasium_robotics:PointMaze_UMaze-v3",
    "gymnasium_robotics:AdroitHandDoor-v1",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PASS)
def test_registered_environments_keep_the_contract(name: str) -> None:
    if ":" in name:
        pytest.importorskip(name.split(":")[0])
    if name.split("-")[0] in ("HalfCheetah", "Hopper", "Reacher"):
        pytest.importorskip("mujoco")
    found = list(check_task(f"gym/{name}", lambda: make_env(f"gym/{name}")))
    assert len(found) == 9
    assert [result for result in found if result.problem is not None] == []


def test_nested_observations_become_fields_and_come_back_whole() -> None:
    space = gs.Dict(
        goal=gs.Box(-1, 1, (2,), np.float64),
        parts=gs.Tuple((gs.Discrete(4, start=3), gs.MultiBinary((2, 2)), gs.Text(20))),
        ticks=gs.Box(-5, 5, (3,), np.int64),
        far=gs.Box(0, 10**6, (1,), np.int64),
    )
    leaves = observation_leaves(space, "x")
    kinds = {key: (leaf.field.kind, leaf.field.num_values) for key, leaf in leaves.items()}
    assert kinds == {
        "goal": ("continuous", None),
        "parts/0": ("discrete", 4),
        "parts/1": ("discrete", 2),
        "parts/2": ("text", None),
        "ticks": ("discrete", 11),
        "far": ("continuous", None),
    }
    space.seed(0)
    for _ in range(20):
        value = space.sample()
        read = {key: leaf.read(value) for key, leaf in leaves.items()}
        assert read["parts/0"] == value["parts"][0] - 3
        assert np.array_equal(read["ticks"], value["ticks"] + 5)
        assert np.array_equal(read["parts/1"], value["parts"][1])
        assert read["parts/2"] == value["parts"][2]
        for key, leaf in leaves.items():
            leaf.field.check(read[key], key)


@pytest.mark.parametrize(
    "space, kind, shape, num_values",
    [
        (gs.Discrete(5, start=-2), "discrete", (), 5),
        (gs.MultiDiscrete([3, 3, 3]), "discrete", (3,), 3),
        (gs.MultiDiscrete([3, 5, 2]), "discrete", (), 30),
        (gs.MultiBinary(6), "discrete", (6,), 2),
        (gs.Tuple((gs.Discrete(4), gs.Discrete(6))), "discrete", (), 24),
        (gs.Dict(a=gs.Discrete(4), b=gs.Discrete(4)), "discrete", (2,), 4),
        (gs.Box(-2.0, 6.0, (2, 2)), "continuous", (2, 2), None),
        (gs.Box(np.array([0.0, -1.0]), np.array([1.0, 9.0])), "continuous", (2,), None),
        (gs.Dict(arm=gs.Box(-1, 1, (2,)), grip=gs.Box(0, 1, (1,))), "continuous", (3,), None),
        (gs.Box(0, 3, (2,), np.int32), "discrete", (2,), 4),
    ],
)  # fmt: skip
def test_every_native_action_has_its_action(
    space: gs.Space, kind: str, shape: tuple[int, ...], num_values: int | None
) -> None:
    action = action_map(space, "x")
    field = action.field
    assert (field.kind, field.shape, field.num_values) == (kind, shape, num_values)
    space.seed(1)
    for _ in range(30):
        native = space.sample()
        value = action.from_native(native)
        field.check(np.asarray(value), "action")
        again = action.to_native(value)
        assert space.contains(again)
        flat = gs.utils.flatten(space, native), gs.utils.flatten(space, again)
        assert np.allclose(*flat, atol=1e-5)


@pytest.mark.parametrize(
    "space, message",
    [
        (gs.Box(-np.inf, np.inf, (2,)), "has no bounds"),
        (gs.MultiDiscrete([40, 50, 60]), "120,000 combinations"),
        (gs.Dict(a=gs.Discrete(2), b=gs.Box(0, 1, (1,))), "one action field"),
        (gs.Text(4), "cannot be expressed in tokens"),
        (gs.Sequence(gs.Discrete(2)), "cannot be expressed in tokens"),
        (gs.Dict(), "an empty space"),
    ],
)
def test_actions_that_one_field_cannot_say_are_refused(space: gs.Space, message: str) -> None:
    with pytest.raises(DataError, match=message):
        action_map(space, "x")


@pytest.mark.parametrize(
    "space, message",
    [
        (gs.Sequence(gs.Discrete(2)), "cannot be expressed in tokens"),
        (gs.Graph(gs.Discrete(2), None), "cannot be expressed in tokens"),
        (gs.Discrete(5000), "5000 values, expected at most 1024"),
        (gs.Box(0, 1, (600,)), "an observation of 600 numbers"),
    ],
)
def test_observations_that_tokens_cannot_say_are_refused(space: gs.Space, message: str) -> None:
    with pytest.raises(DataError, match=message):
        StepAdapter(space, gs.Discrete(2), "x")


def test_actions_outside_of_their_bounds_are_refused_not_clipped() -> None:
    action = action_map(gs.Box(-2.0, 2.0, (1,)), "x")
    assert action.from_native([1.0]) == pytest.approx(0.5)
    with pytest.raises(DataError, match="clip it"):
        action.from_native([2.5])
    with pytest.raises(DataError, match="expected below"):
        action_map(gs.Discrete(3), "x").from_native(3)


@pytest.mark.parametrize(
    "shape, dtype, high, stored",
    [
        ((84, 84, 3), np.uint8, 255, (96, 96, 3)),
        ((84, 84), np.uint8, 255, (96, 96, 3)),
        ((4, 64, 64), np.uint8, 255, (64, 64, 3)),
        ((64, 80, 1), np.float32, 1, (64, 80, 3)),
    ],
)
def test_pictures_are_filled_up_to_whole_patches(shape, dtype, high, stored) -> None:
    leaf = observation_leaves(gs.Box(0, high, shape, dtype), "x")["pixels"]
    assert leaf.field.kind == "image" and leaf.field.shape == stored
    pixels = gs.Box(0, high, shape, dtype).sample()
    image = leaf.read(pixels)
    assert image.shape == stored and image.dtype == np.uint8
    if shape == (84, 84, 3):
        assert np.array_equal(image[:84, :84], pixels) and not image[84:].any()
    if shape[0] == 4:
        assert all(np.array_equal(image[:, :, c], pixels[3]) for c in range(3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 9])
def test_of_a_stack_of_frames_model_and_people_see_the_newest(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    image = observation_leaves(gs.Box(0, 255, pixels.shape, np.uint8), "x")["pixels"].read(pixels)
    newest = pixels[:, :, -3:] if channels % 3 == 0 else pixels[:, :, [-1] * 3]
    assert np.array_equal(image, newest) and np.array_equal(as_rgb(pixels), newest)


def test_large_pictures_are_shrunk_and_keep_their_proportions() -> None:
    leaf = observation_leaves(gs.Box(0, 255, (400, 600, 3), np.uint8), "x")["pixels"]
    height, width, _ = leaf.field.shape
    assert height * width <= MAX_PATCHES * 256 and 1.2 < width / height < 1.8
    assert leaf.read(np.full((400, 600, 3), 7, np.uint8)).mean() == 7


class Endless(gymnasium.Env):
    """Never ends by itself, and tells success in its own words."""

    observation_space = gs.Box(-1, 1, (1,), np.float32)
    action_space = gs.Discrete(2)

    def __init__(self, bad: bool = False) -> None:
        self.bad = bad

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        observation = np.zeros(3 if self.bad else 1, np.float32)
        return observation, 1.0, True, True, {"is_success": np.True_}


def test_success_ends_and_versions() -> None:
    gymnasium.register("Endless-v0", Endless)
    gymnasium.register("BadEndless-v0", Endless, kwargs={"bad": True})
    suite, name = parse_task_id("gym/Endless-v0")
    assert suite.horizon(name) == LONGEST
    assert suite.environment_version(name)["horizon"] == str(LONGEST)
    env = make_env("gym/Endless-v0")
    env.reset(seed=1)
    *_, terminated, truncated, info = env.step(0)
    assert info["success"] is True and terminated and not truncated
    env = make_env("gym/BadEndless-v0")
    env.reset(seed=1)
    with pytest.raises(DataError, match="gym/BadEndless-v0: observation 'state'.*shape"):
        env.step(0)


@pytest.mark.parametrize(
    "task, message",
    [
        ("gym/CartPol-v1", "did you mean 'CartPole-v1'"),
        ("gym/no_such_module:X-v0", "the module 'no_such_module' cannot be imported"),
        ("gym/json:X-v0", "no environment 'X-v0' is registered"),
    ],
)
def test_what_is_not_registered_is_one_clear_error(task: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_env(task)


def test_a_package_that_is_missing_is_named() -> None:
    gymnasium.register("Needs-v0", "package_that_is_nowhere.envs:Env")
    with pytest.raises(DataError, match="'package_that_is_nowhere' is not installed"):
        make_env("gym/Needs-v0")


def test_no_task_is_listed_and_every_one_can_be_named() -> None:
    assert SUITES["gym"].task_names() == [] and SUITES["gym"].is_open
    assert parse_task_id("gym/CartPole-v1")[1] == "CartPole-v1"
