"""The teaching app: `make teach` opens it. Its numbers are computed in hospitals.py."""

import marimo

app = marimo.App(width="medium", app_title="Patients in hospitals: five minutes on mixed models")


@app.cell(hide_code=True)
def _():
    import sys
    from pathlib import Path

    import marimo as mo
    import numpy as np
    from scipy.special import expit, logit

    sys.path.insert(0, str(Path(__file__).parent))
    import hospitals
    from pictures import odds_picture, precision_picture, shrinkage_picture

    return (
        expit,
        hospitals,
        logit,
        mo,
        np,
        odds_picture,
        precision_picture,
        shrinkage_picture,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        # Patients in hospitals: five minutes on mixed models

        Patients of one hospital have something in common: its staff, its district, its ways. The
        model is short. **A hospital's log odds of death are those of the typical hospital plus
        an effect of its own, and these effects are normal with a standard deviation, the
        between-hospital sd.** All that follows comes from that one number. Move it and watch the
        three pictures.
        """
    )


@app.cell(hide_code=True)
def _(mo):
    sd = mo.ui.slider(
        0.0, 2.0, 0.05, value=0.6, label="Between-hospital sd (log odds)", show_value=True
    )
    typical = mo.ui.slider(
        2, 50, 1, value=15, label="Death rate of the typical hospital (%)", show_value=True
    )
    patients = mo.ui.slider(
        1, 200, 1, value=6, label="Patients of the new hospital", show_value=True
    )
    size = mo.ui.slider(1, 200, 1, value=30, label="Patients from each hospital", show_value=True)
    ratio = mo.ui.slider(
        0.2, 6.0, 0.1, value=3.0, label="Odds ratio within a hospital", show_value=True
    )
    # The sd stands beside every picture. As parts of a panel, a slider that is moved is not
    # drawn anew.
    panels = [mo.vstack([sd, other]) for other in (typical, patients, size, ratio)]
    mo.output.append(panels[0])
    return panels, patients, ratio, sd, size, typical


@app.cell(hide_code=True)
def _(expit, hospitals, logit, mo, sd, typical):
    centre = float(logit(typical.value / 100))
    _low, _high = (100 * expit(centre + sd.value * z) for z in (-1.96, 1.96))
    mo.md(
        f"At this sd, 95 % of hospitals have a true rate between **{_low:.0f} %** and "
        f"**{_high:.0f} %**. Over all hospitals of one size, "
        f"**{100 * hospitals.population_rate(centre, sd.value):.1f} %** of patients die."
    )
    return (centre,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## 1. Is the alarming small hospital an outlier?

        A new hospital reports its counts. Its raw rate is deaths over patients. Try 3 of 6, then
        30 of 60.
        """
    )


@app.cell(hide_code=True)
def _(mo, panels):
    mo.output.append(panels[1])


@app.cell(hide_code=True)
def _(mo, patients):
    # More deaths than patients cannot be asked for.
    events = mo.ui.slider(
        0,
        patients.value,
        1,
        value=round(patients.value / 2),
        label="Deaths among them",
        show_value=True,
    )
    mo.output.append(events)
    return (events,)


@app.cell(hide_code=True)
def _(centre, events, hospitals, mo, patients, sd, shrinkage_picture):
    _n = min(events.value, patients.value)
    _new = hospitals.estimate(_n, patients.value, centre, sd.value)
    _chance = hospitals.chance_of(_n, patients.value, centre, sd.value)
    _some = hospitals.at_least_one(_chance, 50)
    _verdict = (
        "**Such a hospital is to be expected**: its count says little about it, and the model's "
        "estimate stays near what is usual."
        if _some > 0.5
        else "**Chance and the usual differences between hospitals do not easily explain this "
        "count.** Look closer: who its patients are, and how deaths are recorded."
        if _some < 0.05
        else "**Uncommon, yet one of 50 hospitals may well be like it.** Its interval says how far "
        "from the typical hospital it is."
    )
    mo.vstack(
        [
            mo.Html(shrinkage_picture(_new, patients.value, centre, sd.value)),
            mo.md(
                f"""
                Raw rate **{100 * _new.raw:.0f} %**; the model's estimate **{100 * _new.mean:.1f}
                %** (95 % interval {100 * _new.lower:.0f} to {100 * _new.upper:.0f} %). The
                probability that its rate is above the typical hospital's is
                **{_new.above_typical:.2f}**.

                A hospital of this size, drawn at random, sees {_n} deaths or more with
                probability **{100 * _chance:.2g} %**. Among 50 such hospitals at least one does
                with probability **{100 * _some:.2g} %**. {_verdict}

                **Why it shrinks.** Few patients: the estimate leans on what hospitals are like.
                Many patients: it leans on the hospital's own count. A small sd says that
                hospitals are alike, so it takes more patients to move the estimate. In the
                picture the grey funnel holds 95 % of the raw rates of hospitals *that do not
                differ at all*: at the left end, far rates are what chance does.
                """
            ),
        ]
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## 2. What does a design effect cost?

        We want the death rate over all hospitals, from 1,000 patients. Patients of one hospital
        are alike, so the second patient of a hospital tells less than the first of another.
        """
    )


@app.cell(hide_code=True)
def _(mo, panels):
    mo.output.append(panels[2])


@app.cell(hide_code=True)
def _(centre, hospitals, mo, np, precision_picture, sd, size):
    _icc = hospitals.response_icc(centre, sd.value)
    _effect = hospitals.design_effect(size.value, _icc)
    mo.vstack(
        [
            mo.Html(precision_picture(size.value, _icc)),
            mo.md(
                f"""
                **Intraclass correlation (ICC)**, of two patients of one hospital: **{_icc:.3f}**
                for death itself, {hospitals.latent_icc(sd.value):.3f} on the scale of log odds,
                V / (V + π²/3). The first is the one that counts here.

                **Design effect** 1 + ({size.value} − 1) × {_icc:.3f} = **{_effect:.2f}**: 1,000
                patients are worth **{1000 / _effect:,.0f}** independent ones. An interval that
                forgets the hospitals is **{np.sqrt(_effect):.2f} times** too narrow. Even a
                small ICC costs much when hospitals are large: it is multiplied by the size. More
                hospitals help; more patients of the same ones soon do not.
                """
            ),
        ]
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## 3. Why are there two odds ratios?

        A risk factor multiplies the odds of death by the same number *in every hospital*. Then
        compare all patients who have it with all who do not, whichever hospital they are in.
        """
    )


@app.cell(hide_code=True)
def _(mo, panels):
    mo.output.append(panels[3])


@app.cell(hide_code=True)
def _(centre, hospitals, mo, np, odds_picture, ratio, sd):
    _over_all = hospitals.population_odds_ratio(ratio.value, centre, sd.value)
    _before = hospitals.population_rate(centre, sd.value)
    _after = hospitals.population_rate(centre + float(np.log(ratio.value)), sd.value)
    mo.vstack(
        [
            mo.Html(odds_picture(ratio.value, centre, sd.value)),
            mo.md(
                f"""
                Subject-specific odds ratio **{ratio.value:.2f}**, the same in every hospital.
                Population-averaged odds ratio **{_over_all:.2f}**: over all hospitals {
                    100 * _before:.1f} % die without the factor and {100 * _after:.1f} % with it.

                Neither is wrong and nothing is confounded. **The average of S-shaped curves is
                flatter than each of them**, and the more the curves are spread the flatter it
                is. At a between-hospital sd of 0 the two agree. A patient in a hospital asks the
                first question, a policymaker the second; a report says which it answers.
                """
            ),
        ]
    )


if __name__ == "__main__":
    app.run()
