"""Settings of a training: batch sizes, optimizer, precision, engine, and when to report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from db1.errors import ConfigError, check_one_of
from db1.ranges import Checked, Count, Natural, NonNegative, Positive, Range, Rate, Seed, Share
from db1.training.callbacks.rollouts import RolloutConfig
from db1.training.metrics.context import WatchConfig

ENGINES = ("deepspeed", "torch")
PRECISIONS = ("fp32", "bf16", "fp16")
AUTO_PRECISION = "auto"

NEUTRAL_KEYS = frozenset(
    {
        "num_steps",
        "micro_batch_size",
        "log_every",
        "eval_every",
        "eval_batches",
        "checkpoint_every",
        "keep_checkpoints",
        "num_workers",
        "num_threads",
        "engine",
        "zero_stage",
        "compile",
        "deterministic",
        "keep_checkpoints_every",
        "save_in_background",
        "max_skips_in_a_row",
        "max_skips",
        "hang_timeout",
        "allow_changed_data",
        "verify_data",
        "callbacks",
    }
)
"""Keys of `TrainingConfig` that may change when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Checked):
    """Settings of one training run.

    Args:
        num_steps: Optimizer steps in all; the cosine decay ends there.
        global_batch_size: Sequences an optimizer step, over all processes.
        micro_batch_size: Sequences a process takes through the model at once. The gradient is
            accumulated over global_batch_size / (micro_batch_size * processes) of them.
        learning_rate: Highest learning rate.
        min_learning_rate_ratio: Last learning rate divided by the highest.
        warmup_steps: Steps from `initial_learning_rate` to `learning_rate`.
        initial_learning_rate: Learning rate of the first step.
        weight_decay: Decoupled weight decay, applied to matrices only (no biases, no norms).
        betas: Decay rates of Adam's two moments.
        epsilon: Adam's epsilon.
        gradient_clipping: Largest global gradient norm; 0 switches clipping off.
        precision: `fp32`, `bf16`, `fp16` (GPU only), or `auto`: bf16 where the device computes it
            natively (`db1.training.precision`).
        engine: `deepspeed` (any number of processes) or `torch` (one process).
        zero_stage: What DeepSpeed shards: 0 nothing, 1 optimizer states, 2 and gradients, 3 and
            parameters.
        seed: Seeds weights, dropout and the data order.
        log_every: Steps between two training records.
        eval_every: Steps between two evaluations; 0: at the end only.
        eval_batches: Micro-batches of each evaluation set, over all processes.
        checkpoint_every: Steps between two checkpoints; 0: at the end only.
        keep_checkpoints: Number of newest checkpoints that are kept.
        keep_checkpoints_every: Checkpoints of every that many steps are kept for good; 0: none.
        save_in_background: Go on training while a checkpoint's files are hashed and flushed to the
            disk; it counts from when that is done.
        max_skips_in_a_row: Batches with a loss or gradient that is not finite, or a spike, are
            skipped; more than this many one after the other end the run. 0: the first one does.
        max_skips: So do more than this many in all.
        loss_spike: A batch is skipped, too, whose loss is above this multiple of the median of the
            last 100 batches; 0: none is.
        norm_spike: The same for the gradient norm.
        hang_timeout: Seconds without progress after which a run of several processes ends, naming
            the one that hangs; 0: never. Up to the first step ten times as long.
        compile: Compile the decoder's layers with torch.compile.
        deterministic: Refuse operations whose result differs from run to run; on a GPU it slows
            the training, on a CPU there are none.
        num_workers: Processes that read data for each training process; 0 reads in place.
        num_threads: Threads of torch; None leaves torch's choice.
        allow_changed_data: Go on with a run whose data changed since it was trained last, and note
            it in its data.json.
        verify_data: Compare the data with their checksums, some at the start and all beside the
            training.
        watch: Where records go.
        rollouts: Acting during training.
        callbacks: Names of further callbacks (`db1.training.callbacks.protocol`), which plug-ins
            register.
    """

    num_steps: Count
    global_batch_size: Annotated[int, Range(least=1, most=2**24)]
    micro_batch_size: Annotated[int, Range(least=1, most=2**24)]
    learning_rate: Positive
    warmup_steps: Natural = 0
    min_learning_rate_ratio: Share = 0.1
    initial_learning_rate: NonNegative = 1e-7
    weight_decay: NonNegative = 0.1
    betas: tuple[Rate, ...] = (0.9, 0.95)
    epsilon: Positive = 1e-8
    gradient_clipping: NonNegative = 1.0
    precision: str = "fp32"
    engine: str = "deepspeed"
    zero_stage: int = 1
    seed: Seed = 0
    log_every: Count = 10
    eval_every: Natural = 0
    eval_batches: Count = 8
    checkpoint_every: Natural = 0
    keep_checkpoints: Count = 2
    keep_checkpoints_every: Natural = 0
    save_in_background: bool = True
    max_skips_in_a_row: Natural = 10
    max_skips: Natural = 100
    loss_spike: NonNegative = 0.0
    norm_spike: NonNegative = 0.0
    hang_timeout: NonNegative = 1200.0
    compile: bool = False
    deterministic: bool = False
    num_workers: Annotated[int, Range(least=0, most=4_096)] = 0
    num_threads: Annotated[int, Range(least=1, most=4_096)] | None = None
    allow_changed_data: bool = False
    verify_data: bool = True
    watch: WatchConfig = field(default_factory=WatchConfig)
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    callbacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices()
        self._check_combinations()
        if self.engine == "deepspeed" and self.precision == "bf16" and self.zero_stage == 0:
            raise ConfigError(
                "precision bf16 with zero_stage 0: DeepSpeed computes wrong Adam steps there; "
                "set zero_stage=1"
            )
        if self.engine == "deepspeed" and self.compile and self.zero_stage == 3:
            raise ConfigError(
                "compile with zero_stage 3: torch.compile would compile DeepSpeed's hooks one by "
                "one, for minutes and without a gain; set zero_stage=2 or compile=false"
            )
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(self._batch_message(1))

    def _check_choices(self) -> None:
        choices = {"engine": ENGINES, "precision": (*PRECISIONS, AUTO_PRECISION)}
        for name, known in choices.items():
            check_one_of(name, getattr(self, name), known)
        if self.zero_stage not in (0, 1, 2, 3):
            raise ConfigError(f"zero_stage: got {self.zero_stage}, expected 0, 1, 2 or 3")
        if len(self.betas) != 2:
            raise ConfigError(f"betas: got {self.betas}, expected two numbers in [0, 1)")

    def _check_combinations(self) -> None:
        for name in ("loss_spike", "norm_spike"):
            value = getattr(self, name)
            if not (value == 0 or value > 1):
                raise ConfigError(f"{name}: got {value}, expected 0 (off) or a multiple above 1")
        if self.warmup_steps > self.num_steps:
            raise ConfigError(
                f"warmup_steps: got {self.warmup_steps}, expected at most num_steps "
                f"{self.num_steps}"
            )
        if self.rollouts.every and not self.checkpoint_every:
            raise ConfigError(
                f"rollouts.every: got {self.rollouts.every} without checkpoints to act; set "
                "checkpoint_every, too"
            )

    def _batch_message(self, world_size: int) -> str:
        unit = self.micro_batch_size * world_size
        below = self.global_batch_size // unit * unit
        neighbours = f"{below} or {below + unit}" if below else f"{unit}"
        return (
            f"global_batch_size: got {self.global_batch_size}, expected a multiple of "
            f"micro_batch_size * processes = {self.micro_batch_size} * {world_size}; "
            f"set global_batch_size={neighbours}, or another micro_batch_size"
        )

    def check_processes(self, world_size: int, device_type: str) -> None:
        """Checks the settings against the machine.

        Args:
            world_size: Number of processes.
            device_type: `cpu` or `cuda`.

        Raises:
            ConfigError: When they do not fit, with values that would.
        """
        if self.engine == "torch" and world_size > 1:
            raise ConfigError(
                f"engine torch runs one process, got {world_size}; set engine=deepspeed"
            )
        if self.precision == AUTO_PRECISION:
            raise ConfigError("precision auto: resolve it first, as load_experiment does")
        if self.precision == "fp16" and device_type == "cpu":
            raise ConfigError(
                "precision fp16 needs a GPU, and none is here; set precision=bf16 or fp32"
            )
        if self.global_batch_size % (self.micro_batch_size * world_size):
            raise ConfigError(self._batch_message(world_size))

    def accumulation(self, world_size: int) -> int:
        """Micro-batches that each process takes in one optimizer step."""
        return self.global_batch_size // (self.micro_batch_size * world_size)
