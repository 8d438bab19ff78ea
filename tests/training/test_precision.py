"""`training.precision: auto`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from db1.errors import ConfigError
from db1.training import precision
from db1.training.config import TrainingConfig
from db1.training.precision import computes_bf16, resolve_precision

AUTO = TrainingConfig(
    num_steps=1,
    global_batch_size=1,
    micro_batch_size=1,
    learning_rate=1e-3,
    precision="auto",
    zero_stage=0,
)


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx2 avx512f", False), ("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True)],
)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, native: bool
) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: False)
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: any\nflags\t\t: {flags}\n\n")
    assert computes_bf16(info) == native
    assert not computes_bf16(tmp_path / "none")


def test_auto_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda: True)
    found = resolve_precision(AUTO, tmp_path)
    assert (found.precision, found.zero_stage) == ("bf16", 1)  # stage 0 is refused in bf16
    (tmp_path / "config.yaml").write_text("training: {precision: fp32}\n")
    found = resolve_precision(AUTO, tmp_path)  # a run goes on as it began
    assert (found.precision, found.zero_stage) == ("fp32", 0)
    monkeypatch.setattr(precision, "computes_bf16", lambda: False)
    assert resolve_precision(AUTO, tmp_path / "new").precision == "fp32"
    plain = replace(AUTO, precision="fp32")
    assert resolve_precision(plain, tmp_path) is plain


def test_unresolved_it_trains_nothing() -> None:
    with pytest.raises(ConfigError, match="auto"):
        AUTO.check_processes(1, "cpu")
