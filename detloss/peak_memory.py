"""How much memory a function needs at once, beyond what is there before."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def peak_memory(function: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that ``function`` held at once, on a GPU or in this process; None where unknown.

    On a CPU it is the process's high-water mark, which Linux can reset.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        function()  # what is kept for good, such as thread pools, is not counted
        ctypes.CDLL(None).malloc_trim(0)  # otherwise memory that is free but still held would be used unseen
        (PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, AttributeError):
        return None
    function()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", (PROCESS / "status").read_text())
    if found is None:
        raise OSError(f"no {name}")
    return 1024 * int(found.group(1))
