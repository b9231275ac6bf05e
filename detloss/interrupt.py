"""Ctrl-C and SIGTERM as a flag, so that a run can save before it leaves."""

import signal
import time
from types import FrameType, TracebackType

SAME_SIGNAL_SECONDS = 2.0


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets ``made``; one that comes later acts as usual."""

    def __init__(self) -> None:
        self.made = False
        self._first = 0.0
        self._former: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A terminal signals every process and torch elastic passes the signal on: the same Ctrl-C, twice.
        if self.made and time.monotonic() - self._first > SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)
        elif not self.made:
            self.made, self._first = True, time.monotonic()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()
