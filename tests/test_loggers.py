"""W&B beside metrics.jsonl: the same values, and never a reason for a training to stop."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from detloss.loggers import JsonLines, open_loggers, wandb_wanted


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def config(kind: str) -> DictConfig:
    logger = {"name": kind, "project": "test", "entity": None, "tags": ["a"]}
    return OmegaConf.create({"logger": logger, "loss": {"name": "ecm"}, "seed": 3})


def test_without_key_or_mode_auto_means_local_and_with_either_it_means_wandb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not wandb_wanted()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_wanted()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not wandb_wanted()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_wanted()


def test_an_offline_wandb_run_holds_config_group_and_values(tmp_path: Path) -> None:
    with open_loggers(config("wandb"), tmp_path, first_step=0, sweep="my-sweep") as loggers:
        loggers.log(1, {"loss": 2.5, "bbox/APr": None})
        loggers.log(2, {"loss": 1.25, "bbox/APr": 0.125})
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history, groups, updates, codes = [], set(), {}, []
    for record in finished_run(file):
        if record.HasField("history"):
            row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            history.append({key: json.loads(value) for key, value in row.items()})
        if record.HasField("run"):
            groups.add(record.run.run_group)
            updates |= {item.key: item.value_json for item in record.run.config.update}
        if record.HasField("exit"):
            codes.append(record.exit.exit_code)
    rows = [(row["_step"], row["loss"], row.get("bbox/APr")) for row in history]
    assert rows == [(1, 2.5, None), (2, 1.25, 0.125)]
    assert groups == {"my-sweep"} and json.loads(updates["seed"]) == 3 and codes == [0]


def finished_run(file: Path) -> list[Any]:
    """Return the records of a run once its last is there: W&B's own process writes on after ``finish``."""
    from wandb.proto import wandb_internal_pb2

    deadline = time.monotonic() + 60
    while True:
        records = [wandb_internal_pb2.Record.FromString(data) for data in leveldb_records(file.read_bytes())]
        if (records and records[-1].HasField("exit")) or time.monotonic() > deadline:
            return records
        time.sleep(0.1)


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: blocks of 32 KiB, fragments of (crc, length, kind, data)."""
    position, record = 7, b""  # W&B's own header
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # the rest of a block, too short for a fragment
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield record
            record = b""


def test_a_wandb_that_cannot_start_leaves_the_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def fail(**_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(wandb, "init", fail)
    with open_loggers(config("wandb"), tmp_path, first_step=0, sweep=None) as loggers:
        loggers.log(1, {"loss": 2.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 2.5}


def test_a_resumed_log_drops_the_lines_that_are_written_again_and_a_line_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    log = JsonLines(path, first_step=1)
    log.log(2, {"loss": float("nan")})
    log.finish(0)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": 3},
        {"step": 2, "loss": None},
    ]
