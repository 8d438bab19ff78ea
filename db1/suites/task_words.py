"""Instructions of built-in tasks, in natural words; other tasks go by their name in words."""

from __future__ import annotations

_METAWORLD = {
    "assembly": "put the ring on the peg",
    "basketball": "throw the ball into the basket",
    "bin-picking": "move the block into the other bin",
    "box-close": "put the lid on the box",
    "button-press": "press the button",
    "button-press-topdown": "press the button from above",
    "button-press-topdown-wall": "press the button behind the wall from above",
    "button-press-wall": "press the button behind the wall",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn the dial",
    "disassemble": "take the ring off the peg",
    "door-close": "close the door",
    "door-lock": "lock the door",
    "door-open": "open the door",
    "door-unlock": "unlock the door",
    "drawer-close": "close the drawer",
    "drawer-open": "open the drawer",
    "faucet-close": "turn the faucet off",
    "faucet-open": "turn the faucet on",
    "hammer": "hammer the nail into the wall",
    "hand-insert": "put the block into the hole by hand",
    "handle-press": "press the handle down",
    "handle-press-side": "press the handle down from the side",
    "handle-pull": "pull the handle up",
    "handle-pull-side": "pull the handle up from the side",
    "lever-pull": "pull the lever",
    "peg-insert-side": "insert the peg sideways",
    "peg-unplug-side": "unplug the peg sideways",
    "pick-out-of-hole": "pick the puck out of the hole",
    "pick-place": "pick up the puck and place it at the goal",
    "pick-place-wall": "pick up the puck and place it behind the wall",
    "plate-slide": "slide the plate into the cabinet",
    "plate-slide-back": "slide the plate out of the cabinet",
    "plate-slide-back-side": "slide the plate out of the cabinet sideways",
    "plate-slide-side": "slide the plate into the cabinet sideways",
    "push": "push the puck to the goal",
    "push-back": "push the block back to the goal",
    "push-wall": "push the puck around the wall to the goal",
    "reach": "reach the goal",
    "reach-wall": "reach the goal behind the wall",
    "shelf-place": "put the block on the shelf",
    "soccer": "kick the ball into the net",
    "stick-pull": "pull the box with the stick",
    "stick-push": "push the box with the stick",
    "sweep": "sweep the block off the table",
    "sweep-into": "sweep the block into the hole",
    "window-close": "close the window",
    "window-open": "open the window",
}

_CLASSIC_CONTROL = {
    "Acrobot-v1": "swing the acrobot up to the line",
    "CartPole-v1": "balance the pole on the cart",
    "MountainCar-v0": "drive the car up the hill",
    "MountainCarContinuous-v0": "drive the car up the hill with a continuous throttle",
    "Pendulum-v1": "swing the pendulum up",
}

_MAZES = {
    "UMaze": "the u-shaped maze",
    "Open": "the open maze",
    "Open_Diverse_G": "the open maze, any goal",
    "Open_Diverse_GR": "the open maze, any goal and start",
    "Medium": "the medium maze",
    "Medium_Diverse_G": "the medium maze, any goal",
    "Medium_Diverse_GR": "the medium maze, any goal and start",
    "Large": "the large maze",
    "Large_Diverse_G": "the large maze, any goal",
    "Large_Diverse_GR": "the large maze, any goal and start",
}

_FETCH = {
    "PickAndPlace": "pick up the block with the arm and bring it to the goal",
    "Push": "push the block with the arm to the goal",
    "Reach": "reach the goal with the arm",
    "Slide": "slide the puck with the arm to the goal",
}

_DMC = {
    "ball_in_cup-catch": "catch the ball in the cup",
    "cartpole-balance": "balance the pole of the cart",
    "cartpole-balance_sparse": "balance the pole of the cart upright",
    "cartpole-swingup": "swing up the pole of the cart",
    "cartpole-swingup_sparse": "swing up the pole of the cart and hold it upright",
    "cheetah-run": "run as a cheetah",
    "finger-spin": "spin the body with the finger",
    "finger-turn_easy": "turn the body to the large target with the finger",
    "finger-turn_hard": "turn the body to the small target with the finger",
    "fish-swim": "swim to the target as a fish",
    "fish-upright": "turn upright as a fish",
    "hopper-hop": "hop on one leg",
    "hopper-stand": "stand on one leg",
    "lqr-lqr_2_1": "bring two bodies to rest with one motor",
    "lqr-lqr_6_2": "bring six bodies to rest with two motors",
    "pendulum-swingup": "swing up the pendulum and balance it",
    "point_mass-easy": "move the point to the middle",
    "point_mass-hard": "move the point to the middle with mixed-up motors",
    "reacher-easy": "reach the large target with two links",
    "reacher-hard": "reach the small target with two links",
    "walker-run": "run on two legs",
    "walker-stand": "stand on two legs",
    "walker-walk": "walk on two legs",
}

_MUJOCO = {
    "Ant-v5": "walk forward as an ant",
    "HalfCheetah-v5": "run forward as a cheetah",
    "Hopper-v5": "hop forward on one leg",
    "Humanoid-v5": "walk forward as a human",
    "HumanoidStandup-v5": "stand up as a human",
    "InvertedDoublePendulum-v5": "balance two poles on the cart",
    "InvertedPendulum-v5": "balance the pole on the sliding cart",
    "Pusher-v5": "push the cylinder to the goal",
    "Reacher-v5": "reach the target with the fingertip",
    "Swimmer-v5": "swim forward",
    "Walker2d-v5": "walk forward on two legs",
}

TASK_WORDS = (
    {f"metaworld/{name}-v3": words for name, words in _METAWORLD.items()}
    | {f"classic_control/{name}": words for name, words in _CLASSIC_CONTROL.items()}
    | {
        f"robotics/PointMaze_{name}{reward}-v3": f"go to the goal of {maze}"
        for name, maze in _MAZES.items()
        for reward in ("", "Dense")
    }
    | {
        f"robotics/Fetch{name}{reward}-v4": words
        for name, words in _FETCH.items()
        for reward in ("", "Dense")
    }
    | {f"dmc/{name}": words for name, words in _DMC.items()}
    | {f"mujoco/{name}": words for name, words in _MUJOCO.items()}
)
"""Words by task id; variants that differ in their reward only share them."""
