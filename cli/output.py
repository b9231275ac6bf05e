"""Refuse a place that results cannot go to, before any work is done."""

import os
from pathlib import Path

from detloss.errors import UserError


def check_file(path: Path | None, option: str, endings: tuple[str, ...]) -> None:
    """Raise `UserError` unless the file's name ends in one of ``endings`` and it can be written."""
    if path is None:
        return
    if path.suffix not in endings:
        raise UserError(f"{option} {path}: expected a name that ends in {' or '.join(endings)}")
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; give a file")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: no such folder as {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written; choose another place")


def check_folder(path: Path | None, option: str) -> None:
    """Raise `UserError` unless files can go to the folder, which need not be there yet."""
    if path is None:
        return
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{option} {path}: {place} is a file; give a folder")
    if not os.access(place, os.W_OK):
        raise UserError(f"{option} {path}: {place} cannot be written; choose another place")
