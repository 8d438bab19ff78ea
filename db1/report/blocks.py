"""Building blocks of a report, independent of HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A normalised score as a bar: 0 is random, 1 the expert.

    Args:
        value: The score.
        low, high: Its 95 % interval; None: no whisker.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of a table.

    Args:
        text: As it is read.
        key: What the column is sorted by; None comes below everything. Texts sort as texts.
        bar: Drawn where the format can draw.
        link: Anchor in the same page.
    """

    text: str
    key: float | str | None = None
    bar: Bar | None = None
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Args:
        title: Its head.
        is_text: Left-aligned text; else a right-aligned number.
        is_main: Large on a phone, where a row becomes a card.
        is_minor: Left out where there is little room, on paper.
    """

    title: str
    is_text: bool = False
    is_main: bool = False
    is_minor: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under heads.

    Args:
        name: Unique in the report.
        caption: One line about it.
        columns: Heads.
        rows: Cells of each row.
        groups: One word a row that rows can be filtered by (the suite); empty: no filter.
        levels: One of LEVELS a row that rows can be filtered by; empty: no filter.
        is_searchable: Has a search field, filters and sorting.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    is_searchable: bool = False


LEVELS = ("at least 50 %", "below 50 %", "no score")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names with values.

    Args:
        pairs: Value by name.
    """

    pairs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A paragraph.

    Args:
        text: Plain text.
        is_warning: Stands out.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One large number.

    Args:
        label: What it is.
        value: The number.
        note: Its interval or what it is out of.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Large numbers side by side.

    Args:
        tiles: From the most important on.
    """

    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart.

    Args:
        name: In the legend.
        points: (x, y), ascending in x.
        is_stepped: y holds until the next x.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    is_stepped: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over one pair of axes.

    Args:
        title: What is seen.
        summary: The same in words, for those who do not see it.
        x_title, y_title: Of the axes.
        lines: At most six.
        x_marks: x values with a vertical line.
        y_from_zero: The y axis starts at 0.
        y_top: Upper end of the y axis; None: the largest y.
        y_whole: y counts something: only whole numbers are labelled.
        x_unit: Behind the numbers of the x axis.
    """

    title: str
    summary: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    x_marks: tuple[float, ...] = ()
    y_from_zero: bool = True
    y_top: float | None = None
    y_whole: bool = False
    x_unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """A whole split in named parts, as one stacked bar.

    Args:
        title: What is split.
        parts: (name, number), in order.
    """

    title: str
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One row of a strip plot.

    Args:
        name: Of the row.
        note: Small text beside it.
        mean: Drawn as a bar.
        dots: (label, value), one a task.
    """

    name: str
    note: str
    mean: Bar
    dots: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Strips:
    """Normalised scores by group: a bar for the mean, a dot for each task.

    Args:
        title: What is seen.
        rows: From the top.
    """

    title: str
    rows: tuple[Strip, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A still image with lines of text: a caption, an answer.

    Args:
        data: The file's bytes.
        media_type: `image/png` and the like.
        description: What is seen, for those who do not see it.
        lines: (label, text), such as ("written", "a red circle").
        path: Where formats that cannot hold it find it, relative to the results; empty: nowhere.
    """

    data: bytes
    media_type: str
    description: str
    lines: tuple[tuple[str, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures side by side.

    Args:
        pictures: In order.
    """

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Film:
    """A short film of one episode.

    Args:
        role: best, median or worst.
        lines: What is known of it.
        path: Relative to the folder of the results.
        data: An animated WebP.
        poster: A still of it, WebP.
        size: Width and height in pixels.
        is_same: It returned what the evaluation says.
    """

    role: str
    lines: tuple[str, ...]
    path: str
    data: bytes
    poster: bytes
    size: tuple[int, int]
    is_same: bool


@dataclass(frozen=True, kw_only=True)
class FilmCard:
    """The films of one task.

    Args:
        task: Its id.
        score: In words.
        note: Why its pictures are no pictures, and the like.
        films: best, median, worst.
    """

    task: str
    score: str
    note: str
    films: tuple[Film, ...]


@dataclass(frozen=True, kw_only=True)
class Films:
    """Films by task.

    Args:
        cards: One a task.
    """

    cards: tuple[FilmCard, ...]


Block: TypeAlias = Table | Facts | Prose | Tiles | Chart | Shares | Strips | Gallery | Films


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report.

    Args:
        name: Anchor; one word.
        title: Its heading.
        blocks: In order.
        is_folded: Closed at first, where the format can fold.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report.

    Args:
        title: The headline.
        subtitle: What was evaluated.
        sections: In order.
        lead: Blocks right under the headline.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    lead: tuple[Block, ...] = ()
