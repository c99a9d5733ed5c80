"""The three pictures of the teaching app, as SVG text: a slider redraws them in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hospitals import (
    Estimate,
    Floats,
    chance_limits,
    design_effect,
    estimate,
    population_rate,
)
from scipy.special import expit

BLUE, RED, GREY, INK = "#1f5a7a", "#b3541e", "#9aa0a6", "#3c4043"
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 62, 12, 26, 46
SIZES = np.unique(np.geomspace(1, 200, 60).round())


@dataclass
class Picture:
    """A plot with two axes; `x` and `y` are their ends."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int = 300
    log: bool = False
    parts: list[str] = field(default_factory=list)

    def across(self, x: Floats | float) -> Floats:
        """Pixels from the left."""
        low, high = np.log(self.x) if self.log else self.x
        x = np.log(x) if self.log else np.asarray(x)
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(self, y: Floats | float) -> Floats:
        """Pixels from the top."""
        low, high = self.y
        return TOP + (high - np.asarray(y)) / (high - low) * (self.height - TOP - BOTTOM)

    def _points(self, x: Floats, y: Floats) -> str:
        pairs = zip(self.across(x), self.down(y), strict=True)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)

    def line(self, x: Floats, y: Floats, colour: str, width: float = 2, dash: str = "none") -> None:
        """A line through these points."""
        self.parts.append(
            f'<polyline points="{self._points(x, y)}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )

    def band(self, x: Floats, low: Floats, high: Floats) -> None:
        """A grey area between two lines."""
        points = self._points(np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]]))
        self.parts.append(f'<polygon points="{points}" fill="{GREY}" fill-opacity="0.25"/>')

    def dot(self, x: float, y: float, colour: str, *, hollow: bool = False) -> None:
        """A point, filled or not."""
        self.parts.append(
            f'<circle cx="{self.across(x):.1f}" cy="{self.down(y):.1f}" r="6.5" stroke="{colour}" '
            f'stroke-width="2.5" fill="{"white" if hollow else colour}"/>'
        )

    def axes(self, xs: tuple[float, ...], ys: tuple[float, ...], x_label: str, label: str) -> None:
        """Ticks and what is measured."""
        floor, wall = self.height - BOTTOM, LEFT
        self.parts.append(
            f'<path d="M{wall} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>'
        )
        for x in xs:
            self._text(float(self.across(x)), floor + 17, f"{x:g}", "middle")
        for y in ys:
            self._text(wall - 7, float(self.down(y)) + 4, f"{y:,g}", "end")
        self._text((LEFT + WIDTH - RIGHT) / 2, self.height - 8, x_label, "middle")
        self._text(6, 15, label, "start")

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self.parts.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{INK}">{text}</text>'
        )

    def svg(self, words: str, key: dict[str, str]) -> str:
        """The picture as wide as its column, its key, and words for those who do not see it."""
        marks = " &ensp; ".join(
            f'<span style="white-space:nowrap"><span style="color:{colour}">{mark[0]}</span> '
            f"{mark[2:]}</span>"
            for mark, colour in key.items()
        )
        return (
            f'<figure style="margin:0;max-width:760px"><svg viewBox="0 0 {WIDTH} {self.height}" '
            f'role="img" aria-label="{words}" style="width:100%;height:auto;background:white;'
            f'font:14px sans-serif">{"".join(self.parts)}</svg>'
            f'<figcaption style="font-size:0.9rem">{marks}</figcaption></figure>'
        )


def shrinkage_picture(new: Estimate, patients: int, centre: float, sd: float) -> str:
    """Raw and shrunken rate of the new hospital in the funnel that chance makes."""
    picture = Picture((0.9, 220), (0, 100), log=True)
    typical = float(expit(centre))
    low, high = chance_limits(SIZES, typical)
    picture.band(SIZES, 100 * low, 100 * high)
    picture.line(SIZES[[0, -1]], np.full(2, 100 * typical), GREY, 1.5)
    # The same raw rate from hospitals of other sizes: how far it would be believed.
    sizes = np.geomspace(1, 200, 20)
    path = [100 * estimate(new.raw * n, n, centre, sd).mean for n in sizes]
    picture.line(sizes, np.array(path), BLUE, 1.5, "5 4")
    at = np.full(2, float(patients))
    picture.line(at, 100 * np.array([new.lower, new.upper]), BLUE, 3)
    picture.dot(patients, 100 * new.raw, RED, hollow=True)
    picture.dot(patients, 100 * new.mean, BLUE)
    picture.axes(
        (1, 3, 10, 30, 100, 200), (0, 25, 50, 75, 100), "patients of the hospital", "death rate, %"
    )
    words = f"Raw rate {new.raw:.0%}, estimate {new.mean:.0%}, typical hospital {typical:.0%}."
    key = {
        "○ raw rate": RED,
        "● model's estimate with its 95 % interval": BLUE,
        "┅ estimate from the same raw rate, other sizes": BLUE,
        "─ typical hospital": GREY,
        "▮ at least 95 % of raw rates if hospitals did not differ": GREY,
    }
    return picture.svg(words, key)


def precision_picture(size: int, icc: float) -> str:
    """What 1,000 patients are worth, by the number from each hospital."""
    picture = Picture((0, 200), (0, 1000), height=250)
    sizes = np.arange(1.0, 201.0)
    worth = 1000 / design_effect(float(size), icc)
    picture.line(sizes[[0, -1]], np.full(2, 1000.0), GREY, 1.5)
    picture.line(np.full(2, float(size)), np.array([worth, 1000]), RED, 2.5, "3 3")
    picture.line(sizes, 1000 / design_effect(sizes, icc), BLUE)
    picture.dot(size, worth, BLUE)
    picture.axes(
        (1, 50, 100, 150, 200),
        (0, 250, 500, 750, 1000),
        "patients from each hospital",
        "1,000 patients are worth this many independent ones",
    )
    key = {
        "─ 1,000 independent patients": GREY,
        "─ worth of 1,000 in hospitals": BLUE,
        "┅ lost": RED,
    }
    return picture.svg(f"1,000 patients, {size} a hospital, are worth {worth:.0f}.", key)


def odds_picture(odds_ratio: float, centre: float, sd: float) -> str:
    """Curves of single hospitals, and their flatter average, by amount of the risk factor."""
    picture = Picture((-4, 5), (0, 100))
    amounts = np.linspace(-4, 5, 91)
    log_odds = centre + np.log(odds_ratio) * amounts
    for z in (-1.64, -1.04, -0.67, -0.32, 0.32, 0.67, 1.04, 1.64):
        picture.line(amounts, 100 * expit(log_odds + z * sd), GREY, 0.9)
    for amount in (0.0, 1.0):
        picture.line(np.full(2, amount), np.array([0.0, 100]), GREY, 1, "2 4")
    picture.line(amounts, 100 * expit(log_odds), BLUE, 2.5)
    picture.line(amounts, 100 * population_rate(log_odds, sd), RED, 2.5, "7 4")
    picture.axes(
        (-4, -2, 0, 1, 3, 5),
        (0, 25, 50, 75, 100),
        "amount of the risk factor (0: without it, 1: with it)",
        "death rate, %",
    )
    key = {"─ typical hospital": BLUE, "┅ average over hospitals": RED, "─ single hospitals": GREY}
    return picture.svg("S-shaped curves of hospitals and their flatter average.", key)
