"""Link functions: how a linear predictor becomes a family's parameter.

Examples
--------
>>> import bayesmixed as bm
>>> float(bm.links.logit.inverse(0.0))
0.5
>>> data = bm.datasets.load("medpar")
>>> model = bm.Model("died ~ age80 + (1 | provnum)", data, "bernoulli", link=bm.links.probit)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi, sqrt
from types import MappingProxyType

from bayesmixed import backend as bk
from bayesmixed._errors import lookup
from bayesmixed.backend import Array
from bayesmixed.pickling import by_name


@dataclass(frozen=True)
class Link:
    r"""A monotone map :math:`\eta = g(\mu)` and what the rest of the package needs of it.

    Every function is elementwise and serves NumPy arrays and PyTensor variables alike.

    Parameters
    ----------
    name : str
        The field's name for it.
    forward : callable
        :math:`g(\mu)`.
    inverse : callable
        :math:`g^{-1}(\eta)`.
    log_inverse, log1m_inverse : callable, optional
        :math:`\log g^{-1}(\eta)` and :math:`\log(1 - g^{-1}(\eta))` without cancellation in the
        tails. Where left out they are taken from `inverse`.
    latent_variance : float, optional
        Variance of the latent residual that this link implies for a yes/no outcome:
        :math:`\pi^2/3` for logit, 1 for probit, :math:`\pi^2/6` for cloglog [1]_.
    domain : tuple of float
        The open interval of valid :math:`\mu`.

    References
    ----------
    .. [1] Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14:20170213, table 2.
    """

    name: str
    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    log_inverse: Callable[[Array], Array] | None = None
    log1m_inverse: Callable[[Array], Array] | None = None
    latent_variance: float | None = None
    domain: tuple[float, float] = (-float("inf"), float("inf"))

    def log(self, eta: Array) -> Array:
        r""":math:`\log g^{-1}(\eta)`."""
        return self.log_inverse(eta) if self.log_inverse else bk.log(self.inverse(eta))

    def log1m(self, eta: Array) -> Array:
        r""":math:`\log(1 - g^{-1}(\eta))`."""
        return self.log1m_inverse(eta) if self.log1m_inverse else bk.log1p(-self.inverse(eta))


def _log_ndtr(x: Array) -> Array:
    # log Phi(x). The scaled complement keeps the lower tail finite far beyond where Phi underflows;
    # each branch sees only arguments that are safe for it, so that gradients are finite too.
    low = bk.minimum(x, -1.0)
    high = bk.maximum(x, -1.0)
    tail = bk.log(0.5 * bk.erfcx(-low / sqrt(2))) - low**2 / 2
    body = bk.log1p(-0.5 * bk.erfc(high / sqrt(2)))
    return bk.where(x < -1.0, tail, body)


identity = Link("identity", lambda mu: mu, lambda eta: eta)
log = Link("log", bk.log, bk.exp, log_inverse=lambda eta: eta, domain=(0.0, float("inf")))
logit = Link(
    "logit",
    lambda mu: bk.log(mu) - bk.log1p(-mu),
    bk.sigmoid,
    log_inverse=lambda eta: -bk.softplus(-eta),
    log1m_inverse=lambda eta: -bk.softplus(eta),
    latent_variance=pi**2 / 3,
    domain=(0.0, 1.0),
)
probit = Link(
    "probit",
    lambda mu: sqrt(2) * bk.erfinv(2 * mu - 1),
    lambda eta: 0.5 * bk.erfc(-eta / sqrt(2)),
    log_inverse=_log_ndtr,
    log1m_inverse=lambda eta: _log_ndtr(-eta),
    latent_variance=1.0,
    domain=(0.0, 1.0),
)
cloglog = Link(
    "cloglog",
    lambda mu: bk.log(-bk.log1p(-mu)),
    lambda eta: -bk.expm1(-bk.exp(eta)),
    log_inverse=lambda eta: bk.log1mexp(-bk.exp(eta)),
    log1m_inverse=lambda eta: -bk.exp(eta),
    latent_variance=pi**2 / 6,
    domain=(0.0, 1.0),
)
inverse = Link("inverse", lambda mu: 1 / mu, lambda eta: 1 / eta, domain=(0.0, float("inf")))

LINKS: Mapping[str, Link] = MappingProxyType(
    {link.name: link for link in (identity, log, logit, probit, cloglog, inverse)}
)


def get_link(link: str | Link) -> Link:
    """The link of that name; a `Link` value is returned as it is.

    Raises
    ------
    UnknownNameError
        If there is no link of that name.
    """
    return link if isinstance(link, Link) else lookup(LINKS, link, "link")


by_name(Link, LINKS, get_link)
