"""What is run: the rows of the table, the peers of each, and what each row must reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import workloads
from benchmarks.peers import BAMBI, BAMBI_DEFAULT, BRMS, GLMMTMB, LME4, OURS
from benchmarks.row import Claim, Entry, Point, Row

_DRAWS = {"draws": 1000, "tune": 1000, "chains": 4}
SETTINGS: Mapping[str, Any] = {"kind": "fit", **_DRAWS, "cores": 2, "summary": True}
QUICK: Mapping[str, Any] = {"draws": 100, "tune": 100, "chains": 2, "sample": 1}

_INDEPENDENT = "effects independent: it has no correlated effects, so its model is simpler"


def _cut(draws: int, chains: int = 2) -> dict[str, int]:
    """Fewer draws for a peer that would take very long."""
    return {"draws": draws, "tune": draws, "chains": chains}


def _cold() -> Row:
    return Row(
        "cold",
        "sleepstudy, cold process to summary",
        (Point("sleepstudy", workloads.sleepstudy),),
        (
            Entry(OURS, options={"split": False}),
            Entry(BAMBI, remark=_INDEPENDENT),
            Entry(BAMBI_DEFAULT, remark=_INDEPENDENT),
            Entry(BRMS),
            Entry(LME4),
        ),
        (
            Claim("whole", "sleepstudy", 2, 4, BAMBI),
            Claim("whole", "sleepstudy", 2, 4, BAMBI_DEFAULT),
            Claim("whole", "sleepstudy", 6, 15, BRMS),
        ),
    )


def _first() -> Row:
    return Row(
        "first",
        "sleepstudy, first run on a machine (nothing compiled is on disk)",
        (Point("sleepstudy", workloads.sleepstudy),),
        (
            Entry(OURS, options={"split": False}),
            Entry(BAMBI, remark=_INDEPENDENT),
            Entry(BAMBI_DEFAULT, remark=_INDEPENDENT),
        ),
        options={"empty_caches": True},
    )


def _again() -> Row:
    return Row(
        "again",
        "sleepstudy, the same structure again in the same process",
        (Point("sleepstudy", workloads.sleepstudy),),
        (Entry(OURS, options={"kind": "again", "split": False, "group": "Subject"}),),
        (Claim("again", "sleepstudy", 2, 1),),
    )


def _slopes() -> Row:
    size, quick = {"rows": 10_000, "groups": 500}, {"rows": 1_000, "groups": 50}
    name = "500 × 20"
    return Row(
        "slopes",
        "correlated slopes, 500 groups × 20 rows",
        (Point(name, workloads.slopes, size, quick),),
        (
            Entry(OURS),
            Entry(BAMBI, remark=_INDEPENDENT),
            Entry(BAMBI_DEFAULT, remark=_INDEPENDENT),
            Entry(BRMS),
            Entry(LME4),
        ),
        (
            Claim("rate", name, 50, 100, BAMBI),
            Claim("rate", name, 50, 100, BAMBI_DEFAULT),
            Claim("rate", name, 50, 100, BRMS),
        ),
    )


def _rows() -> Row:
    sizes = {"10^4": 10**4, "10^5": 10**5, "10^6": 10**6, "10^7": 10**7}
    small = {"10^4": 10**3, "10^5": 2 * 10**3, "10^6": 4 * 10**3, "10^7": 8 * 10**3}
    points = tuple(
        Point(
            name,
            workloads.slopes,
            {"rows": rows, "groups": 2_000},
            {"rows": small[name], "groups": 100},
            rows,
        )
        for name, rows in sizes.items()
    )
    return Row(
        "rows",
        "correlated slopes, 2,000 groups, more and more rows",
        points,
        (
            Entry(OURS),
            Entry(LME4, ("10^4", "10^5", "10^6")),
            Entry(LME4, ("10^7",), repeats=1),
            Entry(BAMBI, ("10^4", "10^5"), repeats=1, remark=_INDEPENDENT),
            Entry(BRMS, ("10^4",), repeats=1),
        ),
        (
            Claim("sample", "10^6", 1.2, 1.2, other="10^4"),
            Claim("sample", "10^7", 1.2, 1.2, other="10^4"),
            Claim("whole", "10^6", 1, 1, LME4),
            Claim("whole", "10^7", 1, 1, LME4),
        ),
        axis="rows",
    )


def _groups() -> Row:
    points = tuple(
        Point(
            f"{groups:,}",
            workloads.slopes,
            {"rows": 20 * groups, "groups": groups},
            {"rows": groups // 5, "groups": groups // 20},
            groups,
        )
        for groups in (100, 1_000, 10_000, 50_000)
    )
    return Row(
        "groups",
        "correlated slopes, more and more groups of 20 rows",
        points,
        (
            Entry(OURS),
            Entry(LME4),
            Entry(BAMBI, ("100", "1,000"), repeats=1, remark=_INDEPENDENT),
            Entry(BRMS, ("100", "1,000"), repeats=1),
        ),
        axis="groups",
    )


def _effects() -> Row:
    points = tuple(
        Point(
            str(effects),
            workloads.slopes,
            {"rows": 10_000, "groups": 500, "effects": effects},
            {"rows": 1_000, "groups": 50},
            effects,
        )
        for effects in (1, 2, 4, 6)
    )
    return Row(
        "effects",
        "more and more correlated effects of each of 500 groups × 20 rows",
        points,
        (
            Entry(OURS),
            Entry(LME4),
            Entry(BAMBI, ("1", "2", "4"), repeats=1, remark=_INDEPENDENT),
            Entry(BRMS, ("1", "2", "4"), repeats=1),
        ),
        axis="correlated effects of a group",
    )


def _nested() -> Row:
    name = "7,000 rows"
    return Row(
        "nested",
        "three levels: 7,000 students in 280 classes in 70 schools",
        (Point(name, workloads.schools, quick={"schools": 12}),),
        (Entry(OURS), Entry(BAMBI), Entry(BRMS), Entry(LME4)),
        (Claim("rate", name, 20, 50, BRMS),),
    )


def _crossed() -> Row:
    quick = {"rows": 2_000, "students": 100, "lecturers": 40}
    name = "70,000 rows"
    return Row(
        "crossed",
        "crossed: 70,000 ratings of 1,100 lecturers by 3,000 students",
        (Point(name, workloads.ratings, quick=quick),),
        (
            Entry(OURS),
            Entry(BAMBI, options=_cut(500), repeats=1),
            Entry(BRMS, options=_cut(300), repeats=1),
            Entry(LME4),
        ),
        (Claim("rate", name, 20, 50, BRMS),),
    )


def _hospitals() -> Row:
    name = "100,000 rows"
    return Row(
        "hospitals",
        "bernoulli, 100,000 rows, 500 hospitals, 3 categorical risk factors",
        (Point(name, workloads.hospitals, quick={"rows": 3_000, "hospitals": 30}),),
        (
            Entry(OURS),
            Entry(BAMBI, options=_cut(500), repeats=1),
            Entry(BAMBI_DEFAULT, options=_cut(500), repeats=1),
            Entry(BRMS, options=_cut(200), repeats=1),
            Entry(LME4, repeats=1),
            Entry(GLMMTMB, repeats=1),
        ),
        (
            Claim("rate", name, 30, 100, BAMBI),
            Claim("rate", name, 30, 100, BAMBI_DEFAULT),
            Claim("rate", name, 100, 100, BRMS),
        ),
    )


def _continuous(family: str) -> Row:
    quick = {"rows": 2_000, "groups": 100}
    name = "20,000 rows"
    return Row(
        family,
        f"{family}, random intercept and a continuous predictor, 20,000 rows, 1,000 groups",
        (Point(name, workloads.continuous, {"family": family}, quick),),
        (Entry(OURS), Entry(BAMBI), Entry(BAMBI_DEFAULT), Entry(BRMS, repeats=1), Entry(GLMMTMB)),
        (Claim("rate", name, 5, 10, BAMBI), Claim("rate", name, 5, 10, BAMBI_DEFAULT)),
    )


def _trial() -> Row:
    small = {"patients": 40, "visits": 4}
    first, last = "AR(1)", "unstructured"
    points = tuple(
        Point(name, workloads.trial, {"structure": structure}, {"structure": structure, **small})
        for name, structure in ((first, "AR1"), (last, "Unstructured"))
    )
    return Row(
        "trial",
        "a trial with correlated residuals: 800 patients, 10 visits, a quarter drop out",
        points,
        (Entry(OURS), Entry(BRMS, (first,), options=_cut(200), repeats=1)),
        (Claim("rate", first, 20, 50, BRMS), Claim("whole", last, 60, 30)),
    )


def _genes(depth: bool) -> Row:
    points = tuple(
        Point(
            f"{genes:,} genes",
            workloads.cells,
            {"genes": genes, "depth": depth},
            {"genes": small, "cells": 10},
        )
        for genes, small in ((200, 4), (2_000, 8))
    )
    first, last = (point.name for point in points)
    remark = "a loop over 6 of the genes, after one more that is not counted"
    return Row(
        "genes_depth" if depth else "genes",
        "2,000 genes × 20 patients × 100 cells, negative binomial"
        + (", an offset for each cell (no rows collapse)" if depth else ""),
        points,
        (
            Entry(OURS, options={"kind": "many"}, repeats=1),
            Entry(BAMBI, (last,), repeats=1, remark=remark),
            Entry(BAMBI_DEFAULT, (last,), repeats=1, remark=remark),
        ),
        (
            Claim("outcome", last, 50, 100, BAMBI),
            Claim("outcome", last, 50, 100, BAMBI_DEFAULT),
            Claim("memory", last, 1.2, 1.2, other=first),
        ),
        {"kind": "many", "sample": 6},
    )


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        _cold(),
        _first(),
        _again(),
        _slopes(),
        _rows(),
        _nested(),
        _crossed(),
        _hospitals(),
        _continuous("poisson"),
        _continuous("bernoulli"),
        _trial(),
        _genes(depth=False),
        _genes(depth=True),
        _groups(),
        _effects(),
    )
}
