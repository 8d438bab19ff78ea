"""DeepSpeed on one and two processes against a plain PyTorch loop, and runs cut up between them.

The loop here shares nothing with db1.training but the model and the samples.
"""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
from launching import rank_environment
from ports import free_port
from tiny_training import RandomSamples, make_model

from db1.data.collate import collate
from db1.metrics_log import read_metrics
from db1.seeding import seed_everything

pytestmark = [
    pytest.mark.slow,
    pytest.mark.deepspeed,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="pip install deepspeed"
    ),
]

SCRIPT = Path(tiny_training.__file__)
STEPS = 50
IMAGES = {"images": 0.15}


def _launch(folder, jobs, processes, killed=False):
    """Runs jobs in `processes` ranks; `killed`: one of them kills itself."""
    port = free_port()
    command = [sys.executable, str(SCRIPT), str(folder), json.dumps(jobs)]
    ranks = [
        subprocess.Popen(
            command,
            env=rank_environment(rank, processes, port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    logs = [rank.communicate(timeout=900)[1] for rank in ranks]
    assert any(rank.returncode for rank in ranks) == killed, logs


def _losses(folder):
    return [record["loss"] for record in read_metrics(folder, "train")]


def _plain_losses(steps):
    """AdamW, warm-up and cosine, clipping; the whole batch of 8 at once."""
    seed_everything(0)
    model = make_model().train()
    samples = RandomSamples(8 * steps, **IMAGES)
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim > 1 and not name.endswith("bias")]
    others = [p for name, p in named if p.ndim <= 1 or name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    for parameter in model.parameters():  # no gradient is a gradient of zero
        parameter.grad = torch.zeros_like(parameter)
    losses = []
    for step in range(steps):
        if step < 2:
            rate = 1e-7 + (3e-3 - 1e-7) * step / 2
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (step - 2) / (steps - 2)))
            rate = 3e-4 + (3e-3 - 3e-4) * cosine
        out = model(collate([samples[8 * step + slot] for slot in range(8)]))
        loss = out.loss_sum / out.num_targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses.append(loss.item())
    return losses


def test_fifty_steps_equal_a_plain_loop(tmp_path):
    """One process, two processes, ZeRO stages 0 to 3: within 1e-5."""
    for processes in (1, 2):
        jobs = [
            {
                "folder": f"/{processes}-{stage}",
                "engine": "deepspeed",
                "zero_stage": stage,
                "num_steps": STEPS,
                "checkpoint_every": 0,
                "data": IMAGES,
            }
            for stage in range(4)
        ]
        _launch(tmp_path, jobs, processes)
    torch.set_num_threads(1)
    plain = _plain_losses(STEPS)
    assert plain[-1] < plain[0]
    for processes in (1, 2):
        for stage in range(4):
            losses = _losses(tmp_path / f"{processes}-{stage}")
            assert losses == pytest.approx(plain, abs=1e-5), (processes, stage)


def _read_by_rank(log):
    lines = [line.split() for line in log.read_text().splitlines()]
    return {rank: [int(n) for r, n in lines if r == rank] for rank in {r for r, _ in lines}}


def test_two_processes_then_one_then_two(tmp_path):
    """Killed in between; the same samples in the same order, and the same losses."""
    base = {"engine": "deepspeed", "zero_stage": 2, "num_steps": 10, "checkpoint_every": 2}
    _launch(tmp_path / "whole", base, 2)
    lives = [(2, 27, 0), (1, 59, 2), (2, None, 6)]  # processes, sample that kills, first step
    for number, (processes, kill_at, first) in enumerate(lives):
        log = tmp_path / f"life-{number}"
        data = {"log": str(log), "kill_at": kill_at}
        _launch(tmp_path / "cut", base | {"data": data}, processes, kill_at is not None)
        read = _read_by_rank(log)
        assert len(read) == processes
        last = 80 if kill_at is None else kill_at
        for rank, numbers in read.items():
            slots = [n for n in range(first * 8, 80) if n // 2 % processes == int(rank)]
            assert numbers == slots[: len(numbers)]
            assert numbers[-1] >= last - 4 - 2 * processes
    assert _losses(tmp_path / "cut") == pytest.approx(_losses(tmp_path / "whole"), abs=1e-5)


def test_the_fault_harness(tmp_path):
    """Kills at random moments; `python scripts/fault_harness.py --kills 20` is the long one."""
    harness = SCRIPT.parents[2] / "scripts" / "fault_harness.py"
    command = [sys.executable, str(harness), "--kills", "2", "--launcher", "none", "--seed", "1"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        env=rank_environment(0, 1, free_port()),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert sum(summary["kills"].values()) == 2
    assert summary["equal_weights"] and summary["equal_losses"] and not summary["problems"]
