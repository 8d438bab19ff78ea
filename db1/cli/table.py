"""The verbs of the `db1` command: where each one is, and what it does in one line.

`db1 --help` prints this table and imports nothing else; a verb's module is imported when the verb
runs. `tests/cli/test_table.py` compares the lines with the verbs' own docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass

START, DATA, TRAINING, ACTING, WORDS, MODELS = (
    "Start here",
    "Data",
    "Training",
    "Acting and scores",
    "Words and pictures",
    "Models and measurements",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One verb.

    Args:
        module: Of `db1.cli`; it has the verb in `VERBS`, or a group of verbs in `APPS`.
        help: Its first sentence.
        panel: Heading under which `db1 --help` shows it.
    """

    module: str
    help: str
    panel: str


def _entry(module: str, panel: str, help: str) -> Entry:
    return Entry(module=module, panel=panel, help=help)


VERBS: dict[str, Entry] = {
    "doctor": _entry(
        "machine", START, "Shows what runs on this machine and the command that installs the rest."
    ),
    "tasks": _entry(
        "tasks", START, "Lists the tasks, one line each; `db1 tasks NAME` shows one of them."
    ),
    "play": _entry(
        "watching",
        START,
        "Shows one episode, with what the model sees and how likely its actions are.",
    ),
    "demo": _entry(
        "demo",
        START,
        "Opens a page on this machine: chat, caption an image, ask about it, watch the run act.",
    ),
    "collect": _entry(
        "collect",
        DATA,
        "Makes demonstrations with the tasks' experts; an interrupted run goes on where it "
        "stopped.",
    ),
    "import": _entry(
        "importing",
        DATA,
        "Imports foreign data into a store of db1. A run that was stopped goes on with the same "
        "command.",
    ),
    "export": _entry("importing", DATA, "Exports a store or a model."),
    "inspect": _entry(
        "inspect",
        DATA,
        "Shows what a model learns from: a sequence, a mixture, or stores; checks all of it.",
    ),
    "train": _entry(
        "learning", TRAINING, "Trains an experiment; the same command resumes an interrupted run."
    ),
    "launch": _entry(
        "launch",
        TRAINING,
        "Trains an experiment on many processes of one machine or many; the same command resumes.",
    ),
    "plot": _entry(
        "launch",
        TRAINING,
        "Draws the curves of a training, also while it runs: losses, scores, speed.",
    ),
    "eval": _entry(
        "acting",
        ACTING,
        "Lets a model act in its tasks on unseen seeds and scores it between random and expert.",
    ),
    "compare": _entry(
        "comparing",
        ACTING,
        "Two evaluations or two trainings side by side: which is better, and how sure that is.",
    ),
    "record": _entry(
        "watching",
        ACTING,
        "Films the best, median and worst episode of each evaluated task, for the report.",
    ),
    "report": _entry(
        "reporting",
        ACTING,
        "Writes report.md and plots from an evaluation, and on demand a page and LaTeX tables.",
    ),
    "generate": _entry(
        "writing",
        WORDS,
        "Writes on from a prompt; without one, talks on a terminal or reads a prompt from a pipe.",
    ),
    "perplexity": _entry(
        "perplexity",
        WORDS,
        "Perplexity and bits per byte of held-out text, as Transformer-XL is evaluated.",
    ),
    "caption": _entry("seeing", WORDS, "Describes images."),
    "answer": _entry(
        "seeing",
        WORDS,
        "Answers questions about images, freely or with the likeliest of a closed list.",
    ),
    "score": _entry(
        "scoring",
        WORDS,
        "Scores result files of COCO captions and VQA, from db1 or from elsewhere.",
    ),
    "serve": _entry(
        "serve",
        MODELS,
        "Serves a model: sessions of many clients at once, batched into one forward pass.",
    ),
    "convert": _entry(
        "convert",
        MODELS,
        "Turns a model into another layout; a model is a run folder, a safetensors folder "
        "(model.safetensors, config.json), or the published DB1 checkpoint.",
    ),
    "parity": _entry(
        "learning",
        MODELS,
        "Compares the model with recorded tensors; prints the largest difference by section.",
    ),
    "bench": _entry("bench", MODELS, "Measures db1 side by side with a reference; prints ratios."),
}
