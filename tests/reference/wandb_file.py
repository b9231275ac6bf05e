"""An offline W&B run read back with W&B's own messages, and nothing of detloss."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class WandbRun:
    """What a run's file holds: rows of history, config, how it was started, what was defined, how it ended."""

    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    summaries: dict[str, set[str]] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)

    def curve(self, name: str) -> dict[int, float]:
        """Return the values of a metric by step."""
        return {row["_step"]: row[name] for row in self.history if name in row}

    def table(self, said: dict[str, Any]) -> dict[str, list[Any]]:
        """Return a table's columns, read from the file that its line of history names."""
        content = json.loads((self.folder / "files" / said["path"]).read_text())
        return dict(zip(content["columns"], map(list, zip(*content["data"], strict=True)), strict=True))


def offline_runs(folder: Path) -> list[WandbRun]:
    """Return the offline runs in a run folder, the earliest first."""
    return [read_run(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def read_run(file: Path) -> WandbRun:
    run = WandbRun(file.parent)
    for record in finished_run(file):
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            run.history.append({key: json.loads(value) for key, value in items.items()})
        if record.HasField("run"):
            run.groups.add(record.run.run_group)
            run.tags |= set(record.run.tags)
            run.ids.add(record.run.run_id)
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("metric"):
            kinds = record.metric.summary
            chosen = {name for name in ("min", "max", "last") if getattr(kinds, name)}
            run.summaries[record.metric.glob_name or record.metric.name] = chosen
        if record.HasField("exit"):
            run.exit_codes.append(record.exit.exit_code)
    return run


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
        if position + 7 + length > len(content):
            return  # being written
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield record
            record = b""
