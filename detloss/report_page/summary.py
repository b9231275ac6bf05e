"""What was run: the data, how many runs of which methods, and what would make them again."""

from collections.abc import Sequence
from pathlib import Path

from detloss.comparison.texts import percent
from detloss.evaluation.ground_truth import GroundTruth
from detloss.evaluation.result import IOU_NAMES
from detloss.plots.figure import GROUP_NAMES
from detloss.report_page.blocks import Column, Details, Listing, Section, Table, Text
from detloss.report_page.scored import Scored, mean_ap


def summary(scored: Sequence[Scored], methods: Sequence[str], ground_truth: GroundTruth, kind: str) -> Section:
    """Return the first section; AP is of overlaps of ``kind``."""
    run = scored[0].run
    objects, groups = int(ground_truth.instances.sum()), run.groups
    members = [f"{groups.count(group)} {name}" for group, name in GROUP_NAMES.items() if group in groups]
    data = (
        f"{_count(len(scored), 'run')} of {_count(len(methods), 'method')} ({_detectors(scored)}) on "
        f"{run.cfg.dataset.name}, validated on "
        f"{_count(len(ground_truth.image_ids), 'image')} with {_count(objects, 'object')} of "
        f"{_count(len(groups), 'class', 'classes')} ({', '.join(members)} by their training images; the training "
        f"set has {run.stats.num_images:,}). Scored as evaluator={run.cfg.evaluator.name} does; the validation "
        f"file is {ground_truth.path.name}, SHA-256 {run.validation[:12]}."
    )
    headers = [header(each.run.home) for each in scored]
    code = [_code(own) for own in headers]
    columns = [
        Column("run", numeric=False),
        Column(f"AP of {IOU_NAMES[kind]} x 100"),
        Column("folder", numeric=False),
    ]
    rows = [[each.label, percent(mean_ap(each.ap)), each.run.folder.name] for each in scored]
    if len(set(code)) > 1:
        columns.append(Column("code", numeric=False))
        rows = [[*row, own] for row, own in zip(rows, code, strict=True)]
    commands = dict.fromkeys(line for own in headers for line in own if line.startswith("detloss "))
    made = tuple(line for line in commands if line.split()[1] in ("train", "bench"))
    blocks = (
        Text(data),
        *((Text(f"Made with {code[0]}."),) if len(set(code)) == 1 and code[0] else ()),
        Table.of("Runs", columns, rows),
        *((Details("Commands that made them", (Listing(made),)),) if made else ()),
    )
    return Section("summary", "Summary", blocks)


def header(home: Path) -> list[str]:
    """Return what stands above a run's config: versions, commit, command."""
    lines = (home / "config.yaml").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").strip() for line in lines if line.startswith("#")]


def _detectors(scored: Sequence[Scored]) -> str:
    return "; ".join(dict.fromkeys(f"{each.run.framework}, {each.run.backbone}" for each in scored))


def _code(lines: Sequence[str]) -> str:
    """Return versions and commit on one line."""
    names = ("detloss", "torch", "torchvision", "git")
    return ", ".join(
        line for line in lines if line.split()[:1] and line.split()[0] in names and len(line.split()) == 2
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
