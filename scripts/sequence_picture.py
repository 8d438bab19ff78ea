"""Draws docs/sequence.svg, the training sequence that README shows: `db1 inspect --svg`.

    python scripts/sequence_picture.py            draws it
    python scripts/sequence_picture.py --check    exit status 1 where it is out of date

BabyAI's bot plays; a step has the mission, what the agent sees as a picture, its
direction, and the action.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PICTURE = ROOT / "docs" / "sequence.svg"
LEVEL, TASK = "babyai/GoToRedBallGrey", "pictures/GoToRedBallGrey"
SEEDS = range(5, 9)
NUM_STEPS, TEXT_SIZE = 4, 300
STEP = 0
"""Its sequence begins with a prompt."""
TILE, SIDE = 8, 64
"""Pixels of a cell and of a picture: 7 x 7 cells, framed to whole patches."""

EXPERIMENT = """
name: GoToRedBallGrey
vocabulary: {{text_size: {text_size}}}
sequence: {{length: {length}}}
data:
  root: {root}
  tokenizer: {root}/tokenizer.json
  heldout_share: 0
  tasks: {{{task}: {{}}}}
training: {{num_steps: 8, global_batch_size: 1, micro_batch_size: 1, learning_rate: 1.0e-3}}
"""


def draw(place: Path) -> None:
    """Plays, stores, and lets `db1 inspect` draw a sequence.

    Args:
        place: The SVG.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        length = write_demonstrations(root)
        config = root / "experiment.yaml"
        config.write_text(
            EXPERIMENT.format(root=root, task=TASK, length=length, text_size=TEXT_SIZE)
        )
        command = ["inspect", str(config), "--step", str(STEP), "--svg", str(place), "--json", "-"]
        subprocess.run(
            [sys.executable, "-m", "db1", *command], cwd=ROOT, check=True, stdout=DEVNULL
        )


def write_demonstrations(root: Path) -> int:
    """Writes a store and its tokenizer; returns the length of a sequence of NUM_STEPS steps.

    The last token is only a label, so it does not count.
    """
    from db1.store.episodes import EpisodeWriter, StoreHeader
    from db1.suites import make_env
    from db1.tokens.spec import FieldSpec, StepSpec
    from db1.tokens.text import TextTokenizer

    env = make_env(LEVEL)
    spec = StepSpec(
        observation={
            "mission": FieldSpec(kind="text"),
            "view": FieldSpec(kind="image", shape=(SIDE, SIDE, 3)),
            "direction": FieldSpec(kind="discrete", num_values=4),
        },
        action=env.step_spec.action,
    )
    episodes = [demonstrated(env, seed) for seed in SEEDS]
    missions = {str(episode.observations["mission"][0]) for episode in episodes}
    tokenizer = TextTokenizer.train(sorted(missions) * 20, TEXT_SIZE)
    tokenizer.save(root)
    with EpisodeWriter(root / TASK, StoreHeader(task=TASK, spec=spec)) as writer:
        for episode in episodes:
            writer.append(episode)
    mission = max(len(tokenizer.encode(text)) for text in missions)
    return -1 + NUM_STEPS * (
        mission + (SIDE // 16) ** 2 + len(("direction", "separator", "action"))
    )


def demonstrated(env: Any, seed: int) -> Any:
    """An episode of the level's expert, with what the agent sees as pictures."""
    from db1.experts import make_expert
    from db1.tokens.spec import Episode

    observation, _ = env.reset(seed=seed)
    expert, seen, views, actions = make_expert(LEVEL), [], [], []
    expert.reset(env, seed)
    ended = cut = False
    while not (ended or cut):
        seen.append(observation)
        views.append(view_of(env.simulator))
        actions.append(expert.act(env, observation))
        observation, _, ended, cut, _ = env.step(actions[-1])
    return Episode(
        observations={
            "mission": np.array([str(step["mission"]) for step in seen], dtype=object),
            "view": np.stack(views),
            "direction": np.array([step["direction"] for step in seen], np.int32),
        },
        actions=np.array(actions, np.int32),
        rewards=np.zeros(len(actions), np.float32),
        seed=seed,
    )


def view_of(simulator: Any) -> np.ndarray:
    """The agent's view, uint8 (SIDE, SIDE, 3)."""
    view = simulator.get_frame(agent_pov=True, tile_size=TILE)
    edge = (SIDE - view.shape[0]) // 2
    return np.pad(np.asarray(view, np.uint8), ((edge, edge), (edge, edge), (0, 0)))


def without_pixels(text: str) -> str:
    """The drawing without its pictures: another zlib compresses the same pixels to other bytes."""
    return re.sub(r"data:image/png;base64,[^\"]*", "", text)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    if not parser.parse_args().check:
        return draw(PICTURE)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / PICTURE.name
        draw(place)
        if without_pixels(place.read_text()) != without_pixels(PICTURE.read_text()):
            sys.exit(f"{PICTURE}: run python scripts/sequence_picture.py")


if __name__ == "__main__":
    main()
