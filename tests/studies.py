"""Tables of studies for meta-analyses."""

from __future__ import annotations

import numpy as np
import pandas as pd


def made(y, se, **columns) -> pd.DataFrame:
    """Studies by number, with their effects and standard errors."""
    return pd.DataFrame({"study": np.arange(len(y)), "yi": y, "sei": se, **columns})
