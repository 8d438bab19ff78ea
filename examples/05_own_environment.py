"""Your own environment and expert: python examples/05_own_environment.py [FOLDER]"""

import sys
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces as gs

import db1


class Lamp(gymnasium.Env):
    """Turn the dial to the number that is shown."""

    observation_space = gs.Dict(shown=gs.Discrete(8), dial=gs.Box(0, 7, (1,)))
    action_space = gs.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown, self.dial = self.np_random.integers(8), self.np_random.integers(8)
        return self.seen(), {}

    def step(self, action):
        self.dial = int(np.clip(self.dial + action, 0, 7))
        return self.seen(), float(self.dial == self.shown), False, False, {}

    def seen(self):
        return {"shown": self.shown, "dial": np.array([self.dial], np.float32)}


def expert(seen):
    return np.sign(seen["shown"] - seen["dial"][0])


gymnasium.register("Lamp-v0", Lamp, max_episode_steps=12)
out = Path(sys.argv[1] if len(sys.argv) > 1 else "data/example")
made = db1.collect("gym/Lamp-v0", out, episodes=20, expert=expert)[0]
print(f"{made.episodes} episodes, {made.mean_return:.2f} of random {made.random_return:.2f}")
