"""The axis of effects: on the scale of the analysis, or of ratios where these mean something."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# Ratios that are read easily, as many decades as are needed.
_STEPS = (1.0, 2.0, 5.0)
# Where no decade has two of them: steps of a fine scale, from which every k-th is taken.
_FINE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_FEWEST = 3


def effect_axis(ax: Axes, label: str, ratio: str, zero: bool = True) -> None:
    """Label the horizontal axis, with ticks at ratios where effects are their logarithms.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    label : str
        What the effects are.
    ratio : str
        What their exponentials are called; empty where that means nothing.
    zero : bool
        Whether to mark no effect.
    """
    low, high = ax.get_xlim()
    # Where 0 is far from all effects, as for means, it says nothing and would squeeze the rest.
    if zero and low < 0 < high:
        ax.axvline(0, color="black", linewidth=0.8, zorder=0)
    if not ratio:
        ax.set_xlabel(label)
        return
    ax.xaxis.set_major_locator(FixedLocator(np.log(_ratios(low, high)).tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{np.exp(x):.6g}"))
    ax.set_xlabel(f"{ratio} (log scale)")


def _ratios(low: float, high: float) -> np.ndarray:
    """Ratios for ticks between two logarithms."""
    ten = np.log(10)
    decades = range(int(np.floor(low / ten)) - 1, int(np.ceil(high / ten)) + 1)
    steps = _STEPS if len(decades) < 6 else _STEPS[:1]
    decades = decades[:: 1 + len(decades) // 12]
    every = np.array([step * 10.0**d for d in decades for step in steps])
    kept = every[(np.log(every) >= low) & (np.log(every) <= high)]
    if len(kept) >= _FEWEST:
        return kept
    # A narrow axis: equal steps of the ratio itself, as few as there is room for.
    first, last = np.exp(low), np.exp(high)
    wide = (last - first) / 6
    step = next((s for s in _FINE if s >= wide), 10.0 ** np.ceil(np.log10(wide)))
    if wide < _FINE[0]:
        step = 10.0 ** np.ceil(np.log10(wide))
    return np.asarray(np.arange(np.ceil(first / step), np.floor(last / step) + 1) * step)
