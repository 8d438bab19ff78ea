"""Seeds and the states of random generators."""

import random

import numpy as np
import torch

from db1.seeding import random_states, restore_random_states, seed_everything


def _draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seeds_depend_on_seed_rank_and_step():
    seen = set()
    for arguments in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        seed_everything(*arguments)
        first = _draws()
        seed_everything(*arguments)
        assert _draws() == first
        seen.add(first)
    assert len(seen) == 4


def test_random_states_survive_a_restricted_file(tmp_path):
    seed_everything(5)
    np.random.randn()  # leaves a cached second number
    torch.save(random_states(), tmp_path / "states.pt")
    expected = [_draws(), np.random.randn()]
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert [_draws(), np.random.randn()] == expected
