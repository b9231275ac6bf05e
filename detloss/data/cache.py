"""Where detloss keeps what it can make again."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return ``$DETLOSS_CACHE``, or ``detloss`` in the user's cache directory."""
    named = os.environ.get("DETLOSS_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("detloss", appauthor=False))
