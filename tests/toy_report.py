"""Small evaluations to report: results.json, pictures with texts, films."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from db1.metrics.episodes import TaskEpisodes
from db1.metrics.pair_scores import data_uri
from db1.metrics.scores import bootstrap_interval, normalise
from db1.metrics.summary import summarise, task_metrics
from db1.viewer.entries import stamp_of_results
from db1.viewer.film import write_film

RETURNS = {
    "toy/best": [90.0, 110.0, 95.0, 105.0],
    "toy/half": [50.0, 50.0],
    "other/none": [0.0, 4.0],
}
TEXT = {
    "perplexity": 31.25, "unigram_perplexity": 125.0, "ratio": 0.25,
    "bits_per_byte": 1.5, "num_tokens": 1_000,
}  # fmt: skip
IMAGE = data_uri(np.full((32, 32, 3), 200, dtype=np.uint8))
CAPTIONS = {
    "split": "test", "num_images": 2, "scores": {"BLEU-4": 0.125, "CIDEr-D": 1.75},
    "baseline": {"caption": "a <b>cat</b>", "scores": {"BLEU-4": 0.5, "CIDEr-D": 0.25}},
    "tokenizer": "plain", "not_run": {"SPICE": "no jars"}, "distinct_captions": 2,
    "results": "captions/toy.json", "seconds": 1.0,
    "examples": [{"id": 7, "image": IMAGE, "caption": "a | dog", "references": ["one", "two"],
                  "CIDEr-D": 0.5}],
}  # fmt: skip
QUESTIONS = {
    "split": "test", "num_questions": 3, "mode": "official", "accuracy": 66.666,
    "by_question_type": {"is it": 66.666}, "by_answer_type": {"yes/no": 66.666},
    "counts": {"question_type": {"is it": 3}, "answer_type": {"yes/no": 3}},
    "baseline": {"accuracy": 33.3, "by_question_type": {"is it": 33.3},
                 "by_answer_type": {"yes/no": 33.3}, "answers": {"is it": "no"}},
    "blind": {"accuracy": 50.0, "by_question_type": {"is it": 50.0},
              "by_answer_type": {"yes/no": 50.0}},
    "closed_answers": 0, "num_cut": 1, "results": "questions/toy.json", "seconds": 1.0,
    "examples": [{"id": 9, "image": IMAGE, "question": "is it <red>?", "answer": "yes",
                  "answers": ["no"], "accuracy": 0.0}],
}  # fmt: skip


def make_results(
    returns: Mapping[str, Sequence[float]], random: float = 0.0, expert: float = 100.0
) -> dict[str, Any]:
    """results.json of tasks with these returns."""
    tasks, scores = {}, {}
    for task, values in returns.items():
        scores[task] = normalise(values, random, expert)
        tasks[task] = {
            "episodes": len(values), "seeds": list(range(2_000_000, 2_000_000 + len(values))),
            "returns": list(values), "lengths": [1] * len(values),
            "random": random, "expert": expert, "reference": {},
            "successes": [True, None] if task == "toy/half" else [None] * len(values),
            "normalised": float(scores[task].mean()), "interval": bootstrap_interval(scores[task]),
        }  # fmt: skip
    episodes = {task: TaskEpisodes.of_entry(entry) for task, entry in tasks.items()}
    for task, entry in tasks.items():
        entry["metrics"] = task_metrics(task, episodes[task])
    return {
        "tasks": tasks,
        "summary": summarise(episodes),
        "text": TEXT | {"corpora": {"kjv": TEXT}},
        "failures": {"toy/<b>broken</b>": "RuntimeError: no & no"},
        "version_mismatches": {},
        "settings": {"prompt": True, "memory_length": 128, "policy": "model", "seed": None},
        "provenance": {
            "checkpoint": {
                "run": "runs/toy", "tag": "step-00000100", "sha256": "ab" * 32,
                "random_weights": False,
            },
            "config": {},
            "versions": {"db1": "0.1.0", "torch": "2"},
            "command": ["db1", "eval", "a run"],
        },
    }  # fmt: skip


def record_film(folder: Path, task: str) -> None:
    """A recording as `db1 record` leaves it."""
    results = json.loads((folder / "results.json").read_text())
    entry, episodes = results["tasks"][task], {}
    place = folder / "videos" / task
    for number, role in enumerate(("best", "median", "worst")):
        frames = [Image.new("RGB", (32, 32), (i * 40, 0, number * 90)) for i in range(6)]
        write_film(place / f"{role}.webp", frames, 100)
        episodes[role] = {
            "file": f"{role}.webp", "episode": number, "seed": entry["seeds"][number],
            "return": entry["returns"][number] + (number == 2), "length": 1,
            "evaluated_return": entry["returns"][number], "same": number != 2, "success": None,
            "frames": 6, "steps_a_frame": 1, "milliseconds": 100, "size": [32, 32],
        }  # fmt: skip
    stamp = {"results": stamp_of_results(results, task), "film": {}}
    recording = {"task": task, "stamp": stamp, "no_picture": None, "episodes": episodes}
    (place / "recording.json").write_text(json.dumps(recording))
