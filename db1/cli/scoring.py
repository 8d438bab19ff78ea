"""The verbs `db1 score captions` and `db1 score vqa`: result files against annotations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from db1.cli.console import Console
from db1.cli.options import from_dataclasses
from db1.cli.verbs import Verb, VerbGroup
from db1.options import option

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Scores result files of COCO captions and VQA, from db1 or from elsewhere. "
    "Example: db1 score vqa data/pairs/easy-vqa/test answers.json",
)

_ResultFile = Annotated[Path, typer.Argument(help="Result file to score.")]
_Partial = Annotated[
    bool,
    typer.Option("--partial", help="Score the ids that the file has; default: it must have all."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True, kw_only=True)
class CaptionScoring:
    """Options of `db1 score captions`."""

    split: str | None = option(None, "Split of dataset_coco.json; default: test.")
    tokenizer: str = option("auto", "ptb, plain, or auto (ptb where Java is installed).")
    java: bool = option(True, "Run METEOR and SPICE where they can run.", two_way=True)
    partial: bool = option(False, "Score the ids that the file has; default: it must have all.")
    as_json: bool = option(False, "Print one JSON object.", name="json")


@app.command("captions", cls=Verb)
@from_dataclasses
def score_captions_file(
    annotations: Annotated[
        Path,
        typer.Argument(
            help="captions_val2014.json, dataset_coco.json, or a store data/pairs/NAME/SPLIT."
        ),
    ],
    results: _ResultFile,
    wanted: CaptionScoring,
) -> None:
    """BLEU, ROUGE-L, CIDEr-D, and where Java is METEOR and SPICE of [{"image_id", "caption"}].

    Example: db1 score captions annotations/captions_val2014.json coco.json

    Example: db1 score captions dataset_coco.json coco.json --split test --json

    Example: db1 score captions data/pairs/pictograms/test captions.json --tokenizer plain
    """
    from db1.metrics.annotations import IMAGE_ID, joined_ids, read_captions, read_results
    from db1.metrics.caption_measures import check_tokenizer, measure_captions

    check_tokenizer(wanted.tokenizer)
    references = read_captions(annotations, wanted.split)
    captions = read_results(results, IMAGE_ID, "caption")
    ids = joined_ids(references, captions, IMAGE_ID, partial=wanted.partial)
    measured = measure_captions(
        [captions[i] for i in ids],
        [references[i] for i in ids],
        tokenizer=wanted.tokenizer,
        java=wanted.java,
    )
    if wanted.as_json:
        typer.echo(json.dumps({
            "num_images": len(ids), "tokenizer": measured.tokenizer,
            "scores": dict(measured.scores), "not_run": dict(measured.not_run),
        }))  # fmt: skip
        return
    rows = {name: f"{value:.4f}" for name, value in measured.scores.items()}
    _print(f"{len(ids)} captions, {measured.tokenizer} tokenizer", {"measure": rows})
    for name, reason in measured.not_run.items():
        typer.echo(f"not run: {name}: {reason}", err=True)


@app.command("vqa", cls=Verb)
def score_vqa_file(
    annotations: Annotated[
        Path,
        typer.Argument(
            help="v2_mscoco_val2014_annotations.json, or a store data/pairs/NAME/SPLIT."
        ),
    ],
    results: _ResultFile,
    mode: Annotated[
        str, typer.Option(help="official, or evalai (which always normalises texts).")
    ] = "official",
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """VQA accuracy of [{"question_id", "answer"}], overall and by type.

    Example: db1 score vqa v2_mscoco_val2014_annotations.json answers.json --mode evalai

    Example: db1 score vqa data/pairs/easy-vqa/test answers.json --json
    """
    from db1.metrics.annotations import QUESTION_ID, joined_ids, read_answers, read_results
    from db1.metrics.vqa import typed_accuracy

    asked = read_answers(annotations)
    answers = read_results(results, QUESTION_ID, "answer")
    ids = joined_ids(asked, answers, QUESTION_ID, partial=partial)
    scores = typed_accuracy(
        [answers[i] for i in ids],
        [asked[i].answers for i in ids],
        [asked[i].question_type for i in ids],
        [asked[i].answer_type for i in ids],
        mode,
    ).to_dict()
    if as_json:
        typer.echo(json.dumps({"num_questions": len(ids), "mode": mode, **scores}))
        return
    groups: dict[str, dict[str, str]] = {"questions": {"all": f"{scores['accuracy']:.2f} %"}}
    for title in ("answer_type", "question_type"):
        found: dict[str, Any] = scores[f"by_{title}"]
        groups[title.replace("_", " ")] = {k: f"{v:.2f} %" for k, v in found.items()}
    _print(f"{len(ids)} answers, {mode} mode", groups)


def _print(title: str, groups: dict[str, dict[str, str]]) -> None:
    for name, rows in groups.items():
        table = Table(name, "score", title=title, title_justify="left")
        title = ""
        for key, value in rows.items():
            table.add_row(key, value)
        Console().print(table)


APPS = {"score": app}
