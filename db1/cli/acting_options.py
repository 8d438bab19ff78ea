"""Options of `db1 eval`, which `db1 play` and `db1 record` share where they mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db1.splits import SPLITS

_MEMORY, _POLICY, _TEXT = "Prompt and memory", "Policy", "Held-out text"
_PAIRS = "Captions and questions about held-out images"
_MACHINE, _REFERENCE = "Data and machine", "Reference returns"

Task = Annotated[list[str] | None, typer.Option(help="Only these tasks (repeatable).")]
Suite = Annotated[list[str] | None, typer.Option(help="Only these suites.")]
Split = Annotated[
    list[str] | None,
    typer.Option(help=f"The tasks of a named split (repeatable): {', '.join(SPLITS)}."),
]
Preset = Annotated[
    str,
    typer.Option(help="Settings to start from: default, released (DB1's) or publication."),
]
Episodes = Annotated[int, typer.Option(help="Episodes a task.", min=1)]
FirstEpisode = Annotated[int, typer.Option(help="Number of the first evaluation seed.", min=0)]
MaxSteps = Annotated[
    int | None,
    typer.Option(help="Cut episodes off after these steps; raw returns then.", min=1),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the results.")]
Overwrite = Annotated[bool, typer.Option(help="Replace other results in --out.")]
Prompt = Annotated[
    bool | None,
    typer.Option(
        "--prompt/--no-prompt",
        help="Prime the memory with a demonstration; default: unless trained with instructions "
        "and without prompts.",
        rich_help_panel=_MEMORY,
    ),
]
PromptRule = Annotated[
    str,
    typer.Option(
        help="Which one: top (return), sample_peak (drawn from the best tenth) or uniform.",
        rich_help_panel=_MEMORY,
    ),
]
PromptStrategy = Annotated[
    str,
    typer.Option(
        help="moving: the memory slides over the prompt; fixed: it stays in front.",
        rich_help_panel=_MEMORY,
    ),
]
PromptPart = Annotated[
    str, typer.Option(help="start or end of the demonstration.", rich_help_panel=_MEMORY)
]
PromptFill = Annotated[
    bool,
    typer.Option(help="Put further demonstrations behind a short one.", rich_help_panel=_MEMORY),
]
PromptTokens = Annotated[
    int | None,
    typer.Option(
        help="Its tokens that are used; default: the memory, half of it when fixed.",
        min=0,
        rich_help_panel=_MEMORY,
    ),
]
NumPrompts = Annotated[
    int,
    typer.Option(
        help="Demonstrations that rule top takes in turn.", min=1, rich_help_panel=_MEMORY
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(
        help="Tokens a step looks back on; default: as trained.",
        min=0,
        rich_help_panel=_MEMORY,
    ),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        help="Words in place of the task's own, for models that learned with instructions.",
        rich_help_panel=_MEMORY,
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        help="model, random, expert, or retrieval (nearest demonstration step).",
        rich_help_panel=_POLICY,
    ),
]
Sample = Annotated[
    bool, typer.Option(help="Sample actions; default: the best.", rich_help_panel=_POLICY)
]
Temperature = Annotated[float, typer.Option(help="Of sampling.", rich_help_panel=_POLICY)]
Seed = Annotated[
    int,
    typer.Option(help="Of sampling, prompts, random policy and weights.", rich_help_panel=_POLICY),
]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the model: float32, float64, bfloat16 or float16.", rich_help_panel=_POLICY
    ),
]
RandomWeights = Annotated[
    bool,
    typer.Option(
        "--random-weights",
        help="Fresh weights: the control experiment.",
        rich_help_panel=_POLICY,
    ),
]
Checkpoint = Annotated[
    str | None, typer.Option(help="Tag; default: the newest.", rich_help_panel=_POLICY)
]
Text = Annotated[bool, typer.Option(help="Score the run's held-out text.", rich_help_panel=_TEXT)]
TextMemory = Annotated[
    int | None,
    typer.Option(
        help="Tokens carried between windows; default: as trained.",
        min=0,
        rich_help_panel=_TEXT,
    ),
]
MaxTextTokens = Annotated[
    int | None,
    typer.Option(help="Of each corpus; default: all.", min=2, rich_help_panel=_TEXT),
]
Pairs = Annotated[bool, typer.Option(help="Score captions and answers.", rich_help_panel=_PAIRS)]
PairSplit = Annotated[
    str | None,
    typer.Option(help="Default: test, else what was held out.", rich_help_panel=_PAIRS),
]
MaxCaptions = Annotated[
    int | None,
    typer.Option(help="Images of each set; default: all.", min=1, rich_help_panel=_PAIRS),
]
MaxQuestions = Annotated[
    int | None,
    typer.Option(help="Questions of each set; default: all.", min=1, rich_help_panel=_PAIRS),
]
Beams = Annotated[int, typer.Option(help="Of captions; 1: greedy.", min=1, rich_help_panel=_PAIRS)]
ClosedAnswers = Annotated[
    int,
    typer.Option(
        help="Choose among so many frequent training answers; 0: write freely.",
        min=0,
        rich_help_panel=_PAIRS,
    ),
]
VqaMode = Annotated[str, typer.Option(help="official or evalai.", rich_help_panel=_PAIRS)]
CaptionTokenizer = Annotated[
    str,
    typer.Option(help="ptb, plain, or auto: ptb where Java is.", rich_help_panel=_PAIRS),
]
Java = Annotated[
    bool, typer.Option(help="METEOR and SPICE where they can run.", rich_help_panel=_PAIRS)
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of demonstrations and references; default: the run's.",
        rich_help_panel=_MACHINE,
    ),
]
NumEnvironments = Annotated[
    int,
    typer.Option(help="The most episodes of a task at once.", min=1, rich_help_panel=_MACHINE),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes for environments; 0: in this one, unprotected; default: one a core.",
        min=0,
        rich_help_panel=_MACHINE,
    ),
]
Lanes = Annotated[
    int | None,
    typer.Option(
        help="Tasks at once; default: two where there are two workers.",
        min=1,
        rich_help_panel=_MACHINE,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        help="Seconds a worker may be silent before it is killed and its task tried again.",
        rich_help_panel=_MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="torch threads of each lane.", min=1, rich_help_panel=_MACHINE),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1; default: a GPU.", rich_help_panel=_MACHINE),
]
Log = Annotated[
    bool,
    typer.Option("--log", help="One line a task instead of bars.", rich_help_panel=_MACHINE),
]
AllowVersionMismatch = Annotated[
    bool,
    typer.Option(
        help="Accept references of another environment version.", rich_help_panel=_REFERENCE
    ),
]
AllowMissingReference = Annotated[
    bool,
    typer.Option(
        help="Report raw returns of tasks without a reference.", rich_help_panel=_REFERENCE
    ),
]
AllowMissingPrompt = Annotated[
    bool,
    typer.Option(
        help="Play tasks without demonstrations without a prompt.", rich_help_panel=_REFERENCE
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="store, measured, db1, jat, d4rl, atari-human, or none for raw returns; default: "
        "the demonstrations' own, else measured.",
        rich_help_panel=_REFERENCE,
    ),
]
Scores = Annotated[
    Path | None,
    typer.Option(help="Folder of `db1 tasks measure`.", rich_help_panel=_REFERENCE),
]
