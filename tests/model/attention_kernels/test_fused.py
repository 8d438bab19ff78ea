"""The fused kernels in Triton's interpreter, and what they refuse.

bf16 is wrong in the interpreter: float32 and float16 stand for it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from db1.model import attention_plan
from db1.model.attention_kernels import ATTENTION_KERNELS, AttentionRequest, fused
from db1.model.attention_plan import choose_kernel

HERE = Path(__file__).parent
REQUEST = AttentionRequest(
    device=torch.device("cuda"),
    dtype=torch.bfloat16,
    head_dim=128,
    num_queries=64,
    dropout=0.0,
    needs_grad=True,
)


def interpreted(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=HERE
    )


@pytest.mark.parametrize("numbers", ["0 1 2", "3 4 5", "6 7 8", "9 10 11"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_fused_equals_reference(dtype: str, numbers: str) -> None:
    pytest.importorskip("triton", reason='needs pip install "db1[triton]"')
    done = interpreted("interpreted.py", dtype, *numbers.split())
    assert done.returncode == 0, done.stderr[-2_000:]


def test_backward_in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads, then rows, whose blocks do not fit the workspace together."""
    monkeypatch.setattr(fused, "WORKSPACE", 100)
    assert list(fused._chunks(4, 3, 5)) == [(range(4), range(3))]
    assert list(fused._chunks(4, 3, 10)) == [(range(3), range(3)), (range(3, 4), range(3))]
    parts = [(list(heads), list(rows)) for heads, rows in fused._chunks(2, 3, 50)]
    assert parts == [([h], rows) for h in range(2) for rows in ([0, 1], [2])]
    assert len(list(fused._chunks(2, 3, 1_000))) == 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head_dim": 256}, "it takes heads up to 128 wide, got 256"),
        ({"dropout": 0.1}, "it has no dropout on attention weights"),
        ({"dtype": torch.float32}, "it takes bfloat16 and float16, got float32"),
        ({"device": torch.device("cpu")}, "it needs an NVIDIA GPU, got cpu"),
    ],
)
def test_refusals_name_the_reason(
    monkeypatch: pytest.MonkeyPatch, changes: dict, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(fused, "_kernels_are_interpreted", lambda: False)
    kernel = ATTENTION_KERNELS["fused"]
    assert kernel.refusal(REQUEST) is None
    assert kernel.refusal(replace(REQUEST, **changes)) == reason


def test_an_old_gpu_and_a_missing_triton_warn_once_and_take_another_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attention_plan._warn.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: object())
    with caplog.at_level(logging.WARNING):
        assert choose_kernel("auto", REQUEST).name == "sdpa"
        assert choose_kernel("auto", REQUEST).name == "sdpa"
        monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: None)
        assert choose_kernel("fused", REQUEST).name == "sdpa"
        assert choose_kernel("auto", replace(REQUEST, num_queries=1)).name == "sdpa"
    assert [record.getMessage() for record in caplog.records] == [
        "attention kernel 'fused': it needs a GPU of compute capability 8.0, got Tesla T4 with "
        "7.5; 'sdpa' is used instead",
        "attention kernel 'fused': Triton is not installed (pip install \"db1[triton]\"); "
        "'sdpa' is used instead",
    ]


def test_triton_is_not_imported_before_it_is_used() -> None:
    code = "import sys, db1.model.transformer_xl; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
