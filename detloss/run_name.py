"""The name of a run, of its choices and overrides, and which of these belong to it. No torch here."""

import hashlib
import re
from collections.abc import Mapping, Sequence

NOT_PART_OF_A_RUN = (
    "trainer.devices", "trainer.nodes", "trainer.device", "trainer.workers", "trainer.probe",
    "logger", "output_dir", "overwrite", "data",
)  # fmt: skip
"""Where and how a run computes, not what: neither in a folder's name nor compared with its config."""

LONGEST_NAME = 120


def folder_name(choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """Return the name of a run: data set, model and loss, then the other overrides, sorted.

    ``choices`` maps config groups to options, ``overrides`` are the words of the command line. Characters
    that do not belong in a file name become ``_``; a name over 120 characters ends in a hash of all of it.
    """
    head = [choices[group] for group in ("dataset", "model", "loss")]
    words = sorted(word for word in overrides if not _left_out_of_name(word))
    return _file_name(",".join(["-".join(head), *words]))


def sweep_name(words: Sequence[str]) -> str:
    """Return one name for all the runs of a sweep, made of its words, so that a resumed sweep keeps it."""
    kept = sorted(word for word in words if not word.startswith("-") and is_part_of_run(word))
    return _file_name(",".join(kept) or "sweep")


def is_part_of_run(word: str) -> bool:
    """Whether an override, or a key of a config, says what is trained and not only where or how."""
    key = _key(word)
    return not any(key == part or key.startswith(f"{part}.") for part in NOT_PART_OF_A_RUN)


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _left_out_of_name(word: str) -> bool:
    return _key(word) in ("dataset", "model", "loss") or not is_part_of_run(word)


def _file_name(text: str) -> str:
    name = re.sub(r"[^\w.=+,-]", "_", text, flags=re.ASCII)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 11]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    return name
