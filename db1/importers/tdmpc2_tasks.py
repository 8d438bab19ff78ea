"""The tasks of TD-MPC2's sets in the order of their numbers; mt30 has the first thirty.

Source: Hansen et al. 2024, https://github.com/nicklashansen/tdmpc2, `common/__init__.py`.
"""

from __future__ import annotations

_CONTROL_SUITE = """
    walker-stand walker-walk walker-run cheetah-run reacher-easy reacher-hard
    acrobot-swingup pendulum-swingup cartpole-balance cartpole-balance-sparse
    cartpole-swingup cartpole-swingup-sparse cup-catch finger-spin finger-turn-easy
    finger-turn-hard fish-swim hopper-stand hopper-hop walker-walk-backwards
    walker-run-backwards cheetah-run-backwards cheetah-run-front cheetah-run-back
    cheetah-jump hopper-hop-backwards reacher-three-easy reacher-three-hard cup-spin
    pendulum-spin
"""
_META_WORLD = """
    assembly basketball button-press-topdown button-press-topdown-wall button-press
    button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-open
    door-close drawer-close drawer-open faucet-open faucet-close hammer handle-press-side
    handle-press handle-pull-side handle-pull lever-pull peg-insert-side peg-unplug-side
    pick-out-of-hole pick-place pick-place-wall plate-slide plate-slide-side
    plate-slide-back plate-slide-back-side push-back push push-wall reach reach-wall
    shelf-place soccer stick-push stick-pull sweep-into sweep window-open window-close
    bin-picking box-close door-lock door-unlock hand-insert
"""

TASKS = (*_CONTROL_SUITE.split(), *(f"mw-{name}" for name in _META_WORLD.split()))
"""Name by number."""
