"""The question and the model in plain English, from the formula, the family and the hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from markupsafe import Markup

from bayesmixed.design import Design
from bayesmixed.known import KnownCovariance
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign
from bayesmixed.spec import ModelSpec
from bayesmixed.structure import Structure

# What a coefficient is, by the link's name.
_SCALES = {
    "identity": "Coefficients are differences in the outcome's own units.",
    "log": "Coefficients are differences of the logarithm; their exponentials are ratios of means.",
    "logit": "Coefficients are differences of the log-odds; their exponentials are odds ratios.",
}
_BORROWED = (
    "These are normal about the population's values, with spreads learnt from the data, so that a "
    "group with few rows borrows strength from the others."
)
_MOST_NAMES = 6


def question(design: Design) -> Markup:
    """What the model asks of the data, as one or two questions.

    Parameters
    ----------
    design : Design
        The model met by the data.
    """
    first = _grouped(next(iter(design.predictors.values())))
    outcome = _outcome(design)
    main, interactions = _terms(first)
    groups = _between(first)
    varying = [e for r in first.random for e in r.effects if e != INTERCEPT]
    if main:
        asked = Markup("Does {} {}").format(outcome, _verbs(main, design.table.frame))
        if first.random:
            what = "that" if varying else "its level"
            asked += Markup(", and by how much does {} differ {}").format(what, groups)
    elif first.random:
        words = "What is {} on average, and by how much does it differ {}"
        if design.sampling_sd is not None:
            # A meta-analysis is asked for the next study as well.
            words = words.replace(", and", ",") + ", and what will another one find"
        asked = Markup(words).format(outcome, groups)
    else:
        asked = Markup("What is {} on average").format(outcome)
    found = [asked + "?"]
    found += [
        Markup("Does the difference that {} makes depend on {}?").format(
            _column(factors[0]), _listed(list(map(_column, factors[1:])), "and")
        )
        for factors in interactions[:_MOST_NAMES]
    ]
    return Markup(" ").join(found)


def statement(design: Design) -> tuple[Markup, ...]:
    """How the model answers: distribution, effects of groups, further parts; a sentence each."""
    spec = design.spec
    name = _column(spec.response)
    words = spec.family.name.replace("_", " ")
    of = Markup(" out of {}").format(_column(spec.trials)) if spec.trials else ""
    found = [
        Markup("{}{} is modelled as {} with the {} link.").format(
            name, of, _named(words), spec.link.name
        )
    ]
    if design.categories:
        every = Markup(" &lt; ").join(_column(name) for name in design.categories)
        found.append(
            Markup(
                "The categories, in order, are {}; the cut-points <i>τ</i> between them are "
                "<code>thresholds</code>, and a positive coefficient moves towards the last one."
            ).format(every)
        )
    scale = _SCALES.get(spec.link.name)
    found += [Markup(scale)] if scale else []
    first, *others = design.predictors.items()
    groups = _grouped(first[1]).random
    found += [_varying(random) for random in groups]
    if groups:
        found.append(Markup(_BORROWED))
    found += [_related(n, c) for n, c in spec.covariances.items() if c is not spec.process]
    found += [_offset(first[1])] if first[1].offsets else []
    found += [_modelled(parameter, predictor) for parameter, predictor in others]
    if spec.sampling_sd:
        found.append(
            Markup("The standard error of each outcome is taken as known, from {}.").format(
                _column(spec.sampling_sd)
            )
        )
    found += _correlated(spec)
    return tuple(found)


def _correlated(spec: ModelSpec) -> list[Markup]:
    """Residuals of one patient, or the process that stands for them."""
    text = "Residuals of one {} are correlated over {}: {}{}."
    structure = spec.residual
    if structure is None:
        if spec.process is None:
            return []
        text = (
            "A process of each {} over {} is added on the predictor's scale, with a value for "
            "each row's time, <code>u_process</code>, correlated as {}{}."
        )
        structure = spec.process
    spread = ", with a standard deviation for each" if structure.heterogeneous else ""
    over = _listed(list(map(_column, structure.columns)), "and")
    return [Markup(text).format(_column(structure.within), over, structure.name, spread)]


def _related(group: str, covariance: Structure | KnownCovariance) -> Markup:
    """Groups that are not independent of each other."""
    if not isinstance(covariance, Structure):
        text = "What varies between groups of {} is correlated as a known matrix says."
        return Markup(text).format(_column(group))
    over = _listed(list(map(_column, covariance.columns)), "and")
    return Markup(
        "What varies between groups of {} is correlated over {} within one {}: {}."
    ).format(_column(group), over, _column(covariance.within), covariance.name)


def _grouped(predictor: PredictorDesign) -> PredictorDesign:
    """A predictor without the process, which is no grouping that was asked for."""
    asked = tuple(r for r in predictor.random if not r.groups.grouping.is_process)
    return replace(predictor, random=asked)


def _outcome(design: Design) -> Markup:
    """What a predictor is about: a mean, a probability, or a category."""
    name = _column(design.spec.response)
    if design.family.is_categorical:
        return Markup("the category of {}").format(name)
    if design.spec.link.domain == (0.0, 1.0):
        event = design.family.has_trials or bool(np.isin(design.y, (0, 1)).all())
        return Markup("the probability of {}" if event else "the mean of {}").format(name)
    if design.spec.link.name != "identity":
        return Markup("the expected {}").format(name)
    return name


def _terms(predictor: PredictorDesign) -> tuple[list[str], list[list[str]]]:
    """Main effects, and the factors of each interaction."""
    terms = [[str(f) for f in term.factors] for term in predictor.encoder.terms if term.degree]
    several = [factors for factors in terms if len(factors) > 1]
    main = [factors[0] for factors in terms if len(factors) == 1]
    # What is only there inside an interaction is asked for too.
    main += [f for factors in several for f in factors if f not in main]
    return list(dict.fromkeys(main)), several


def _verbs(names: Sequence[str], frame: pd.DataFrame) -> Markup:
    """Numbers: "change with"; categories: "differ by"."""
    kinds: dict[str, list[Markup]] = {"change with": [], "differ by": []}
    for name in names:
        plain = name.removeprefix("factor(").removeprefix("C(").removesuffix(")")
        column = plain if name.startswith(("factor(", "C(")) else name
        number = column not in frame or pd.api.types.is_numeric_dtype(frame[column])
        numeric = number and column == name
        kinds["change with" if numeric else "differ by"].append(_column(column))
    said = [
        Markup("{} {}").format(verb, _listed(found, "and" if verb == "change with" else "or"))
        for verb, found in kinds.items()
        if found
    ]
    return Markup(", or ").join(said)


def _between(predictor: PredictorDesign) -> Markup:
    every = [
        Markup("from one {} to another").format(_column(random.name)) for random in predictor.random
    ]
    return _listed(every, "and")


def _varying(random: RandomDesign) -> Markup:
    """What differs between the groups of a grouping."""
    slopes = [e for e in random.effects if e != INTERCEPT]
    own = ["a level"] if INTERCEPT in random.effects else []
    own += [Markup("an effect of {}").format(_column(effect)) for effect in slopes[:_MOST_NAMES]]
    own += ["further effects"] if len(slopes) > _MOST_NAMES else []
    related = ""
    if random.size > 1:
        related = ", correlated with each other" if random.is_correlated else ", independently"
    return Markup("Each {} has {} of its own{}.").format(
        _column(random.name), _listed(own, "and"), related
    )


def _offset(predictor: PredictorDesign) -> Markup:
    names = _listed([_column(name) for name in predictor.offsets], "and")
    return Markup("{} enters as an offset, with the coefficient 1.").format(names)


def _modelled(parameter: str, predictor: PredictorDesign) -> Markup:
    main, _ = _terms(predictor)
    parts = [
        Markup("changes with {}").format(_listed(list(map(_column, main)), "and"))
        if main
        else None,
        Markup("differs {}").format(_between(predictor)) if predictor.random else None,
    ]
    said = Markup(" and ").join(p for p in parts if p) or Markup("has a predictor of its own")
    return Markup("The parameter <i>{}</i> {} as well.").format(parameter, said)


def _named(words: str) -> Markup:
    article = "an" if words[0] in "aeiou" else "a"
    return Markup("{} <strong>{}</strong> outcome").format(article, words)


def _column(name: object) -> Markup:
    return Markup("<code>{}</code>").format(name)


def _listed(names: Sequence[str], word: str) -> Markup:
    """Names in a sentence, the first few of them."""
    every = list(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        every.append(f"{len(names) - _MOST_NAMES} more")
    if len(every) < 2:
        return Markup("").join(every)
    return Markup("{} {} {}").format(Markup(", ").join(every[:-1]), word, every[-1])
