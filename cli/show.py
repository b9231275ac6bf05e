"""``detloss show``: the config that words make."""

import typer
import yaml

from . import compose
from .verb import Overrides


def show(overrides: Overrides = None) -> None:
    """Print the composed config, every value resolved, as YAML."""
    config = compose.resolved(compose.compose(overrides or []))
    typer.echo(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), nl=False)
