"""Rank, logging and the renderer."""

import io
import logging

import pytest

from db1 import runtime
from db1.errors import ConfigError


@pytest.fixture
def no_rank(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_rank_without_a_launcher(no_rank):
    assert runtime.current_rank() == runtime.Rank(rank=0, local_rank=0, world_size=1)


def test_rank_of_a_launcher(no_rank):
    no_rank.setenv("RANK", "3")
    no_rank.setenv("LOCAL_RANK", "1")
    no_rank.setenv("WORLD_SIZE", "4")
    rank = runtime.current_rank()
    assert (rank.rank, rank.local_rank, rank.world_size, rank.is_main) == (3, 1, 4, False)


@pytest.mark.parametrize(("name", "value"), [("RANK", "two"), ("RANK", "1"), ("WORLD_SIZE", "0")])
def test_rank_that_cannot_be(no_rank, name, value):
    no_rank.setenv(name, value)
    with pytest.raises(ConfigError, match="environment variable RANK"):
        runtime.current_rank()


@pytest.fixture
def restored_logging():
    package = logging.getLogger("db1")
    before = package.handlers[:], package.level, package.propagate
    yield
    package.handlers[:], package.level, package.propagate = before


@pytest.mark.parametrize(("rank", "expected"), [(0, ["note", "care"]), (2, ["[rank 2] care"])])
def test_only_the_first_rank_logs_notes(rank, expected, restored_logging):
    stream = io.StringIO()
    runtime.setup_logging(rank, handler=logging.StreamHandler(stream))
    logger = logging.getLogger("db1.some.module")
    logger.info("note")
    logger.warning("care")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == expected


@pytest.mark.parametrize(
    ("there", "set_before", "expected"),
    [
        ({"EGL", "OSMesa"}, {}, "egl"),
        ({"OSMesa"}, {}, "osmesa"),
        (set(), {}, None),
        ({"EGL"}, {"MUJOCO_GL": "osmesa"}, "osmesa"),
        ({"EGL"}, {"DISPLAY": ":0"}, None),
    ],
)
def test_the_renderer_follows_what_is_there(monkeypatch, there, set_before, expected):
    for name in ("MUJOCO_GL", "DISPLAY"):
        monkeypatch.setenv(name, set_before.get(name, ""))
    find = lambda name: name if name in there else None  # noqa: E731
    monkeypatch.setattr(runtime.ctypes.util, "find_library", find)
    assert runtime.choose_renderer() == expected
