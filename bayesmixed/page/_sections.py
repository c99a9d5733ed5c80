"""What stands on a page: each part with its words, tables and drawings, or why it is left out."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import xarray as xr

from bayesmixed import meta, reports
from bayesmixed.fit import Fit
from bayesmixed.page import _panels
from bayesmixed.page._attempt import Failure, attempt
from bayesmixed.page._bars import Panel
from bayesmixed.page._own_effects import own_effects
from bayesmixed.page._tables import Grid
from bayesmixed.page._units import Units
from bayesmixed.predictor import INTERCEPT
from bayesmixed.reports import Report

_MOST_REPLICATED, _FEWEST_DRAWS = 20_000_000, 400

type Draw = Callable[[Report], Sequence[Panel]]


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
        Groups in the order of their estimates.
    panels : tuple of Panel
        Estimates with intervals.
    key : str
        What the marks of `panels` are.
    caveats, references : tuple of str
    missing : str
        Why it cannot be shown; empty where it can.
    """

    title: str
    caption: str = ""
    grid: Grid | None = None
    picture: Picture | None = None
    units: Units | None = None
    panels: tuple[Panel, ...] = ()
    key: str = ""
    caveats: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    missing: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def sections(fit: Fit, units: Collection[str]) -> Iterator[Section]:
    """Every report that suits the fit, one after another.

    Parameters
    ----------
    fit : Fit
    units : collection of str
        Groupings whose groups are shown.
    """
    design = fit.design
    first = design.family.parameters[0].name
    random = design.predictors[first].random
    synthesis = "measure" in fit.posterior.attrs or design.sampling_sd is not None
    if synthesis:
        draw = partial(_panels.studies, fit)
        make = partial(meta.pooled_effects, fit)
        yield _section("Pooled effects", make, draw, _panels.STUDIES_KEY)
        yield _units("Study effects", partial(_studies, fit))
    # Of one level of studies, tau and I2 above say it; a study is not a group of patients.
    if random and not (synthesis and len(random) == 1):
        yield _section(
            "Variance components", partial(reports.variance_components, fit), _panels.spreads
        )
    if random and not synthesis:
        yield _section("Intraclass correlation", partial(reports.icc, fit), _panels.shares)
    if design.spec.link.name == "logit" and len(design.predictors) == 1:
        make = partial(reports.odds_ratios, fit)
        yield _section("Odds ratios", make, _panels.ratios, _panels.RATIOS_KEY)
    if design.series is not None or fit.spec.process is not None:
        make = partial(reports.residual_correlation, fit)
        title = "Residual correlation" if fit.spec.process is None else "Correlation of the process"
        yield _section(title, make, _panels.correlations)
    yield from _every_unit(fit, units, synthesis)
    few = _fewer_draws(fit)
    make = partial(reports.check, few, seed=1)
    found = _section("Posterior predictive check", make, _panels.replicates, _panels.REPLICATES_KEY)
    count = few.posterior.sizes["chain"] * few.posterior.sizes["draw"]
    note = "" if few is fit else f" Replicated for {count:,} of the draws."
    yield replace(found, caption=found.caption + note)


def _studies(fit: Fit) -> Report:
    """Each study's effect, in the columns that a page can hold: ratios where there are some."""
    report = meta.study_effects(fit)
    ratios = [f"{what}{end}" for what in ("raw_ratio", "ratio") for end in ("", "_lb", "_ub")]
    kept = [*ratios, "reliability", "weight"]
    if not set(kept) <= set(report.table.columns):
        return report
    return replace(report, table=report.table[kept])


def _fewer_draws(fit: Fit) -> Fit:
    """Every so many draws, where all of them would replicate too many values to wait for."""
    posterior = fit.posterior
    draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    step = max(1, min(draws * len(fit.design.y) // _MOST_REPLICATED, draws // _FEWEST_DRAWS))
    if step == 1:
        return fit
    few = xr.DataTree.from_dict({"posterior": posterior.isel(draw=slice(None, None, step))})
    thinned = Fit(fit.design, few, fit.notes)
    # The verdict is on all draws.
    vars(thinned)["convergence"] = fit.convergence
    return thinned


def _every_unit(fit: Fit, units: Collection[str], synthesis: bool) -> Iterator[Section]:
    """The groups of each grouping: their outcomes, slopes, and values of further parameters."""
    first, *others = fit.design.predictors.items()
    for grouping in first[1].random:
        if grouping.groups.grouping.is_process:  # A value for each time of a patient, not a group.
            continue
        # Studies have a section of their own.
        told = fit.design.sampling_sd is None or len(grouping.groups.labels) == fit.design.rows
        if grouping.name not in units or (synthesis and told):
            continue
        yield _units(f"Each {grouping.name}", partial(reports.shrinkage, fit, grouping.name))
        for effect in grouping.effects:
            if effect != INTERCEPT and not synthesis:
                make = partial(reports.shrinkage, fit, grouping.name, effect)
                yield _units(f"Each {grouping.name}: {effect}", make)
    for parameter, predictor in others:
        for grouping in predictor.random:
            for effect in grouping.effects if grouping.name in units else ():
                title = f"Each {grouping.name}: {effect} of {parameter}"
                yield _units(title, partial(own_effects, fit, parameter, grouping.name, effect))


def _section(title: str, make: Callable[[], Report], draw: Draw, key: str = "") -> Section:
    """A report as a section with estimates and intervals."""

    def made() -> Section:
        report = make()
        panels = attempt(f"{title}, drawing", lambda: tuple(draw(report)))
        picture = attempt(f"{title}, picture", partial(_picture, report)) if not panels else None
        return Section(
            title,
            report.caption,
            Grid.of(report.table, report.title),
            picture=picture if isinstance(picture, Picture) else None,
            panels=() if isinstance(panels, Failure) else panels,
            key=key,
            caveats=report.caveats,
            references=report.references,
        )

    return _or_reason(title, made)


def _units(title: str, make: Callable[[], Report]) -> Section:
    """A report on groups as a section that draws every one of them."""

    def made() -> Section:
        report = make()
        return Section(
            title,
            report.caption,
            Grid.of(report.table, report.title),
            units=Units.of(report.table),
            caveats=report.caveats,
            references=report.references,
        )

    return _or_reason(title, made)


def _or_reason(title: str, make: Callable[[], Section]) -> Section:
    found = attempt(title, make)
    return Section(title, missing=found.reason) if isinstance(found, Failure) else found


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
