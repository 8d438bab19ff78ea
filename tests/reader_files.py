"""What a reader of the pages has in the working folder: own files, small data sets."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from shown import ROOT, File, shown

sys.path.append(str(ROOT / "tests/importers"))  # for foreign_episodes, official_layouts
_SETS = ROOT / "tests/importers"
_CHECKOUT = ("configs", "csrc", "examples", "scripts", "pyproject.toml", "setup.py")


def write_checkout(folder: Path) -> None:
    """Copies what a checkout has besides the package: configurations, scripts, recordings."""
    for name in (*_CHECKOUT, *(path.name for path in ROOT.glob("requirements*.txt"))):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tests/golden", folder / "tests/golden")


def write_reader_files(folder: Path, home: Path) -> None:
    """Texts, images, code, data sets, and a checkpoint in the published layout."""
    _write_texts(folder)
    _write_images(folder)
    _write_code(folder)
    _write_data_sets(folder, home)
    maker = [sys.executable, ROOT / "scripts/make_released_checkpoint.py", folder, "--tokenizer"]
    subprocess.run([*maker, "--tag", "db1_870task_checkpoint"], check=True, capture_output=True)
    (folder / "tokenizer").rename(folder / "my_tokenizer")


def _write_texts(folder: Path) -> None:
    import h5py

    verses = [f"And the {n} sheep of the field went up to the water." for n in range(300)]
    (folder / "book.txt").write_text("\n\n".join(verses))
    (folder / "my_corpus.jsonl").write_text("".join(json.dumps({"text": v}) + "\n" for v in verses))
    (folder / "answers.txt").write_text("red\nblue\n")
    with h5py.File(folder / "demos.hdf5", "w") as file:
        for number in range(3):
            episode = file.create_group(f"data/demo_{number}")
            episode["obs/joints"] = np.ones((5, 3), np.float32)
            episode["actions"] = np.zeros((5, 2), np.float32)
            episode["rewards"] = np.ones(5, np.float32)


def _write_images(folder: Path) -> None:
    from db1.store.pairs import Pair, PairHeader, PairWriter

    data = {}
    for name, colour in {"red": (200, 0, 0), "blue": (0, 0, 200)}.items():
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
        data[name] = buffer.getvalue()
    for name in ("cat.png", "shape.png", "photos/a.png", "shapes/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data["red"])
    for splits, kind in ((("train", "val"), "question"), (("train", "test"), "caption")):
        name = "vqa" if kind == "question" else "coco"
        for split in splits:
            store = folder / "data/db1_tiny/pairs" / name / split
            with PairWriter(store, PairHeader(name=name, split=split, kind=kind)) as writer:
                for number, colour in enumerate([*data] * 4):
                    question = "what color is it?" if kind == "question" else None
                    pair = Pair(image_name=str(number), question=question, texts=(colour,))
                    writer.append(pair, data[colour])


def _write_code(folder: Path) -> None:
    """An environment and an expert (of the tutorial), a suite (of the page on architecture)."""
    for item in shown((ROOT / "docs/tutorials/environment.md").read_text()):
        if isinstance(item, File):
            (folder / item.name).write_text(item.content)
    page = (ROOT / "docs/architecture.md").read_text()
    suite = page.split("```python\n", 2)[1].split("```")[0]
    (folder / "my_suite.py").write_text(suite.replace('"dial"', '"my_suite"'))


def _write_data_sets(folder: Path, home: Path) -> None:
    from foreign_episodes import Raw, write_d4rl, write_db1_cache, write_jat, write_minari
    from gymnasium import spaces
    from official_layouts import make_karpathy, make_vqa
    from test_jat import pictures, write_pictures

    def raw(width: int, actions: int) -> list[Raw]:
        rng = np.random.default_rng(width)
        return [
            Raw(
                observations=rng.normal(size=(6, width)).astype(np.float32),
                actions=rng.uniform(-1, 1, (5, actions)).astype(np.float32),
                rewards=np.ones(5, np.float32),
                terminated=False,
            )
            for _ in range(4)
        ]

    hopper = write_d4rl(folder / "written", raw(11, 3))
    for name in ("hopper_expert.hdf5", "hopper_expert-v2.hdf5"):
        shutil.copy(hopper, folder / name)
    write_minari(
        home / ".minari/datasets/D4RL/door/human-v2",
        raw(39, 28),
        observation_space=spaces.Box(-np.inf, np.inf, (39,), np.float32),
        action_space=spaces.Box(-1.0, 1.0, (28,), np.float32),
    )
    write_jat(home / "jat/mujoco-hopper", raw(11, 3))
    write_pictures(home / "jat/atari-pong", pictures())
    write_db1_cache(folder / "rl_minimal_exp_data/metaworld-reach", raw(39, 4))
    for name, kept, place in (
        ("lerobot", "v3_image", "lerobot/metaworld_mt50"),
        ("rlds", "rlu_control_suite/1.1.0", "rlu_control_suite/cartpole_swingup/1.1.0"),
        ("tdmpc2", "tensordict-0.15.3", "mt80"),
    ):
        with zipfile.ZipFile(_SETS / f"{name}_sets.zip") as file:
            file.extractall(folder / "unpacked" / name)
        shutil.copytree(folder / "unpacked" / name / kept, folder / place)
    make_karpathy(home / "coco")
    make_vqa(home / "vqa")
    shutil.copytree(home / "coco/annotations", folder / "annotations")
    shutil.copy(home / "coco/dataset_coco.json", folder)
    shutil.copy(home / "vqa/v2_mscoco_val2014_annotations.json", folder)
