"""Fits of meta-analyses that are not models of rows, read from their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import xarray as xr

from bayesmixed._errors import lookup
from bayesmixed.meta._multivariate_analysis import MultivariateFit
from bayesmixed.meta._network_analysis import NetworkFit

type Restored = NetworkFit | MultivariateFit

_KINDS: Mapping[str, Callable[[xr.DataTree], Restored]] = {
    "network": NetworkFit.restored,
    "multivariate": MultivariateFit.restored,
}


def restored(tree: xr.DataTree) -> Restored:
    """The fit in a file that `NetworkFit.save` or `MultivariateFit.save` wrote."""
    return lookup(_KINDS, str(tree.attrs["kind"]), "kind of saved fit")(tree)
