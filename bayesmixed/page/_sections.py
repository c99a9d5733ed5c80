"""What stands on a page: each part with its words, tables and pictures, or why it is left out."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt

from bayesmixed import meta, reports
from bayesmixed._errors import BayesmixedError
from bayesmixed.fit import Fit
from bayesmixed.page._tables import Grid
from bayesmixed.page._units import Units
from bayesmixed.reports import Report


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Parameters
    ----------
    source : str
        As a data URL.
    text : str
        What it shows, for who cannot see it.
    """

    source: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Parameters
    ----------
    title, caption : str
    grid : Grid, optional
    picture : Picture, optional
    units : Units, optional
        A drawing that answers to pointer and keyboard.
    caveats, references : tuple of str
    missing : str
        Why it cannot be shown; empty where it can.
    """

    title: str
    caption: str = ""
    grid: Grid | None = None
    picture: Picture | None = None
    units: Units | None = None
    caveats: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    missing: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def sections(fit: Fit) -> Iterator[Section]:
    """Every report that suits the fit, one after another."""
    design = fit.design
    groups = [r.name for r in design.predictors[design.family.parameters[0].name].random]
    if "measure" in fit.posterior.attrs or design.sampling_sd is not None:
        yield _section("Pooled effects", partial(meta.pooled_effects, fit))
    if groups:
        yield _section("Variance components", partial(reports.variance_components, fit))
        yield _section("Intraclass correlation", partial(reports.icc, fit))
    if design.spec.link.name == "logit" and len(design.predictors) == 1:
        yield _section("Odds ratios", partial(reports.odds_ratios, fit))
    if design.series is not None:
        yield _section("Residual correlation", partial(reports.residual_correlation, fit))
    for name in groups:
        yield _section(f"Each {name}", partial(reports.shrinkage, fit, name), True)
    yield _section("Posterior predictive check", partial(reports.check, fit, seed=1))


def _section(title: str, make: Callable[[], Report], units: bool = False) -> Section:
    """A report as a section; what it refuses is said in its own words, and nothing else is lost."""
    try:
        report = make()
        return Section(
            title,
            report.caption,
            Grid.of(report.table, report.title),
            None if units else _picture(report),
            Units.of(report.table) if units else None,
            report.caveats,
            report.references,
        )
    except BayesmixedError as error:
        return Section(title, missing=str(error))


def _picture(report: Report) -> Picture | None:
    if not report.pictures:
        return None
    drawn = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "bayesmixed"}):
        figure = report.plot().get_figure(root=True)
        assert figure is not None
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return Picture(f"data:image/svg+xml;base64,{encoded}", f"{report.title}. {report.caption}")
