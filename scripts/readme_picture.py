"""The README's picture, from a fit to real data: `make readme-picture`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

import bayesmixed as bm

mpl.use("Agg")
RAW, OURS, INK = "#c8641e", "#1f5a7a", "#333333"


def main(path: Path) -> None:
    """Draw the raw and the shrunken death rate of 54 hospitals against their size."""
    data = bm.datasets.load("medpar")
    formula = "died ~ age80 + factor(type) + (1 | provnum)"
    fit = bm.Model(formula, data, family="bernoulli").fit(seed=1)
    report = bm.shrinkage(fit, "provnum")
    t = report.table.sort_values("n")

    mpl.rcParams |= {"svg.hashsalt": "bayesmixed", "font.size": 11}
    fig, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    ax.vlines(t["n"], 100 * t["eti95_lb"], 100 * t["eti95_ub"], color=OURS, lw=3, alpha=0.18)
    ax.vlines(t["n"], 100 * t["raw"], 100 * t["shrunken"], color=RAW, lw=0.7, alpha=0.7)
    ax.plot(t["n"], 100 * t["raw"], "o", mfc="white", color=RAW, ms=6, label="raw: deaths / stays")
    label = "shrunken, with 95 % interval"
    ax.plot(t["n"], 100 * t["shrunken"], "o", color=OURS, ms=5, label=label)
    alarming = t.loc[t["raw"] == t["raw"].max(), "n"].idxmax()
    n, raw, ours, low, high = t.loc[alarming, ["n", "raw", "shrunken", "eti95_lb", "eti95_ub"]]
    ax.annotate(
        f"{raw:.0%} of {n:.0f} patients died.\nExpected for them here: {ours:.0%}\n"
        f"(between {low:.0%} and {high:.0%})",
        (n, 100 * raw),
        xytext=(12, 2),
        textcoords="offset points",
        va="top",
        color=INK,
    )
    ax.set(
        xscale="log",
        xlabel="Medicare stays of the hospital",
        ylabel="died (%)",
        ylim=(-4, 104),
        title=f"{len(t)} hospitals in Arizona, {int(t['n'].sum()):,} stays",
    )
    ax.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
