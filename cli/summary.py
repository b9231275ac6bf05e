"""What a sweep found: the mean and spread over seeds of each setting."""

import statistics
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

Metrics = dict[str, dict[str, float | None]]

SHOWN = ("AP", "AP50", "APr", "APc", "APf")


def print_summary(runs: Iterable[tuple[list[str], Metrics]]) -> None:
    """Print a row per setting: mean and, from two seeds on, standard deviation of each metric, times 100.

    Args:
        runs: the overrides of each run and its metrics.
    """
    settings: dict[str, list[Metrics]] = {}
    for overrides, metrics in runs:
        words = [word for word in overrides if not word.startswith(("seed=", "output_dir=", "trainer."))]
        settings.setdefault(" ".join(words), []).append(metrics)
    kinds = sorted({kind for found in settings.values() for metrics in found for kind in metrics})
    table = Table(caption="mean ± standard deviation over seeds", caption_justify="left")
    table.add_column("setting")
    table.add_column("seeds", justify="right")
    columns = [(kind, name) for kind in kinds for name in SHOWN]
    for kind, name in columns:
        table.add_column(f"{kind} {name}", justify="right", no_wrap=True)
    for setting, found in settings.items():
        values = [[metrics.get(kind, {}).get(name) for metrics in found] for kind, name in columns]
        table.add_row(setting, str(len(found)), *(spread(column) for column in values))
    console = Console()
    console.print(table, width=max(console.width, 30 + 14 * len(columns)) if not console.is_terminal else None)


def spread(values: list[float | None]) -> str:
    """Return ``12.3 ± 0.4`` of values in 0..1, or ``-`` where one is undefined."""
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.1f}"
    return f"{statistics.mean(known):.1f} ± {statistics.stdev(known):.1f}"
