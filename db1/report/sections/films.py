"""The films of the best, median and worst episodes, within a budget of bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db1.report.blocks import Block, Film, FilmCard, Films, Prose, Section
from db1.report.material import Material
from db1.report.wording import count, number, percent
from db1.untrusted import below, check_name
from db1.viewer.entries import VIDEOS_FOLDER
from db1.viewer.film import still

_POSTER_AT = 2 / 3


def films(material: Material) -> Section | None:
    """The recorded tasks, suite by suite."""
    recordings = material.recordings
    if not recordings:
        return None
    filmed = {task: entry for task, entry in recordings.items() if "episodes" in entry}
    chosen, left_out = _within_budget(material, filmed)
    cards = tuple(_card(material, task, filmed[task]) for task in chosen)
    blocks: list[Block] = [Prose(text=_agreement(filmed))]
    different = [task for task, entry in filmed.items() if not _is_same(entry)]
    if different:
        blocks.append(Prose(text=_difference(different), is_warning=True))
    if left_out:
        size = f"{material.film_bytes / 1e6:.0f} MB"
        blocks.append(
            Prose(
                text=f"Films of {count(left_out, 'more task')} are left out to keep the page below "
                f"{size}; they lie in {VIDEOS_FOLDER}/ beside the results."
            )
        )
    failed = {task: entry["failure"] for task, entry in recordings.items() if "failure" in entry}
    if failed:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in failed.items())
        blocks.append(Prose(text=f"Not recorded: {reasons}", is_warning=True))
    return Section(name="films", title="Episodes", blocks=(*blocks, Films(cards=cards)))


def _agreement(filmed: Mapping[str, Mapping[str, Any]]) -> str:
    episodes = [e for entry in filmed.values() for e in entry["episodes"].values()]
    same = sum(episode["same"] for episode in episodes)
    return (
        f"The best, median and worst episode of {count(len(filmed), 'task')}, run again from their "
        f"seeds; {same} of {len(episodes)} returned exactly what was evaluated."
    )


def _difference(tasks: list[str]) -> str:
    return (
        "Marked films show an episode that did not return what was evaluated: actions were "
        "sampled, the simulator does not repeat from its seed, or two actions scored almost alike "
        f"in another batch ({', '.join(tasks)})."
    )


def _is_same(entry: Mapping[str, Any]) -> bool:
    return all(episode["same"] for episode in entry["episodes"].values())


def _within_budget(
    material: Material, filmed: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], int]:
    """Tasks whose films fit, taken from every suite in turn, and how many do not."""
    by_suite: dict[str, list[str]] = {}
    for task in sorted(filmed):
        by_suite.setdefault(task.split("/")[0], []).append(task)
    turns = max((len(group) for group in by_suite.values()), default=0)
    in_turn = [g[i] for i in range(turns) for g in by_suite.values() if i < len(g)]
    chosen, used = [], 0
    for task in in_turn:
        size = sum(path.stat().st_size for path in _paths(material, task, filmed[task]).values())
        if used + size <= material.film_bytes:
            chosen.append(task)
            used += size
    return sorted(chosen), len(in_turn) - len(chosen)


def _paths(material: Material, task: str, entry: Mapping[str, Any]) -> dict[str, Path]:
    """The films that are there, by role."""
    folder = material.folder / VIDEOS_FOLDER
    paths = {
        role: below(folder, f"{task}/{check_name(episode['file'], f'{folder / task}: film')}")
        for role, episode in entry["episodes"].items()
    }
    return {role: path for role, path in paths.items() if path.is_file()}


def _card(material: Material, task: str, entry: Mapping[str, Any]) -> FilmCard:
    result = material.results["tasks"][task]
    paths = _paths(material, task, entry)
    score = "no reference" if result["normalised"] is None else percent(result["normalised"])
    note = ""
    if entry["no_picture"]:
        note = f"Drawn from its numbers ({entry['no_picture']})"
    return FilmCard(
        task=task,
        score=score,
        note=note,
        films=tuple(
            _film(role, path, entry["episodes"][role], result, material.folder)
            for role, path in paths.items()
        ),
    )


def _film(
    role: str, path: Path, episode: Mapping[str, Any], result: Mapping[str, Any], folder: Path
) -> Film:
    lines = [f"return {number(episode['evaluated_return'])}"]
    if result["expert"] is not None:
        span = result["expert"] - result["random"]
        lines.append(f"score {percent((episode['evaluated_return'] - result['random']) / span)}")
    lines += [count(episode["length"], "step"), f"seed {episode['seed']}"]
    if episode["success"] is not None:
        lines.append("succeeded" if episode["success"] else "no success")
    if not episode["same"]:
        lines.append(f"this film returned {number(episode['return'])}")
    data = path.read_bytes()
    return Film(
        role=role,
        lines=tuple(lines),
        path=path.relative_to(folder).as_posix(),
        data=data,
        poster=_poster(data),
        size=(episode["size"][0], episode["size"][1]),
        is_same=episode["same"],
    )


def _poster(data: bytes) -> bytes:
    """A frame from the second half of a film."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as film:
        film.seek(int(getattr(film, "n_frames", 1) * _POSTER_AT))
        return still(film.convert("RGB"))
