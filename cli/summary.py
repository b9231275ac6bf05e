"""What a sweep found: the mean and spread over seeds of each setting."""

import statistics
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from detloss.run_name import is_part_of_run

Metrics = dict[str, dict[str, float | None]]

KINDS = {"bbox": "boxes", "segm": "masks"}
SHOWN = ("AP", "AP50", "APr", "APc", "APf")


def print_summary(runs: Iterable[tuple[list[str], Metrics]]) -> None:
    """Print a row per setting: mean and, from two seeds on, standard deviation of each metric, times 100.

    Args:
        runs: the overrides of each run and its metrics.
    """
    settings: dict[str, list[Metrics]] = {}
    for overrides, metrics in runs:
        words = [word for word in overrides if is_part_of_run(word) and not word.startswith("seed=")]
        settings.setdefault(" ".join(words), []).append(metrics)
    table = Table(caption="mean ± standard deviation over seeds", caption_justify="left")
    table.add_column("setting")
    table.add_column("seeds", justify="right")
    table.add_column("IoU of")
    for name in SHOWN:
        table.add_column(name, justify="right", no_wrap=True)
    for setting, found in settings.items():
        for kind in sorted({kind for metrics in found for kind in metrics}):
            columns = [[metrics.get(kind, {}).get(name) for metrics in found] for name in SHOWN]
            table.add_row(setting, str(len(found)), KINDS.get(kind, kind), *map(spread, columns))
    console = Console()
    if not console.is_terminal:  # a log has room for whole settings
        console = Console(width=90 + max(map(len, settings), default=0))
    console.print(table)


def spread(values: list[float | None]) -> str:
    """Return ``12.3 ± 0.4`` of values in 0..1, or ``-`` where one is undefined."""
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.1f}"
    return f"{statistics.mean(known):.1f} ± {statistics.stdev(known):.1f}"
