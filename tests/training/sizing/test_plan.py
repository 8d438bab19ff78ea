"""The dry run's figures are those of the real model, optimizer and passes."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from db1.model.batch import Batch
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.training.config import TrainingConfig
from db1.training.engines.engine import make_optimizer
from db1.training.experiment import load_experiment
from db1.training.sizing.footprint import (
    MAX_LIVE_PARAMETERS,
    REDUCE_BUCKET,
    acting_memory,
    activations,
    loss_bytes,
    meta_model,
    saved_bytes,
    state_memory,
    torch_state_memory,
)
from db1.training.sizing.plan import plan
from db1.training.sizing.work import PARTS, mean_keys, parameters_by_part, work

CONFIGS = Path(__file__).parents[3] / "configs"
VOCABULARY_SIZE = 300
TINY = ModelConfig(num_layers=3, num_heads=4, width=64, memory_length=96, vision_channels=32)
VARIANTS = {
    "released": {},
    "pre_untied": {"normalization": "pre", "tie_embeddings": False, "share_biases": False},
    "gelu": {"activation": "gelu", "same_length": False, "bin_init": "smooth"},
    "rotary": {"position_encoding": "rotary"},
}


def real_model(config: ModelConfig) -> TransformerXL:
    return TransformerXL(config, VOCABULARY_SIZE, range(100, 200))


def text_batch(batch_size: int, num_tokens: int) -> Batch:
    ids = torch.randint(VOCABULARY_SIZE, (batch_size, num_tokens))
    mask = torch.ones_like(ids, dtype=torch.bool)
    return Batch(ids=ids, local_positions=torch.full_like(ids, -1), labels=ids, loss_mask=mask)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_parameters_are_those_of_the_real_model(options: dict) -> None:
    config = replace(TINY, **options)
    counts = parameters_by_part(meta_model(config, VOCABULARY_SIZE))
    real = real_model(config)
    assert list(counts) == list(PARTS), "a weight belongs to no part"
    assert sum(counts.values()) == sum(p.numel() for p in real.parameters())
    layer = real.layers[0]
    expected = {
        "token embedding": real.embedding.token.weight.numel(),
        "local positions": real.embedding.local_position.weight.numel(),
        "attention": 3
        * (layer.attention.qkv.weight.numel() + layer.attention.output.weight.numel()),
        "feed-forward": 3
        * (layer.feed_forward.expand.weight.numel() + layer.feed_forward.contract.weight.numel()),
        "output": 0 if config.tie_embeddings else real.output.weight.numel(),
    }
    assert {part: counts[part] for part in expected} == expected
    vectors = sum(
        p.numel()
        for name, p in real.named_parameters()
        if p.ndim == 1 or name.rsplit(".", 1)[-1] in ("content_bias", "position_bias")
    )
    assert counts["norms and biases"] == vectors


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_optimizer_bytes_are_those_of_the_real_optimizer(precision: str) -> None:
    model = real_model(TINY)
    count = sum(p.numel() for p in model.parameters())
    training = TrainingConfig(
        num_steps=1, global_batch_size=1, micro_batch_size=1, learning_rate=1e-3
    )
    optimizer = make_optimizer(model.named_parameters(), training)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = sum(
        state[name].nbytes
        for state in optimizer.state.values()
        for name in ("exp_avg", "exp_avg_sq")
    )
    masters = 0 if precision == "fp32" else 4 * count
    for stage in range(4):
        memory = state_memory(count, precision, stage, 1)
        assert memory.optimizer == moments + masters
        size = 4 if precision == "fp32" else 2
        assert memory.parameters == memory.gradients == size * count


def test_the_zero_papers_example() -> None:
    """Figure 1 of Rajbhandari et al. 2020: 7.5 billion parameters on 64 GPUs, in GB."""
    expected = {0: 120, 1: 31.4, 2: 16.6, 3: 1.9}
    for stage, gigabytes in expected.items():
        memory = state_memory(7_500_000_000, "bf16", stage, 64)
        states = memory.parameters + memory.gradients + memory.optimizer
        assert states / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_the_torch_engine_adds_gradients_in_float32() -> None:
    assert torch_state_memory(10, "fp32").gradients == 40
    assert torch_state_memory(10, "bf16").gradients == 60
    assert torch_state_memory(10, "bf16").buffers == 0


@pytest.mark.deepspeed
def test_buffers_are_deepspeeds_defaults() -> None:
    pytest.importorskip("deepspeed", reason="needs pip install deepspeed")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = DeepSpeedZeroConfig()
    assert config.reduce_bucket_size == REDUCE_BUCKET
    assert config.max_live_parameters == MAX_LIVE_PARAMETERS


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_activations_are_what_autograd_keeps_on_this_machine(options: dict) -> None:
    """Exact for the kernel of GPUs, which attention dropout chooses on a CPU, too."""
    config = replace(TINY, **options, attention_dropout=0.1, residual_dropout=0.1)
    batch_size, num_tokens = 4, 96
    model, batch = real_model(config).train(), text_batch(batch_size, num_tokens)
    measured = saved_bytes(model, lambda: model.hidden(batch))
    estimate = activations(config, VOCABULARY_SIZE, batch_size, num_tokens, "fp32").kept
    assert estimate == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("num_tokens", [64, 128, 300])
def test_activations_of_the_kernel_of_cpus_are_near(num_tokens: int) -> None:
    config = replace(TINY, width=128, memory_length=128)
    model, batch = real_model(config).train(), text_batch(2, num_tokens)
    measured = saved_bytes(model, lambda: model.hidden(batch))
    estimate = activations(config, VOCABULARY_SIZE, 2, num_tokens, "fp32").kept
    assert 0.8 < estimate / measured < 1.6


def test_checkpointing_keeps_inputs_and_one_layer() -> None:
    config = replace(TINY, num_layers=6, activation_checkpointing=True)
    kept = activations(config, VOCABULARY_SIZE, 4, 96, "fp32")
    inputs = 6 * 4 * 96 * config.width * 4
    assert inputs < kept.kept_checkpointed < 0.5 * kept.kept
    plain = replace(config, activation_checkpointing=False)
    assert activations(plain, VOCABULARY_SIZE, 4, 96, "fp32") == kept


def test_an_image_patch_adds_what_the_encoder_keeps() -> None:
    model = real_model(TINY).train()
    vision = model.embedding.vision

    def measured(num_images: int) -> int:
        pixels = torch.randint(256, (num_images, 16, 16, 3), dtype=torch.uint8)
        return saved_bytes(vision, lambda: vision(pixels))

    estimate = activations(TINY, VOCABULARY_SIZE, 1, 32, "fp32").image_patch
    assert estimate == pytest.approx((measured(20) - measured(10)) / 10, rel=0.05)


def test_logits_are_scored_in_chunks() -> None:
    gradients = 8 * 33_025 * 16  # of the table, and their product with the scale
    small, large = (loss_bytes(n, 33_025, 16, torch.float32) for n in (100, 10_000_000))
    assert small == 100 * 33_025 * 4 + 100 * 16 * 4 + gradients
    assert large <= (1 << 24) * 4 + 10_000_000 * 16 * 4 + gradients
    assert loss_bytes(1, 100, 4, torch.bfloat16) == 100 * 6 + 4 * 2 + 8 * 400


def test_operations_are_those_that_pytorch_counts() -> None:
    """Forward of the layers, where every query sees every key so far."""
    config = replace(TINY, same_length=False)
    num_tokens = 96
    parts = parameters_by_part(meta_model(config, VOCABULARY_SIZE))
    estimate = work(config, parts, VOCABULARY_SIZE, num_tokens, num_tokens)
    model = meta_model(config, VOCABULARY_SIZE).eval()
    batch = text_batch(1, num_tokens)
    batch = replace(
        batch, ids=batch.ids.to("meta"), local_positions=batch.local_positions.to("meta")
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.logits(model.hidden(batch))
    all_keys = estimate.attention * num_tokens / mean_keys(num_tokens, None)
    positions = 3 * 2 * config.num_layers * config.width**2 * (num_tokens + 1) / num_tokens
    expected = (estimate.layers + all_keys + estimate.output + positions) * num_tokens / 3
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_mean_keys_counts_what_is_seen() -> None:
    for num_tokens, span in ((5, None), (5, 3), (3, 5), (1, 1)):
        seen = [min(i + 1, span or num_tokens) for i in range(num_tokens)]
        assert mean_keys(num_tokens, span) == pytest.approx(sum(seen) / num_tokens)


def test_acting_memory_is_that_of_a_full_memory() -> None:
    model = real_model(TINY).eval()
    memory, places = None, torch.full((3, 1), -1)
    for step in range(150):
        ids = torch.full((3, 1), step)
        _, memory = model.decode(ids, places, (), memory or model.new_memory(3, 96))
    measured = memory._storage.columns.nbytes
    estimate = acting_memory(meta_model(TINY, VOCABULARY_SIZE), 3)
    assert measured / 1.3 < estimate.keys_and_values < 1.3 * measured
    assert estimate.weights == sum(p.nbytes for p in model.parameters())
    assert estimate.position_terms == TINY.num_layers * TINY.width * 4 * (96 + 2)


def test_planning_1_2_billion_parameters_allocates_none_of_them() -> None:
    plan(load_experiment(CONFIGS / "db1_tiny.yaml"))  # imports and caches are not what is measured
    config = load_experiment(CONFIGS / "db1_1.2b.yaml")
    before, start = _resident_bytes(), time.perf_counter()
    planned = plan(config, 8)
    assert planned.num_parameters > 1_200_000_000
    assert _resident_bytes() - before < 64 << 20
    assert time.perf_counter() - start < 10


def test_plan_adds_up() -> None:
    config = load_experiment(CONFIGS / "db1_1.2b.yaml")
    planned = plan(config, 8)
    assert planned.configured == "ZeRO 2" and set(planned.state) == {f"ZeRO {s}" for s in range(4)}
    assert set(plan(config).state) - set(planned.state) == {"torch"}
    assert planned.tokens_per_step == 512 * 1_024
    assert planned.work.tokens == 512 * 1_024 * 1_000_000
    assert planned.accumulation == 512 // (8 * 8)
    assert sum(source.share for source in planned.sources) == pytest.approx(1)
    assert sum(source.sequences for source in planned.sources) == pytest.approx(512e6)
    totals = [planned.needed(f"ZeRO {stage}", True) for stage in range(4)]
    assert totals == sorted(totals, reverse=True)
    assert 6 * 1.1e9 < planned.work.per_token < 7.5e9  # 6 N and attention


PEAK = """
import sys, torch
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.model.batch import Batch
from db1.training.config import TrainingConfig
from db1.training.engines.engine import TorchEngine
from db1.training.sizing.footprint import activations, torch_state_memory
from db1.training.processes import Processes

checkpointing = sys.argv[1] == "1"
config = ModelConfig(num_layers=6, num_heads=8, width=512, memory_length=512,
                     activation_checkpointing=checkpointing)
training = TrainingConfig(num_steps=2, global_batch_size=4, micro_batch_size=4,
                          learning_rate=1e-3, engine="torch")
before = int(open("/proc/self/statm").read().split()[1]) * 4096
model = TransformerXL(config, 4000)
count = sum(p.numel() for p in model.parameters())
engine = TorchEngine(model, training, Processes("torch"))
ids = torch.randint(4000, (4, 512))
batch = Batch(ids=ids, local_positions=torch.full_like(ids, -1), labels=ids,
              loss_mask=torch.ones_like(ids, dtype=torch.bool))
for _ in range(2):
    engine.train_micro_batch(batch, 1 / ids.numel())
    engine.step(1e-3)
# Not ru_maxrss: it starts at the size of the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line) * 1024
peak -= before
estimate = activations(config, 4000, 4, 512, "fp32").total(checkpointing)
print((torch_state_memory(count, "fp32").total + estimate) / peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["0", "1"])
def test_the_estimate_is_near_the_peak_of_a_real_training(checkpointing: str) -> None:
    """What it leaves out, the temporaries of the backward pass and of Adam, weighs most where
    activations are checkpointed and the model is small."""
    command = [sys.executable, "-c", PEAK, checkpointing]
    ratio = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.6 < ratio < 1.25


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
