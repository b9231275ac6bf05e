"""What the runs' configs have in common, and where they differ."""

from collections.abc import Sequence

from detloss import run_folder
from detloss.comparison.runs import Run, short
from detloss.report_page.blocks import Block, Column, Details, Section, Table, Text

ABSENT = "-"
"""What stands where a run has no such setting."""


def configuration(runs: Sequence[Run], labels: Sequence[str]) -> Section:
    """Return the settings that differ, keys or runs going down the page, whichever are more, and the others."""
    changes = {key for run in runs for key in run_folder.difference(runs[0].settings, run.settings)}
    keys = sorted({key for run in runs for key in run.settings})
    values = {key: {short(run.settings.get(key, ABSENT)) for run in runs} for key in keys}
    same = [(key, *own) for key, own in values.items() if len(own) == 1 and key not in changes]
    columns = (Column("key", numeric=False), Column("value", numeric=False))
    shared = Details(f"The {len(same)} settings that are the same in all", (Table.of("Settings", columns, same),))
    if len(runs) == 1:
        own = Details(f"The {len(same)} settings", (Table.of("Settings", columns, same),))
        return Section("configuration", "Configuration", (own,))
    found: Block = Text("The runs have the same settings.")
    if changes:
        found = _differences(runs, labels, sorted(changes))
    return Section("configuration", "Configuration differences", (found, shared))


def _differences(runs: Sequence[Run], labels: Sequence[str], keys: Sequence[str]) -> Table:
    cells = [[short(run.settings.get(key, ABSENT)) for run in runs] for key in keys]
    caption = f"Settings that differ ({ABSENT} where a run has none of the name)"
    if len(keys) > len(runs):
        columns = [Column(name, numeric=False) for name in ("key", *labels)]
        return Table.of(caption, columns, [(key, *own) for key, own in zip(keys, cells, strict=True)])
    columns = [Column(name, numeric=False) for name in ("run", *keys)]
    by_run = zip(*cells, strict=True)
    return Table.of(caption, columns, [(label, *own) for label, own in zip(labels, by_run, strict=True)])
