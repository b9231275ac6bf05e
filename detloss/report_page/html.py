"""Sections become one HTML file that needs nothing beside it."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from detloss.report_page.blocks import Section


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page; every word in it is escaped but the figures' markup.

    Its policy allows no address at all, and no script but its own.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = breakable
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_part("page.html")).render(
        title=title, sections=sections, style=Markup(_part("page.css")), script=Markup(script), digest=digest
    )


def breakable(text: str) -> Markup:
    """Return a key such as ``loss.two_stage.gamma`` escaped, with leave to break the line within it."""
    return escape(text).replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>"))


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
