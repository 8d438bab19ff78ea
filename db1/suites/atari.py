"""Atari 2600 games (ale-py): 104 games, among them the 57 that papers report.

    observation  `pixels`: the grey screen, 80x80, in all three channels; the brighter of the last
                 two frames (Gymnasium's `AtariPreprocessing` with DB1's image size)
    action       the buttons that the game reads, 3 to 18
    reward       the game's score, not clipped
    episode      to the end of the game (all lives), at most 27,000 steps of 4 frames: 30 minutes

The rules are those of `ALE/<game>-v5`: the console repeats the last action with probability 0.25
(sticky actions), and an episode starts after 1 to 30 idle frames that the seed draws.

Source: Machado et al. 2018, "Revisiting the Arcade Learning Environment"; the image size and the
grey channels are the public DB1 release's.
"""

from __future__ import annotations

import contextlib
import io
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

HORIZON = 27_000
IMAGE_SIZE = 80
FRAME_SKIP = 4
MAX_IDLE_FRAMES = 30
_REPORTED = (
    "Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk "
    "Bowling Boxing Breakout Centipede ChopperCommand CrazyClimber Defender DemonAttack DoubleDunk "
    "Enduro FishingDerby Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond Kangaroo Krull "
    "KungFuMaster MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong PrivateEye Qbert "
    "Riverraid RoadRunner Robotank Seaquest Skiing Solaris SpaceInvaders StarGunner Surround "
    "Tennis TimePilot Tutankham UpNDown Venture VideoPinball WizardOfWor YarsRevenge Zaxxon"
)
_FURTHER = (
    "Adventure AirRaid Atlantis2 Backgammon BasicMath Blackjack Carnival Casino Crossbow "
    "Darkchambers DonkeyKong Earthworld ElevatorAction Entombed Et FlagCapture Frogger Galaxian "
    "Hangman HauntedHouse HumanCannonball JourneyEscape Kaboom KeystoneKapers KingKong Klax "
    "Koolaid LaserGates LostLuggage MarioBros MiniatureGolf MrDo Othello Pacman Pitfall2 Pooyan "
    "SirLancelot SpaceWar Superman Tetris TicTacToe3D Trondead Turmoil VideoCheckers VideoChess "
    "VideoCube WordZapper"
)
REPORTED_GAMES = tuple(_REPORTED.split())
"""The 57 games of Gato, JAT and most papers."""
GAMES = (*REPORTED_GAMES, *_FURTHER.split())
_SEARCHED = (
    "Boxing DemonAttack Freeway Jamesbond Krull Pong RoadRunner SpaceInvaders StarGunner TimePilot"
)
SCRIPTED_GAMES = frozenset({"Breakout"})
SEARCHED_GAMES = frozenset(_SEARCHED.split())
"""Games in which the planner came out above the human reference, most in one whole game."""


class AtariEnv(TaskEnv):
    """One game.

    Args:
        task_id: `atari/<game>`.
        simulator: The environment `ALE/<game>-v5` behind `AtariPreprocessing`.
    """

    def __init__(self, task_id: str, simulator: Any) -> None:
        spec = StepSpec(
            observation={"pixels": FieldSpec(kind="image", shape=(IMAGE_SIZE, IMAGE_SIZE, 3))},
            action=FieldSpec(kind="discrete", num_values=int(simulator.action_space.n)),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=HORIZON, simulator=simulator)

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        screen, _ = self.simulator.reset(seed=seed)
        return _observation(screen), {}

    def _step(self, action: int) -> StepResult:
        screen, reward, terminated, truncated, _ = self.simulator.step(action)
        # A game that ends on its last allowed frame reports both.
        return _observation(screen), reward, terminated, truncated and not terminated, {}

    def render_frame(self) -> np.ndarray:
        """The console's screen in colour, (210, 160, 3)."""
        return self.simulator.unwrapped.ale.getScreenRGB()

    def action_names(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.simulator.unwrapped.get_action_meanings())

    def close(self) -> None:
        self.simulator.close()


class Atari(Suite):
    """All games of ale-py; their ROMs come with the package."""

    name = "atari"
    extra = "atari"
    packages = MappingProxyType({"ale_py": "ale-py", "cv2": "opencv-python-headless"})

    def task_names(self) -> list[str]:
        return list(GAMES)

    def horizon(self, task_name: str) -> int:
        return HORIZON

    def expert_name(self, task_name: str) -> str | None:
        if task_name in SCRIPTED_GAMES:
            return "atari_script"
        return "atari_search" if task_name in SEARCHED_GAMES else None

    def task_missing(self, task_name: str) -> str | None:
        """Returns why the game cannot run here: the suite's packages, or its ROM."""
        return super().task_missing(task_name) or _rom_failure(task_name)

    def _make_env(self, task_name: str) -> AtariEnv:
        if (reason := _rom_failure(task_name)) is not None:
            raise DataError(reason)
        return AtariEnv(f"{self.name}/{task_name}", make_simulator(task_name, IMAGE_SIZE))


def _rom_failure(game: str) -> str | None:
    """Returns why the game's ROM cannot be read; None when it is there and whole."""
    from ale_py import roms
    from ale_py.registration import rom_id_to_name

    names = {rom_id_to_name(rom): rom for rom in roms.get_all_rom_ids()}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says where it looks
            roms.get_rom_path(names[game])
    except OSError as error:
        why = " ".join(str(error).split())
        return (
            f"atari/{game}: no valid ROM {names[game]}.bin ({why}); unset ALE_ROMS_DIR, or put the "
            "ROMs of the package back: pip install --force-reinstall --no-deps ale-py"
        )
    return None


def make_simulator(game: str, image_size: int) -> Any:
    """Builds `ALE/<game>-v5` behind Gymnasium's preprocessing: grey (image_size, image_size)."""
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    console = gymnasium.make(f"ALE/{game}-v5", frameskip=1, disable_env_checker=True)
    has_idle_action = console.unwrapped.get_action_meanings()[0] == "NOOP"
    return AtariPreprocessing(
        console,
        noop_max=MAX_IDLE_FRAMES if has_idle_action else 0,
        frame_skip=FRAME_SKIP,
        screen_size=image_size,
    )


def _observation(screen: np.ndarray) -> Observation:
    return {"pixels": np.repeat(screen[:, :, None], 3, axis=2)}


SUITES.register("atari")(Atari())
