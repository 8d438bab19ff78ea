"""A model as the agent of one task: its codec, its words, its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from db1.errors import ConfigError, DataError
from db1.evaluation.settings import EvaluationConfig
from db1.inference.agent import Agent
from db1.inference.load import LoadedRun, RunParts
from db1.rollout.prompts import Prompts, read_prompts
from db1.sequence.step import StepCodec
from db1.suites import SUITES, parse_task_id
from db1.tokens.instruction import Instruction, name_in_words
from db1.tokens.spec import StepSpec


def make_agent(
    task_id: str, config: EvaluationConfig, folder: Path, loaded: LoadedRun, batch_size: int
) -> Agent:
    """The model as an agent of one task; see `make_prompted_agent`."""
    return make_prompted_agent(task_id, config, folder, loaded, batch_size)[0]


def make_prompted_agent(
    task_id: str,
    config: EvaluationConfig,
    folder: Path,
    loaded: LoadedRun,
    batch_size: int,
    kind: type[Agent] = Agent,
) -> tuple[Agent, Prompts]:
    """The model as an agent of one task, and the prompts of its episodes.

    Args:
        task_id: `suite/task`.
        config: With its memory length filled in.
        folder: The task's demonstration store, for prompts.
        loaded: The run with its model.
        batch_size: Episodes at once.
        kind: Class of the agent.

    Raises:
        DataError: When the task's step is not the one that the run learned, the vocabulary lacks
            what it needs, or there is no demonstration to prompt with.
    """
    suite, task_name = parse_task_id(task_id)
    spec = suite.step_spec(task_name)
    if config.memory_length is None:
        raise ConfigError(f"{task_id}: the evaluation's memory_length was not filled in")
    codec = make_codec(task_id, spec, loaded)
    prompts = read_prompts(task_id, folder, codec, config, loaded.chosen.get(task_id))
    agent = kind(
        loaded.model,
        codec,
        memory_length=config.memory_length,
        batch_size=batch_size,
        prompts=prompts.episodes,
        prompt_of=prompts.number_of,
        prompt_tokens=config.prompt_length,
        prompt_part=config.prompt_part,
        prompt_strategy=config.prompt_strategy,
        greedy=config.greedy,
        temperature=config.temperature,
        seed=config.seed,
        **spoken(task_id, config.instruction, loaded),
    )
    return agent, prompts


def instruction_of(task_id: str, parts: RunParts) -> Instruction | None:
    """Instruction of a task: the one that it was learned with, else the suite's own.

    Returns:
        None for a model that learned without instructions.
    """
    if not parts.sequence_config.instruction:
        return None
    return parts.instructions.get(task_id) or _in_words(task_id)


def _in_words(task_id: str) -> Instruction:
    """The suite's words for a task; those of its name where it is of no suite."""
    if task_id.partition("/")[0] not in SUITES:
        return Instruction(text=name_in_words(task_id))
    suite, task_name = parse_task_id(task_id)
    return suite.instruction(task_name)


def spoken(task_id: str, given: str | None, loaded: LoadedRun) -> dict[str, Any]:
    """The agent's settings of instructions; none for a model that learned without.

    Args:
        task_id: `suite/task`, or the name of an environment that is in no suite.
        given: Words in place of the task's own; None: its own.
        loaded: The run.

    Raises:
        ConfigError: For words to a model that learned without.
    """
    instruction = instruction_of(task_id, loaded)
    if instruction is None:
        if given is not None:
            raise ConfigError(
                f"instruction {given!r}: {loaded.folder} learned without instructions "
                "(sequence.instruction); drop it"
            )
        return {}
    return {
        "instruction": instruction.text if given is None else given,
        "override_instruction": given is not None,
        "max_instruction": loaded.sequence_config.max_instruction,
        "cut_instruction": loaded.sequence_config.long_instruction == "cut",
    }


def make_codec(task_id: str, spec: StepSpec, parts: RunParts) -> StepCodec:
    """Step <-> ids of a task for a model.

    Raises:
        DataError: When the step is not the one that the model learned, or its vocabulary lacks what
            the step needs.
    """
    learned = parts.specs.get(task_id)
    if learned is not None and learned != spec:
        raise DataError(
            f"{task_id}: the environment's step {spec.to_dict()} is not the one in the run's "
            f"specs.json {learned.to_dict()}; the suite changed since the data was collected"
        )
    instruction = instruction_of(task_id, parts)
    try:
        return parts.codec(spec, instruction.field if instruction else None)
    except DataError as error:
        raise DataError(
            f"{task_id}: the vocabulary of {parts.folder} lacks what the task needs ({error}); "
            "leave the task out, or choose a model that learned it"
        ) from error
