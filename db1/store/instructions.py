"""Instruction of a stored task: `instruction.json` beside the episodes.

    {"text": "reach the red goal with the hand", "field": null}     one for the whole task
    {"text": "...", "field": "mission"}      each episode says it in a text field of its steps
    metadata "instruction" of an episode     demonstrations that bring their own words

Where the file is missing, as in stores that were imported or made before there were instructions,
the words of the task's name stand in for it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from db1.errors import DataError
from db1.json_shape import parse_json_file
from db1.tokens.instruction import Instruction, name_in_words, parse_instruction

FILE = "instruction.json"


def write_instruction(folder: Path, instruction: Instruction) -> None:
    """Writes the instruction of a stored task, replacing an older one only when it is complete.

    Raises:
        DataError: When the disk does not take it.
    """
    path = folder / FILE
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(asdict(instruction), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot write ({error}); free space and run the same command again"
        ) from error


def read_instruction(folder: Path, task_id: str) -> Instruction:
    """Reads the instruction of a stored task.

    Args:
        folder: Of the task's store.
        task_id: `suite/task`, whose name in words stands in for a file that is not there.

    Raises:
        DataError: When the file cannot be read or does not hold an instruction.
    """
    file = folder / FILE
    if not file.is_file():
        return Instruction(text=name_in_words(task_id))
    try:
        content = parse_json_file(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); collect again") from error
    return parse_instruction(content, str(file))
