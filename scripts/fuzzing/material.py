"""A small file of every kind that db1 reads, made once through its own commands."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .trial import Outcome, run

YAML = """
name: tiny
vocabulary: {text_size: 400, num_continuous_bins: 64, num_discrete: 128}
sequence: {length: 64}
data:
  root: data
  heldout_share: 0.2
  evaluation_samples: 4
  tasks: {tsp/uniform20: {weight: 0.5, episodes: 6}}
  text: {words: {weight: 0.5, source: words.jsonl}}
model: {num_layers: 1, num_heads: 2, width: 32, memory_length: 32, vision_channels: 32}
training: {num_steps: 4, global_batch_size: 2, micro_batch_size: 2, learning_rate: 1.0e-3,
  engine: torch, log_every: 1, checkpoint_every: 2, watch: {trackers: []}}
"""
EVALUATION = ("--episodes", "2", "--workers", "0", "--max-steps", "4", "--no-prompt")
WORDS = ("the", "a", "small", "old", "red", "cat", "dog", "river", "walks", "sees", "and", "then")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Files of one kind, and the command that reads them.

    Args:
        kind: Of the files, for the summary.
        files: What is damaged, below the folder of the material.
        command: Reads it.
        outputs: What the command makes, removed before each run.
        is_own: db1 wrote the files: a damage that changes what the command says must be found.
            Files of others carry no checksum, and a YAML file says what its author means.
    """

    kind: str
    files: tuple[str, ...]
    command: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    is_own: bool = True


def make(folder: Path) -> None:
    """Fills a folder."""
    rng = random.Random(0)
    (folder / "tiny.yaml").write_text(YAML, encoding="utf-8")
    lines = [" ".join(rng.choices(WORDS, k=20)) for _ in range(80)]
    (folder / "words.jsonl").write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8"
    )
    (folder / "hosts").write_text("127.0.0.1 slots=1\n", encoding="utf-8")
    _foreign(folder)
    for command in (
        ["collect", "--config", "tiny.yaml", "--reference-episodes", "2"],
        ["train", "tiny.yaml"],
        ["eval", "runs/tiny", "--out", "ev", *EVALUATION],
        ["convert", "runs/tiny", "tensors", "--to", "safetensors"],
        ["import", "coco", "coco", "--out", "pairs"],
        ["export", "minari", "data/tsp/uniform20", "minari"],
    ):  # fmt: skip
        outcome = run(command, folder, limit=600)
        if outcome.status not in (0, 1):
            raise SystemExit(f"db1 {' '.join(command)}: {outcome.err[-2000:]}")


def readers(folder: Path) -> list[Reader]:
    """The kinds of files in the material."""

    def below(place: str, pattern: str = "*") -> tuple[str, ...]:
        found = sorted(p for p in (folder / place).rglob(pattern) if p.is_file())
        return tuple(str(p.relative_to(folder)) for p in found if p.stat().st_size)

    generate = ("generate", "runs/tiny", "--prompt", "the", "--max-tokens", "8", "--device", "cpu")
    checkpoint = max(p.name for p in (folder / "runs/tiny/checkpoints").glob("step-*"))
    return [
        Reader(kind="episodes", files=below("data/tsp"), command=("inspect", "data/tsp/uniform20")),
        Reader(kind="documents", files=below("data/text"), command=("inspect", "data/text/words")),
        Reader(kind="pairs", files=below("pairs"), command=("inspect", "pairs/train")),
        Reader(  # before a training goes on: results are of one checkpoint
            kind="finished tasks",
            files=below("ev/finished", "*.json"),
            command=("eval", "runs/tiny", "--out", "ev", *EVALUATION),
            is_own=False,
        ),
        Reader(
            kind="checkpoint",
            files=below(f"runs/tiny/checkpoints/{checkpoint}"),
            command=(*generate, "--checkpoint", checkpoint),
        ),
        Reader(
            kind="checkpoint, resumed",
            files=below(f"runs/tiny/checkpoints/{checkpoint}"),
            command=("train", "tiny.yaml", "training.num_steps=5"),
            is_own=False,
        ),
        Reader(
            kind="run folder",
            files=tuple(f"runs/tiny/{n}" for n in ("config.yaml", "tokenizer.json", "specs.json")),
            command=generate,
            is_own=False,
        ),
        Reader(
            kind="metrics",
            files=("runs/tiny/metrics.jsonl", "runs/tiny/mixture.json"),
            command=("plot", "runs/tiny", "--out", "curves.html"),
            is_own=False,
        ),
        Reader(
            kind="safetensors folder",
            files=below("tensors"),
            command=("generate", "tensors", *generate[2:]),
            is_own=False,
        ),
        Reader(
            kind="results",
            files=("ev/results.json",),
            command=("report", "ev", "--html", "page.html"),
            is_own=False,
        ),
        *(
            Reader(kind=kind, files=files, command=("import", kind, *command, "--out", "imported"),
                   outputs=("imported",), is_own=False)
            for kind, files, command in (
                ("d4rl", ("d4rl.hdf5",), ("d4rl.hdf5", "--task", "toy/d4rl")),
                ("jat", ("jat.parquet",), ("jat.parquet", "--task", "toy/jat")),
                ("minari", below("minari"), ("minari", "--task", "toy/minari")),
                ("coco", below("coco"), ("coco",)),
                ("text", ("words.jsonl",), ("words.jsonl", "--text-size", "300")),
                ("megatron", below("data/text/words", "train.*"),
                 ("data/text/words/train", "--tokenizer", "tokenizer.json")),
            )
        ),
        Reader(
            kind="configuration", files=("tiny.yaml",),
            command=("train", "tiny.yaml", "--dry-run"), is_own=False,
        ),
        Reader(
            kind="tokenizer", files=("tokenizer.json",), outputs=("imported",), is_own=False,
            command=("import", "text", "words.jsonl", "--tokenizer", "tokenizer.json",
                     "--text-size", "400", "--out", "imported"),
        ),
    ]  # fmt: skip


def _foreign(folder: Path) -> None:
    """Files of other programs."""
    import h5py
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    rng = np.random.default_rng(0)
    steps = 24
    with h5py.File(folder / "d4rl.hdf5", "w") as file:
        file["observations"] = rng.normal(size=(steps, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32)
        file["rewards"] = rng.normal(size=steps).astype(np.float32)
        file["terminals"] = np.arange(steps) % 6 == 5
        file["timeouts"] = np.zeros(steps, dtype=bool)
    numbers = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
    table = pyarrow.table(
        {
            "continuous_observations": pyarrow.array(rng.normal(size=(3, 4, 2)).tolist(), numbers),
            "continuous_actions": pyarrow.array(rng.uniform(-1, 1, (3, 4, 1)).tolist(), numbers),
            "rewards": pyarrow.array(rng.normal(size=(3, 4)).tolist()),
        }
    )
    pyarrow.parquet.write_table(table, folder / "jat.parquet")
    (folder / "coco/annotations").mkdir(parents=True)
    (folder / "coco/train2014").mkdir()
    images, captions = [], []
    for number in range(4):
        name = f"{number}.png"
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "coco/train2014" / name)
        images.append({"id": number, "file_name": name})
        captions.append({"image_id": number, "id": number, "caption": f"the picture {number}"})
    (folder / "coco/annotations/captions_train2014.json").write_text(
        json.dumps({"images": images, "annotations": captions}), encoding="utf-8"
    )


def finish(folder: Path) -> None:
    """Copies what stands alone: the tokenizer of the run."""
    content = (folder / "runs/tiny/tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(content)


def baseline(reader: Reader, folder: Path) -> Outcome:
    """What the command says with whole files, which it leaves as they were.

    Raises:
        SystemExit: It does not work even then.
    """
    import shutil

    clear(reader.outputs, folder)
    places = {Path(file).parts[0] for file in reader.files if (folder / file).is_file()}
    places = {place for place in places if (folder / place).is_dir()}
    kept = folder.with_name(f"{folder.name}.whole")
    shutil.rmtree(kept, ignore_errors=True)
    for place in places:
        shutil.copytree(folder / place, kept / place)
    outcome = run(reader.command, folder, limit=600)
    for place in places:
        clear([place], folder)
        shutil.move(kept / place, folder / place)
    if outcome.status not in (0, 1):
        raise SystemExit(f"{reader.kind}: db1 {' '.join(reader.command)}: {outcome.err[-2000:]}")
    return outcome


def clear(outputs: Sequence[str], folder: Path) -> None:
    """Removes what a command made."""
    import shutil

    for name in outputs:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
