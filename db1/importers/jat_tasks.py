"""Names of JAT's tasks -> task ids of db1, and the bounds of its continuous actions.

    atari-pong -> atari/Pong                 babyai-go-to-red-ball -> babyai/GoToRedBall
    mujoco-pendulum -> mujoco/InvertedPendulum-v5   metaworld-assembly -> metaworld/assembly-v3

JAT was recorded with version 2 of Meta-World and version 4 of the MuJoCo tasks, and without sticky
actions in Atari; its returns are not those of the ids above to the last digit.

Source: task table of https://github.com/huggingface/jat.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_GAMES = (
    "Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk "
    "Bowling Boxing Breakout Centipede ChopperCommand CrazyClimber Defender DemonAttack DoubleDunk "
    "Enduro FishingDerby Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond Kangaroo Krull "
    "KungFuMaster MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong PrivateEye Qbert "
    "Riverraid RoadRunner Robotank Seaquest Skiing Solaris SpaceInvaders StarGunner Surround "
    "Tennis TimePilot Tutankham UpNDown Venture VideoPinball WizardOfWor YarsRevenge Zaxxon"
)
ATARI = MappingProxyType({game.lower(): game for game in _GAMES.split()})
MUJOCO = MappingProxyType(
    {
        "ant": "Ant-v5",
        "doublependulum": "InvertedDoublePendulum-v5",
        "halfcheetah": "HalfCheetah-v5",
        "hopper": "Hopper-v5",
        "humanoid": "Humanoid-v5",
        "pendulum": "InvertedPendulum-v5",
        "pusher": "Pusher-v5",
        "reacher": "Reacher-v5",
        "standup": "HumanoidStandup-v5",
        "swimmer": "Swimmer-v5",
        "walker": "Walker2d-v5",
    }
)
_BABYAI = MappingProxyType(
    {
        "move-two-across": "MoveTwoAcrossS8N9",
        "open-doors-order": "OpenDoorsOrderN4",
        "put-next": "PutNextS7N4",
    }
)
ACTION_BOUND: Mapping[str, float] = MappingProxyType(
    {
        "mujoco-humanoid": 0.4,
        "mujoco-standup": 0.4,
        "mujoco-pendulum": 3.0,
        "mujoco-pusher": 2.0,
    }
)
"""Actions lie in [-bound, bound]; 1 for the tasks that are not listed (Gymnasium's spaces)."""


def jat_task_id(name: str) -> str | None:
    """Task id of a JAT task; None for a name that JAT does not have."""
    suite, _, task = name.partition("-")
    if suite == "atari" and task in ATARI:
        return f"atari/{ATARI[task]}"
    if suite == "mujoco" and task in MUJOCO:
        return f"mujoco/{MUJOCO[task]}"
    if suite == "metaworld" and task:
        return f"metaworld/{task}-v3"
    if suite == "babyai" and task:
        return f"babyai/{_BABYAI.get(task) or ''.join(map(_word, task.split('-')))}"
    return None


def _word(part: str) -> str:
    """`go` -> `Go`; a size such as `s8n9` -> `S8N9`."""
    return part.upper() if any(c.isdigit() for c in part) else part.capitalize()
