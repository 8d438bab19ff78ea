"""Pages of README and docs, typed from top to bottom as a stranger does.

Each page gets a folder as `bash scripts/quickstart.sh` leaves a checkout, and an environment with
what setup.sh installs, db1 as a wheel, and the extras that the page names above a command. Sizes
are those of `SMALL`; `NOT_RUN` says why a command is parsed only (`test_docs.py`).
Tutorials are typed by `test_tutorials.py`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest
from fresh_environment import Environments, typed
from ports import free_port
from reader_files import write_checkout, write_reader_files
from shown import PLAIN, ROOT, Command, Extras, File, Item, shown, typed_pages

NOT_RUN = {
    r"scripts/test\.sh": "runs the tests",
    r"scripts/benchmarks\.sh": "measures for half an hour: tests/test_measure.py",
    r"--device cuda|benchmark_gpu": "needs a GPU",
    r"configs/(db1_small|easy_vqa)|runs/(db1_small|easy_vqa)": "hours of training",
    r"scripts/pretrain_(79m|364m|1\.2b)": "needs machines and their data: tests/cli/test_launch.py",
    r"dial": "changes db1's own code: tests/test_worked_example.py",
    r"(minari atari|trajectories procgen)/": "needs a data set: tests/importers",
    r"\bCONFIG\b|=RUN\b": "stands for what a reader has",
}
"""By pattern: commands that are parsed only, and why."""

RELEASED = "--episodes 2 --max-steps 6 --workers 0"
SMALL = (
    (r"--episodes \d+(?: --episodes \d+)*", "--episodes 3"),
    (r"^(db1 import frames .*--episodes) 3", r"\1 10"),
    (r'^(db1 collect "\$TASK" --episodes) 3', r"\1 15"),
    (r"\bepisodes=\d+", "episodes=2"),
    (r"-5-episodes", "-2-episodes"),
    (r"--seeds \d+", "--seeds 2"),
    (r"^(db1 bench few-shot )", r"\1--evaluation-episodes 2 "),
    (r"--evaluation-episodes 10", ""),
    (r"--reference-episodes \d+", "--reference-episodes 1"),
    (r"--require-gain", ""),
    (r"runs/(NAME|a|big)\b", "runs/db1_tiny"),
    (r"runs/(b|small)/evaluation", "runs/db1_tiny/retrieval"),
    (r"runs/(b|small)\b", "runs/wide"),
    (r"--step \d+ --slot \d+", "--step 5 --slot 1"),
    (r"--text-size \d+", "--text-size 300"),
    (r"--max-tokens \d+", "--max-tokens 40"),
    (r"--memory-length \d\d+", "--memory-length 96"),
    (r"adaptive\.period=\d+", "adaptive.period=4"),
    (r"--only mw-reach", "--only 65"),
    (r"--size 1\.2b", "--size tiny"),
    (r"tail -f", "tail"),
    (r"^(tensorboard .*)$", r"\1 --port 0"),
    (r"^(db1 (?:serve|demo) .*)$", r"\1 --port 0"),
    (r"\b29[05]02\b", "PORT"),
    (r"^(db1 collect (?!--config|.*--reference))", r"\1--reference-episodes 1 "),
    (r"^(db1 eval )(?=runs/finetune)", r"\1--max-steps 20 "),
    (r"^((?:deepspeed .*)?db1 eval (?!.*--episodes))", r"\1--episodes 2 "),
    (r"^((?:deepspeed .*)?db1 eval )", r"\1--workers 0 "),
    (r"^deepspeed ", "deepspeed --master_port PORT "),
    (r"^(db1 train configs/finetune.*)$", r"\1 training.num_steps=4 training.warmup_steps=1"),
    (r"^(scripts/pretrain_tiny.*)$", r"\1 training.num_steps=4 training.warmup_steps=1"),
    (r"^(db1 generate .*)$", r"\1 --max-tokens 8"),
    (r"^(db1 bench decode)$", r"\1 --quick"),
    (r"^((?:[A-Z_]+=\S+ )*)(sh scripts/evaluate_rl)", rf"\1EXTRA_OPTIONS='{RELEASED}' \2"),
    (r"/tmp/released", "made/released"),
    (r"num_steps: \d+", "num_steps: 8"),
    (r"warmup_steps: \d+", "warmup_steps: 1"),
    (r"episodes: \d+", "episodes: 3"),
    (r"evaluation_samples: \d+", "evaluation_samples: 2"),
    (r"^(db1 bench scaling.*)$", r"\1 --quick --sizes 79m"),
)
"""What makes commands, scripts and files quick; everything else is as it is shown."""

RETRIEVAL = "db1 eval runs/db1_tiny --policy retrieval --out runs/db1_tiny/retrieval"

FIRST = {
    "docs/words_and_pictures.md": (
        "db1 import coco ~/coco --out data/pairs/coco --karpathy",
        "db1 import vqa ~/vqa --out data/pairs/vqa",
    ),
    "docs/evaluation.md": (RETRIEVAL,),
    "docs/training.md": (RETRIEVAL, "db1 train configs/db1_tiny.yaml name=wide model.width=32"),
}
"""What a page says is done on another page."""

EXPERIMENT = """
name: db1_tiny
vocabulary: {text_size: 400, num_continuous_bins: 64, num_discrete: 32}
sequence: {length: 96, instruction: true, max_instruction: 24}
data:
  root: data/db1_tiny
  heldout_share: 0.2
  evaluation_samples: 2
  tasks:
    classic_control/CartPole-v1: {episodes: 4}
    tsp/uniform20: {episodes: 4}
    babyai/KeyCorridorS3R1: {episodes: 3}
  text:
    psalm: {source: my_corpus.jsonl}
  pairs:
    vqa: {kind: question, image_size: 32, prompt: ""}
    coco: {kind: caption, image_size: 32, prompt: ""}
model: {num_layers: 1, num_heads: 2, width: 16, memory_length: 96, vision_channels: 8,
        vision_groups: 2, number_patch: 21, number_width: 8}
training: {num_steps: 8, global_batch_size: 24, micro_batch_size: 24, learning_rate: 3.0e-3,
           zero_stage: 0, log_every: 1, eval_every: 4, checkpoint_every: 4}
"""


def reason_not_run(command: str) -> str | None:
    """The reason why a command is parsed only."""
    return next((why for what, why in NOT_RUN.items() if re.search(what, command)), None)


def small(text: str) -> str:
    """A command, a script or a file with small sizes."""
    for pattern, replacement in SMALL:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


ITEMS = {
    page.relative_to(ROOT).as_posix(): list(shown(page.read_text()))
    for page in PLAIN
    if page.parent.name != "tutorials"
}
SHOWN = [item.text for items in ITEMS.values() for item in items if isinstance(item, Command)]
TYPED = [
    page
    for page, items in ITEMS.items()
    if any(isinstance(item, Command) and not reason_not_run(item.text) for item in items)
]


QUICK = ("README.md",)
"""Pages that continuous integration types, too."""


def test_most_commands_run_and_every_reason_is_needed() -> None:
    run = [command for command in SHOWN if reason_not_run(command) is None]
    assert len(run) >= 100 and len(run) >= 0.8 * len(SHOWN)
    unneeded = [what for what in NOT_RUN if not any(re.search(what, c) for c in SHOWN)]
    assert unneeded == []


def type_page(items: list[Item], folder: Path, environments: Environments, home: Path) -> list[str]:
    """Types what a page shows, in the environment that it has made so far; says what failed."""
    extras: frozenset[str] = frozenset()
    failed = []
    for item in items:
        if isinstance(item, Extras):
            extras |= item.names
        elif isinstance(item, File):
            (folder / item.name).write_text(small(item.content))
        elif reason_not_run(item.text) is None:
            environment = environments.having(extras)
            mark_as_set_up(environment, folder)
            command = small(item.text).replace("PORT", str(free_port()))
            failed.append(typed(command, folder, environment, home))
    return [what for what in failed if what]


def mark_as_set_up(environment: Path, folder: Path) -> None:
    """Tells scripts/setup.sh that the environment has what the folder's requirements ask for."""
    files = [*sorted(folder.glob("requirements*.txt")), folder / "setup.py"]
    files += [folder / "pyproject.toml", *sorted((folder / "csrc").iterdir())]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    version = "{}.{}".format(*sys.version_info[:2])
    (environment / "db1-setup").write_text(f"{digest[:16]}-{version}-{folder}\n")


MADE_UP = """
# Films

    python -c "import numpy"
    python -c "import imageio_ffmpeg"

MP4 needs `pip install "db1[video]"`.

    python -c "import imageio_ffmpeg"
"""


def test_a_package_that_the_page_does_not_name_is_missed(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs bash scripts/test.sh --all-suites")
    write_checkout(tmp_path)
    environments = Environments(tmp_path, base=["numpy"], has_db1=False)
    before, after = MADE_UP.split("MP4")
    assert type_page(list(shown("MP4" + after)), tmp_path, environments, tmp_path) == []
    failed = type_page(list(shown(MADE_UP)), tmp_path, environments, tmp_path)
    assert len(failed) == 1 and "No module named 'imageio_ffmpeg'" in failed[0]
    assert type_page(list(shown(before)), tmp_path, environments, tmp_path) == failed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("fresh")
def test_a_suite_that_the_page_does_not_name_is_missed(
    environments: Environments, tmp_path: Path
) -> None:
    write_checkout(tmp_path)
    collect: list[Item] = [Command("db1 collect atari/Pong --episodes 1 --out data")]
    (failed,) = type_page(collect, tmp_path, environments, tmp_path)
    assert "status 2" in failed and 'pip install "db1[atari]"' in failed
    with pytest.raises(AssertionError, match="does not provide the extra 'atary'"):
        environments.having(frozenset({"atary"}))


@pytest.fixture(scope="module")
def prepared(environments: Environments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout `db1` with a reader's own files, in which the quickstart has run, and a `home`.

    It is a copy: what lies in it remembers paths of the folder `place` beside it.
    """
    place = tmp_path_factory.mktemp("shown") / "place"
    folder = place / "db1"
    folder.mkdir(parents=True)
    write_checkout(folder)
    for file in (*folder.glob("configs/*.yaml"), *folder.glob("scripts/*.sh")):
        file.write_text(small(file.read_text()))
    (folder / "configs/db1_tiny.yaml").write_text(EXPERIMENT)
    write_reader_files(folder, place / "home")
    assert (
        type_page([Command("bash scripts/quickstart.sh")], folder, environments, place / "home")
        == []
    )
    return Path(shutil.copytree(place, place.with_name("prepared"), symlinks=True))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("fresh")
@pytest.mark.parametrize("page", typed_pages(TYPED, QUICK))
def test_a_page_can_be_typed(page: str, prepared: Path, environments: Environments) -> None:
    place = prepared.with_name("place")
    shutil.rmtree(place)
    shutil.copytree(prepared, place, symlinks=True)
    items = [*map(Command, FIRST.get(page, ())), *ITEMS[page]]
    failed = type_page(items, place / "db1", environments, place / "home")
    assert not failed, "\n\n".join(failed)
