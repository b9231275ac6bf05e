"""What a page is made of, without a word of HTML: sections of text, tables, figures and what opens on a click."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Image:
    """A picture as a data URI, its size in pixels, and what it shows in words."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Cell:
    """A number or a word, lines of smaller words below it, and a picture above it."""

    text: str
    notes: tuple[str, ...] = ()
    strong: bool = False
    image: Image | None = None


@dataclass(frozen=True)
class Column:
    """What is written above a column; numbers stand at its right end."""

    heading: str
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """Cells, the first of which names the row; ``group`` is what the table can be narrowed to."""

    cells: tuple[Cell, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        spans: headings over several columns each, with how many.
        groups: value and name of what the rows can be narrowed to.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    spans: tuple[tuple[str, int], ...] = ()
    groups: tuple[tuple[str, str], ...] = ()
    sortable: bool = False

    @classmethod
    def of(cls, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> "Table":
        """Return a table of plain words."""
        return cls(caption, tuple(columns), tuple(Row(tuple(map(Cell, row))) for row in rows))


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: what it is, in a few words that no other figure has.
        svg: its markup, which says in words what is seen.
        numbers: those that are drawn.
    """

    kind: ClassVar[str] = "figure"
    name: str
    svg: Markup
    caption: str
    numbers: Table | None = None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Listing:
    """Lines under one another."""

    kind: ClassVar[str] = "listing"
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Details:
    """What opens on a click."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: tuple["Block", ...]


Block = Table | Figure | Text | Listing | Details


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it; ``anchor`` is its address in the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]
