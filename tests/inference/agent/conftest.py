"""Tasks, their codecs, and models that read the patches of the test's codec."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from db1.sequence.step import StepCodec
from db1.suites import make_env
from db1.tokens.number_patch import PatchSizes
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))

from agent_episodes import TASKS


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("babyai"):
        pytest.importorskip("minigrid", reason='needs pip install "db1[babyai]"')
    return request.param


@pytest.fixture(params=[1, 4], ids=["numbers", "number_patches"])
def patches(request: pytest.FixtureRequest) -> PatchSizes:
    return PatchSizes(numbers=request.param)


@pytest.fixture
def codec(
    task: str, vocabulary: Vocabulary, tokenizer: TextTokenizer, patches: PatchSizes
) -> StepCodec:
    return StepCodec(make_env(task).step_spec, vocabulary, tokenizer, patches)


@pytest.fixture
def make_model(make_model: Callable, request: pytest.FixtureRequest) -> Callable:
    """Makes models that read the patches of the test's codec."""
    size = request.getfixturevalue("patches").numbers if "patches" in request.fixturenames else 1
    return partial(make_model, number_patch=size)
