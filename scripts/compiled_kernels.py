"""Compiles the fused attention kernels for GPUs that need not be here; counts what they take.

    python scripts/compiled_kernels.py --json kernels.json

bf16, heads of 128, transformer_xl. Registers and spilled bytes are a thread's, shared bytes a
block's (`db1/model/attention_kernels/fused_resources.py`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from db1.files import atomic_write_text
from db1.model.attention_kernels.fused_resources import Variant, resources_of
from db1.model.attention_kernels.fused_tiles import KERNELS

GPUS = ((8, 0), (8, 6), (9, 0))


def main() -> None:
    """Compiles all of them."""
    import triton

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    rows = []
    for kernel in KERNELS:
        for gpu in GPUS:
            taken = asdict(resources_of(Variant(kernel=kernel, capability=gpu)))
            rows.append({"kernel": kernel, "gpu": "sm_{}{}".format(*gpu)} | taken)
            print(rows[-1])
    if options.json:
        content = {"triton": triton.__version__, "rows": rows}
        atomic_write_text(options.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
