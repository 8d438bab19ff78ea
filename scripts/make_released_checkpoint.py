#!/usr/bin/env python3
"""Writes a checkpoint in the published DB1 model's layout, with random weights.

The layout is exactly that of `db1_870task_checkpoint`: a DeepSpeed folder with float16 weights
under their released names, 345 of them at 1.2B. So everything that loads the published model can be
tried without the download.

    python scripts/make_released_checkpoint.py /tmp/released --size 1.2b
    python scripts/make_released_checkpoint.py /tmp/released --layers 2 --width 64 --heads 4
    db1 convert /tmp/released runs/released
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from db1.checkpoint.bundle import meta_model
from db1.checkpoint.released_folder import BINS, CLAMP_LENGTH, write_released
from db1.errors import Db1Error
from db1.model.config import ModelConfig
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

SIZES = {
    # layers, heads, width, feed-forward, text ids
    "1.2b": (24, 16, 2_048, 8_192, 32_000),
    "tiny": (2, 4, 64, 256, 512),
}
WEIGHT_STD = 0.02


def main() -> None:
    """Reads the command line and writes the folder."""
    options = _parser().parse_args()
    layers, heads, width, inner, text_size = SIZES[options.size]
    try:
        folder = make_checkpoint(
            options.folder,
            ModelConfig(
                num_layers=options.layers or layers,
                num_heads=options.heads or heads,
                width=options.width or width,
                inner_width=options.inner_width or (4 * options.width if options.width else inner),
                clamp_length=CLAMP_LENGTH,
                memory_start="zeros",
            ),
            options.text_size or text_size,
            tag=options.tag,
            seed=options.seed,
        )
        if options.tokenizer:
            write_tokenizer(options.folder / "tokenizer", options.text_size or text_size)
    except (Db1Error, OSError) as error:
        print(f"make_released_checkpoint: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{folder}: {folder.stat().st_size / 1e6:,.0f} MB")


def make_checkpoint(
    folder: Path, config: ModelConfig, text_size: int, *, tag: str = "synthetic", seed: int = 0
) -> Path:
    """Draws weights and writes them.

    Args:
        folder: The checkpoint folder.
        config: Sizes.
        text_size: Text ids; bins, separator and shared discrete values come on top.
        tag: Folder inside.
        seed: Of the weights.

    Returns:
        The file of weights.
    """
    vocabulary = Vocabulary(
        VocabularyConfig(
            text_size=text_size,
            num_continuous_bins=BINS,
            num_discrete=min(BINS, text_size),
            discrete_ids="shared_with_text",
        )
    )
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in meta_model(config, vocabulary).state_dict().items():
        is_norm = "norm" in name or ".residual.0" in name or ".residual.3" in name
        tensor = torch.empty(shape.shape, dtype=torch.float16)
        if is_norm:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            tensor.normal_(0.0, WEIGHT_STD, generator=generator)
        weights[name] = tensor
    return write_released(folder, tag, weights, config)


def write_tokenizer(folder: Path, size: int) -> None:
    """Trains a byte-level BPE on Python's own documentation; writes GPT-2's two files."""
    from pydoc_data.topics import topics

    tokenizer = TextTokenizer.train(list(topics.values()), size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_gpt2(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="start from these sizes")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--inner-width", type=int, help="default: four times the width")
    parser.add_argument("--text-size", type=int, help="text ids")
    parser.add_argument("--tag", default="synthetic", help="folder inside")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", action="store_true", help="also write tokenizer/")
    return parser


if __name__ == "__main__":
    main()
