"""The planning bot that ships with minigrid, told what was really executed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv

logger = logging.getLogger(__name__)

MAX_SEARCHES = 500
"""Path searches within one step after which a plan counts as broken."""


class BabyAIBotExpert:
    """Plans on what has been seen so far in the episode; looks at the simulator.

    After a step that noise has changed, the bot undoes what matters (an object dropped, a door
    closed) or goes on from where it is. When its plan breaks all the same, a new bot starts in
    the current state, remembering what was seen.

    Args:
        task_name: The level.
    """

    def __init__(self, task_name: str) -> None:
        self._level = task_name
        self._bot: Any = None

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Starts a bot on the episode's mission."""
        self._bot = _new_bot(env)

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the bot's next action; DataError when no plan is left."""
        try:
            return int(self._bot.replan(env.last_action))
        except Exception as error:  # the bot asserts its way: any error means a broken plan
            logger.debug("%s step %d: plans again: %r", env.task_id, env.num_steps, error)
            seen = self._bot.vis_mask
            self._bot = _new_bot(env)
            self._bot.vis_mask |= seen
        try:
            return int(self._bot.replan())
        except Exception as error:
            why = str(error) or type(error).__name__
            raise DataError(
                f"babyai/{self._level} step {env.num_steps}: the bot has no plan ({why})"
            ) from error


def _new_bot(env: TaskEnv) -> Any:
    """Starts a bot; one that already carries what it should put somewhere need not fetch it."""
    from minigrid.envs.babyai.core.verifier import PutNextInstr

    simulator = env.unwrapped.simulator
    bot = _bot_class()(simulator)
    mission = simulator.instrs
    if isinstance(mission, PutNextInstr) and any(
        simulator.carrying is thing for thing in mission.desc_move.obj_set
    ):
        del bot.stack[-2:]  # its two topmost goals: go to the object, pick it up
    return bot


@cache
def _bot_class() -> type:
    """Returns minigrid's bot, kept from planning in circles for ever."""
    from minigrid.utils.baby_ai_bot import BabyAIBot

    class BoundedBot(BabyAIBot):
        num_searches = 0

        def replan(self, action_taken: int | None = None) -> int:
            self.num_searches = 0
            return super().replan(action_taken)

        def _shortest_path(self, *args: Any, **kwargs: Any) -> Any:
            self.num_searches += 1
            if self.num_searches > MAX_SEARCHES:
                raise RuntimeError("it plans in circles")
            accept, *rest = args
            if getattr(accept, "__name__", "") == "unopened_door":
                # Any locked door would do for the bot, which may lie before its own key.
                found = super()._shortest_path(self._with_key(accept), *rest, **kwargs)
                if found[1] is not None:
                    return found
            return super()._shortest_path(accept, *rest, **kwargs)

        def _with_key(self, accept: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
            """Returns `accept`, but only for doors whose key is carried or has been seen."""
            env = self.mission.unwrapped
            seen = [env.grid.get(*place) for place in np.argwhere(self.vis_mask)]
            keys = {thing.color for thing in [*seen, env.carrying] if thing and thing.type == "key"}
            return lambda pos, cell: bool(accept(pos, cell)) and cell.color in keys

    return BoundedBot


EXPERTS.register("babyai_bot")(BabyAIBotExpert)
