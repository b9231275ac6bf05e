"""The balance of negative and positive gradient over the steps of every run."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from detloss.plots.balance import Balance, draw_heat_map
from detloss.plots.figure import GROUP_NAMES
from detloss.plots.history import Line, curve
from detloss.plots.several_runs import Curve, balance_curves, draw_balances, shown_ratios
from detloss.report_page.blocks import Block, Column, Details, Figure, Section, Table, Text
from detloss.report_page.scored import Scored
from detloss.report_page.svg import inline_svg

HOW = "that takes a training with trainer.probe.every=1 or more"


def gradient_balance(
    scored: Sequence[Scored],
    balances: Sequence[Balance | None],
    lines: Sequence[Sequence[Line]],
    methods: Sequence[str],
) -> Section:
    """Return the curves by group, rates as a table, and a heat map of each run by class."""
    probed = [
        (each, balance, own)
        for each, balance, own in zip(scored, balances, lines, strict=True)
        if balance is not None
    ]
    blocks: list[Block] = (
        list(_balances(probed, methods)) if probed else [Text(f"No run recorded gradients; {HOW}.")]
    )
    without = [each.label for each, balance in zip(scored, balances, strict=True) if balance is None]
    if probed and without:
        blocks.append(Text(f"Without recorded gradients: {', '.join(without)}; {HOW}."))
    return Section("balance", "Gradient balance", tuple(blocks))


def _balances(probed: Sequence[tuple[Scored, Balance, Sequence[Line]]], methods: Sequence[str]) -> Iterator[Block]:
    curves = balance_curves([(each.method, balance) for each, balance, _ in probed])
    if curves:
        caption = (
            "Summed gradient that pushes a class's logits down over that which pulls them up: 1, the dashed line, "
            "is balance. Each line is a run"
        )
        caption += ", runs of a method share its colour." if len(probed) > len(methods) else "."
        drawn = inline_svg(draw_balances(curves, methods), "balance", _seen(curves, methods))
        yield Figure("gradient balance", drawn, caption + _cut_off(curves))
        headings = ["run", *_names(curves), "least of a step", "greatest of a step"]
        columns = [Column(heading, numeric=heading != "run") for heading in headings]
        rows = [(each.label, *_at_the_end(balance, curves), *_extremes(own)) for each, balance, own in probed]
        yield Table.of("Negative over positive gradient at the end, and of single steps", columns, rows)
    maps = [_heat_map(each.label, balance, number) for number, (each, balance, _) in enumerate(probed)]
    yield Details("By class and step, a map of each run", tuple(maps))


def _names(curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    return [GROUP_NAMES.get(group, "all") for group in curves]


def _seen(curves: Mapping[str, Sequence[Curve]], methods: Sequence[str]) -> str:
    """Say where the curves end, for those who do not see them."""
    parts = []
    for name, own in zip(_names(curves), curves.values(), strict=True):
        ends = [
            (methods[number], [each.values[-1] for each in own if each.method == number])
            for number in range(len(methods))
        ]
        parts.append(
            f"{name}: "
            + ", ".join(f"{method} {_ratio(float(np.mean(values)))}" for method, values in ends if values)
        )
    return "Negative over positive gradient over the steps. At the end, the mean over seeds: " + "; ".join(parts)


def _cut_off(curves: Mapping[str, Sequence[Curve]]) -> str:
    """Say which values are beyond the axis, if there are any."""
    values = np.concatenate([each.values for own in curves.values() for each in own])
    low, high = shown_ratios(curves)
    beyond = int(((values < low) | (values > high)).sum())
    if not beyond:
        return ""
    ends = f"{_ratio(float(values.min()))} and {_ratio(float(values.max()))}"
    return f" Beyond the axis are {beyond} of {len(values):,} points; all are between {ends}."


def _at_the_end(balance: Balance, curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """Return the last defined ratio of each group that has a panel."""
    own = balance_curves([(0, balance)])
    return [_ratio(float(own[group][0].values[-1])) if group in own else "-" for group in curves]


def _extremes(lines: Sequence[Line]) -> list[str]:
    """Return the least and the greatest ratio of single steps, of all classes, up to the run's end."""
    found = [curve(lines, f"gradient/ratio_{end}")[1] for end in ("min", "max")]
    return [_ratio(values[-1]) if values else "-" for values in found]


def _heat_map(label: str, balance: Balance, number: int) -> Figure:
    caption = f"{label}: red where negatives outweigh, blue where positives do, grey where there are no positives."
    seen = f"Map of negative over positive gradient by class and step, of {label}"
    return Figure(f"gradients of {label}", inline_svg(draw_heat_map(balance), f"map{number}", seen), caption)


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
