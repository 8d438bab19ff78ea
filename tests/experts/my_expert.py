"""Experts as somebody else would write them: a function, a class, and ones that fail."""

from __future__ import annotations

import numpy as np
import torch


def balance(state):
    """Pushes CartPole's cart to where the pole leans."""
    position, speed, angle, turning = state
    return int(angle + 0.3 * turning + 0.02 * position + 0.05 * speed > 0)


class Balancer:
    """The same with a memory of how many episodes it has seen."""

    episodes = 0

    def reset(self):
        type(self).episodes += 1

    def __call__(self, state):
        return balance(state)


def torque(state):
    """More than the pendulum takes."""
    return np.array([3.0])


def clumsy(state):
    return state["angle"]


class Agent(torch.nn.Module):
    """As CleanRL's scripts define theirs."""

    def __init__(self, envs):
        super().__init__()
        size = int(np.prod(envs.single_observation_space.shape))
        self.critic = torch.nn.Linear(size, 1)
        self.actor = torch.nn.Linear(size, int(envs.single_action_space.n))


NOT_A_FUNCTION = 3
