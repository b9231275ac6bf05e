"""What a run shows while it works: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Steps done, loss, times and the time left; on ranks other than 0 it shows nothing."""

    def __init__(self, title: str, total: int, *, done: int = 0, visible: bool = True) -> None:
        console = Console(file=sys.stderr)
        self._visible = visible
        self._title, self._total, self._first = title, total, done
        self._start = time.monotonic()
        self._bar: Progress | None = None
        if visible and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def advance(self, done: int) -> None:
        """Move to ``done`` of the total."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def note(self, done: int, values: Mapping[str, float]) -> None:
        """Show named values; those that end in _seconds with their unit."""
        text = "  ".join(
            f"{name.removesuffix('_seconds')} {value:.3f}{'s' if name.endswith('_seconds') else ''}"
            for name, value in values.items()
            if not name.startswith("loss_")
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=text)
        elif self._visible:
            left = (time.monotonic() - self._start) / max(1, done - self._first) * (self._total - done)
            print(
                f"{self._title} {done}/{self._total}  {text}  ETA {duration(left)}",
                file=sys.stderr,
                flush=True,
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to others for a while."""
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()

    def __enter__(self) -> "Display":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """Return h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
