"""How numbers of 0..1 are written, times 100 (no torch here)."""

from math import isnan


def percent(value: float, deviation: float | None = None) -> str:
    """Return ``12.3``, with a deviation ``12.3 ± 0.4``, or ``-`` where there is no value."""
    if isnan(value):
        return "-"
    return f"{100 * value:.1f}" + ("" if deviation is None or isnan(deviation) else f" ± {100 * deviation:.1f}")


def signed(value: float) -> str:
    """Return ``+1.2``, or ``-`` where there is no value."""
    return "-" if isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}"  # plus zero: no -0.0


def interval(low: float, high: float, *, signs: bool = False) -> str:
    """Return ``[1.2, 3.4]``, or nothing where there is none."""
    if isnan(low) or isnan(high):
        return ""
    return f"[{signed(low)}, {signed(high)}]" if signs else f"[{percent(low)}, {percent(high)}]"


def p_value(p: float | None) -> str:
    """Return three decimals, rounded up so that no value looks smaller than it is."""
    if p is None:
        return ""
    return f"{-(-p * 1000 // 1) / 1000:.3f}"
