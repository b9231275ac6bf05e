"""What the environment says of W&B, looked at without importing it: whether it is wanted, and has a key."""

import os
from pathlib import Path
from urllib.parse import urlsplit

HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""Where W&B's own servers are, and so the names under which ``wandb login`` keeps a key."""


def wandb_wanted() -> bool:
    """Whether the environment speaks of W&B: a key, or a mode other than disabled."""
    mode = os.environ.get("WANDB_MODE")
    return mode != "disabled" and (bool(mode) or wandb_key_exists())


def wandb_key_exists() -> bool:
    """Whether W&B has a key, in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        words = netrc.read_text("utf-8", errors="replace").split()
    except OSError:
        return False
    return any(host in words for host in (own, *HOSTS))


def wandb_mode() -> str:
    """Return the mode of a run: that of ``WANDB_MODE``, or online, which becomes offline where there is no key.

    Without a key W&B would ask for one at a terminal, and the training would wait for the answer.
    """
    mode = os.environ.get("WANDB_MODE") or "online"
    needs_key = mode not in ("offline", "dryrun", "disabled")
    return "offline" if needs_key and not wandb_key_exists() else mode
