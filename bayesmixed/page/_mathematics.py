"""A model as MathML, which browsers draw without scripts or fonts from elsewhere."""

from __future__ import annotations

from markupsafe import Markup, escape

from bayesmixed.design import Design
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign
from bayesmixed.structure import Structure

# More coefficients than this stand as a product of vectors.
_MOST_TERMS = 5
_MOST_LETTERS = 64
_GREEK = dict(zip(("mu", "sigma", "nu", "alpha", "kappa", "phi"), "μσνακφ", strict=True))


def _element(tag: str, *inner: str | Markup, **attributes: str) -> Markup:
    given = "".join(f' {k}="{escape(v)}"' for k, v in attributes.items())
    return Markup(f"<{tag}{given}>") + Markup("").join(map(escape, inner)) + Markup(f"</{tag}>")


def _i(name: str) -> Markup:
    return _element("mi", _GREEK.get(name, name))


def _o(sign: str) -> Markup:
    # Browsers give no space to a tilde.
    space = {"lspace": "0.28em", "rspace": "0.28em"} if sign == "~" else {}
    # Brackets as high as the line, also about letters with an index.
    space |= {"stretchy": "false"} if sign in "()" else {}
    return _element("mo", sign, **space)


def _text(words: str) -> Markup:
    return _element("mtext", words)


def _below(base: Markup, *index: Markup) -> Markup:
    return _element("msub", base, _element("mrow", *index))


def _call(name: str, *arguments: Markup) -> Markup:
    inner: list[Markup] = []
    for argument in arguments:
        inner += [_o(","), argument] if inner else [argument]
    return _element("mrow", _text(name), _o("("), *inner, _o(")"))


def formulas(design: Design) -> tuple[Markup, ...]:
    """The outcome's distribution, its predictors, and the effects of groups."""
    first, *others = design.family.parameters
    of_row = _below(_i("y"), _i("i"))
    parameters = [
        _below(_i(p.name), _i("i")) if p is first else _i(p.name) for p in (first, *others)
    ]
    name = design.family.name.replace("_", " ")
    lines = [_element("mrow", of_row, _o("~"), _call(name, *parameters))]
    categorical = design.family.is_categorical
    if categorical:
        lines = _cumulative(design)
    for parameter, predictor in design.predictors.items():
        latent = categorical and parameter == first.name
        mean = _below(_i("η" if latent else parameter), _i("i"))
        link = "identity" if latent else design.links[parameter].name
        left = mean if link == "identity" else _call(link, mean)
        lines.append(_element("mrow", left, _o("="), *_predictor(predictor)))
        lines += [_effects(random) for random in predictor.random]
    spec = design.spec
    for name, given in {"": spec.residual, **spec.covariances}.items():
        if isinstance(given, Structure):
            what = f"correlations K of {name}, within one" if name else "residuals of one"
            lines.append(_element("mrow", _text(f"{what} {given.within}: {given.name}")))
    return tuple(_element("math", line, display="block") for line in lines)


def _cumulative(design: Design) -> list[Markup]:
    """Ordered categories: cut-points on the predictor's scale."""
    count = len(design.categories)
    cut = _below(_i("τ"), _i("k"))
    event = _element("mrow", _below(_i("y"), _i("i")), _o("≤"), _i("k"))
    below = _call(design.spec.link.name, _call("P", event))
    line = _element("mrow", below, _o("="), cut, _o("−"), _below(_i("η"), _i("i")))
    cuts: list[str | Markup] = []
    shown = range(1, count) if count <= _MOST_TERMS else (1, 2, 0, count - 1)
    for k in shown:
        cuts += [_o("<")] if cuts else []
        cuts.append(_below(_i("τ"), _element("mn", str(k))) if k else _o("…"))
    return [line, _element("mrow", *cuts)]


def _predictor(predictor: PredictorDesign) -> list[Markup]:
    """The sum of a predictor's parts, in lines that a page can hold."""
    lines: list[list[Markup]] = [[]]
    length = 0
    for k, (part, size) in enumerate(_parts(predictor)):
        if length + size > _MOST_LETTERS and lines[-1]:
            lines.append([])
            length = 0
        lines[-1] += [_o("+"), part] if k else [part]
        length += size
    if len(lines) == 1:
        return lines[0] or [_element("mn", "0")]
    rows = [
        _element("mtr", _element("mtd", _element("mrow", *line), style="text-align: left"))
        for line in lines
    ]
    return [_element("mtable", *rows)]


def _parts(predictor: PredictorDesign) -> list[tuple[Markup, int]]:
    """Each part of a predictor, and about how many letters wide it is."""
    found: list[tuple[Markup, int]] = []
    if len(predictor.terms) > _MOST_TERMS:
        found = [
            (_element("mrow", _element("msup", _below(_i("x"), _i("i")), _o("′")), _i("β")), 3)
        ]
    else:
        for term in predictor.terms:
            coefficient = _below(_i("β"), _text("0" if term == INTERCEPT else term))
            found.append(_times(coefficient, term))
    if predictor.offset.any():
        found.append((_text("offset"), 6))
    for random in predictor.random:
        for effect in random.effects:
            own = _below(_i("u"), _text(f"{random.name}, {effect}"))
            part, size = _times(own, effect)
            found.append((part, size + len(random.name)))
    return found


def _times(coefficient: Markup, term: str) -> tuple[Markup, int]:
    if term == INTERCEPT:
        return coefficient, 10
    return _element("mrow", coefficient, _text(f"\u00a0{term}")), 2 * len(term) + 2


def _effects(random: RandomDesign) -> Markup:
    """Effects are normal, with one variance or a covariance."""
    sd = _below(_i("σ"), _text(random.name))
    if random.size == 1:
        spread = _element("msup", sd, _element("mn", "2"))
    elif random.is_correlated:
        spread = _element("mrow", _i("D"), _i("C"), _i("D"))
    else:
        spread = _element("mrow", _i("D"), _i("D"))
    if random.between is not None:
        # All groups together: K says how they are correlated.
        spread = _element("mrow", spread, _o("⊗"), _below(_i("K"), _text(random.name)))
    return _element(
        "mrow",
        _below(_i("u"), _text(random.name)),
        _o("~"),
        _call("N", _element("mn", "0"), spread),
    )
