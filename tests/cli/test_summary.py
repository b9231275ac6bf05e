"""The table after a sweep."""

import pytest
from detloss.cli.summary import print_summary, spread


def test_mean_and_standard_deviation_over_three_seeds_are_those_worked_out_by_hand() -> None:
    # 10, 20 and 60: the mean is 30, the deviations -20, -10, 30, and sqrt(1400 / 2) = 26.46.
    assert spread([0.1, 0.2, 0.6]) == "30.0 ± 26.5"
    assert spread([0.1234]) == "12.3"
    assert spread([0.1, None]) == "-"


def test_runs_that_differ_in_their_seed_share_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(
        (
            ["loss=" + loss, f"seed={seed}", "output_dir=x", "logger=jsonl", "trainer.workers=0"],
            {"bbox": {"AP": value, "APr": None}},
        )
        for loss, seed, value in [("ce", 0, 0.2), ("ce", 1, 0.3), ("ecm", 0, 0.4)]
    )
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "loss=" in line]
    assert [[cell.strip() for cell in row[1:5]] for row in rows] == [
        ["loss=ce", "2", "boxes", "25.0 ± 7.1"],
        ["loss=ecm", "1", "boxes", "40.0"],
    ]
