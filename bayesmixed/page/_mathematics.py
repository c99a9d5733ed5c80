"""A model as MathML, which browsers draw without scripts or fonts from elsewhere."""

from __future__ import annotations

from markupsafe import Markup, escape

from bayesmixed.design import Design
from bayesmixed.predictor import INTERCEPT, PredictorDesign, RandomDesign

# More coefficients than this stand as a product of vectors.
_MOST_TERMS = 5
_GREEK = dict(zip(("mu", "sigma", "nu", "alpha", "kappa", "phi"), "μσνακφ", strict=True))


def _element(tag: str, *inner: str | Markup, **attributes: str) -> Markup:
    given = "".join(f' {k}="{escape(v)}"' for k, v in attributes.items())
    return Markup(f"<{tag}{given}>") + Markup("").join(map(escape, inner)) + Markup(f"</{tag}>")


def _i(name: str) -> Markup:
    return _element("mi", _GREEK.get(name, name))


def _o(sign: str) -> Markup:
    # Browsers give no space to a tilde.
    space = {"lspace": "0.28em", "rspace": "0.28em"} if sign == "~" else {}
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
    for parameter, predictor in design.predictors.items():
        mean = _below(_i(parameter), _i("i"))
        link = design.links[parameter].name
        left = mean if link == "identity" else _call(link, mean)
        lines.append(_element("mrow", left, _o("="), *_predictor(predictor)))
        lines += [_effects(random) for random in predictor.random]
    if design.spec.residual is not None:
        words = f"residuals of one {design.spec.residual.within}: {design.spec.residual.name}"
        lines.append(_element("mrow", _text(words)))
    return tuple(_element("math", line, display="block") for line in lines)


def _predictor(predictor: PredictorDesign) -> list[Markup]:
    found: list[Markup] = []
    if len(predictor.terms) > _MOST_TERMS:
        found = [_element("msup", _below(_i("x"), _i("i")), _o("′")), _i("β")]
    else:
        for term in predictor.terms:
            coefficient = _below(_i("β"), _text("0" if term == INTERCEPT else term))
            found += [_o("+")] if found else []
            found.append(coefficient)
            found += [] if term == INTERCEPT else [_text(f"\u00a0{term}")]
    if predictor.offset.any():
        found += [_o("+"), _text("offset")]
    for random in predictor.random:
        for effect in random.effects:
            found += [_o("+")] if found else []
            found.append(_below(_i("u"), _text(f"{random.name}, {effect}")))
            found += [] if effect == INTERCEPT else [_text(f"\u00a0{effect}")]
    return found or [_element("mn", "0")]


def _effects(random: RandomDesign) -> Markup:
    """Effects are normal, with one variance or a covariance."""
    sd = _below(_i("σ"), _text(random.name))
    if random.size == 1:
        spread = _element("msup", sd, _element("mn", "2"))
    elif random.is_correlated:
        spread = _element("mrow", _i("D"), _i("C"), _i("D"))
    else:
        spread = _element("mrow", _i("D"), _i("D"))
    return _element(
        "mrow",
        _below(_i("u"), _text(random.name)),
        _o("~"),
        _call("N", _element("mn", "0"), spread),
    )
