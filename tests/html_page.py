"""What stands in an HTML page, by Python's own parser: tables, headings, pictures, and what refers to what."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "wbr"}
Attributes = dict[str, str]


class Page(HTMLParser):
    """A page, read once.

    Attributes:
        elements: all of them, name and attributes.
        tables: rows of texts by caption, the headings first; smaller words of a cell follow its number.
        headings: level and text.
        text: all words but those of style and script.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[tuple[int, str]] = []
        self.text = ""
        self._open: list[str] = []
        self._caption = ""
        self.feed(content)
        assert self._open == [], f"never closed: {self._open}"

    def named(self, name: str) -> list[Attributes]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._caption = ""
        if tag in ("thead", "tbody"):
            self.tables.setdefault(self._caption, [])
        if tag == "tr":
            self.tables[self._caption].append([])
        if tag in ("td", "th"):
            self.tables[self._caption][-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] in ("style", "script"):
            return
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self.tables[self._caption][-1][-1] += data
        if self._open[-1] in ("h1", "h2", "h3"):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data
