"""ONNX graphs: each encoding of positions, number patches and images, against PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from toy_checkpoint import CONFIG

from db1.checkpoint import onnx_export
from db1.checkpoint.bundle import read_bundle
from db1.checkpoint.onnx_export import export_onnx
from db1.errors import ConfigError, Db1Error
from db1.model.transformer_xl import TransformerXL

pytest.importorskip("onnxscript", reason='needs pip install "db1[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "db1[onnx]"')

ROOT = Path(__file__).parents[2]
SMALL = replace(CONFIG, num_local_positions=16, vision_channels=8, vision_groups=2)


@pytest.fixture
def bundle():
    return read_bundle(ROOT / "models" / "db1_base")


def with_model(bundle, config):
    """The bundle with fresh weights of another configuration."""
    torch.manual_seed(0)
    vocabulary = bundle.vocabulary
    model = TransformerXL(config, vocabulary.size, vocabulary.bin_range())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    content = {**bundle.config, "model": asdict(config)}
    return replace(bundle, config=content, weights=dict(model.state_dict())), model.eval()


@pytest.mark.parametrize(
    "options",
    [
        {},  # the published model's: a memory that starts with zeros, clamped distances
        pytest.param(
            {"position_encoding": "alibi", "memory_start": "empty", "clamp_length": None},
            marks=pytest.mark.slow,
        ),
        {"position_encoding": "none", "memory_start": "empty", "clamp_length": None,
         "number_patch": 6, "number_width": 4, "normalization": "pre", "same_length": False},
    ],
    ids=["transformer_xl", "alibi", "number patches"],
)  # fmt: skip
def test_graphs_compute_what_pytorch_does(bundle, tmp_path, options) -> None:
    config = replace(SMALL, memory_length=5, **options)
    toy, _ = with_model(bundle, config)
    written = export_onnx(toy, tmp_path / "out", image=(32, 48))
    expected = {"step.onnx", "vision.onnx"}
    expected |= {"numbers.onnx"} if config.number_patch > 1 else set()
    assert written.differences.keys() == expected
    assert max(written.differences.values()) < 1e-4
    described = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert described["memory_length"] == 5 and described["image"] == [32, 48]
    assert (tmp_path / "out" / "start.npy").exists() == (config.memory_start == "zeros")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == bundle.tokenizer.to_json()
    assert not (tmp_path / "out.partial").exists()


def test_text_is_continued_without_pytorch(bundle, tmp_path) -> None:
    """The loop of docs/serving.md, against the model's own decoding."""
    config = replace(SMALL, memory_length=8, memory_start="empty")
    toy, model = with_model(bundle, config)
    export_onnx(toy, tmp_path / "out")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    code = page.split("<!-- onnx -->\n```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code.replace("onnx/model", str(tmp_path / "out")), names)
    prompt = [3, 1, 4, 1, 5]
    assert names["continued"](prompt, 12) == greedy(model, prompt, 12, config.memory_length)


def greedy(model, prompt, count, memory_length):
    memory, chosen = model.new_memory(1, memory_length), list(prompt)
    for place in range(len(prompt) + count - 1):
        ids = torch.tensor([[chosen[place]]])
        hidden, memory = model.decode(ids, torch.full((1, 1), -1), memory=memory)
        if place >= len(prompt) - 1:
            chosen.append(int(model.logits(hidden[0, 0]).argmax()))
    return chosen[len(prompt) :]


def test_a_graph_that_differs_is_not_kept(bundle, tmp_path, monkeypatch) -> None:
    toy, _ = with_model(bundle, replace(SMALL, memory_length=4))
    monkeypatch.setattr(onnx_export, "_relative", lambda found, expected: 0.5)
    with pytest.raises(Db1Error, match=r"step.onnx: onnxruntime's numbers differ .* by 0.5"):
        export_onnx(toy, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(bundle, tmp_path) -> None:
    config = replace(SMALL, memory_length=4)
    toy, _ = with_model(bundle, config)
    with pytest.raises(ConfigError, match="image: got 30x32, expected multiples of .* 16"):
        export_onnx(toy, tmp_path / "out", image=(30, 32))
    rotary = replace(config, position_encoding="rotary", clamp_length=None)
    with pytest.raises(ConfigError, match="rotary: its turns are complex"):
        export_onnx(with_model(bundle, rotary)[0], tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        export_onnx(toy, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
