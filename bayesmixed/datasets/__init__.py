"""Small real data sets with their sources, and simulators for what none of them covers.

Examples
--------
>>> import bayesmixed as bm
>>> data = bm.datasets.load("sleepstudy")
>>> data.columns.to_list()
['Reaction', 'Days', 'Subject']
>>> print(bm.datasets.describe("bcg"))  # doctest: +ELLIPSIS
bcg: BCG vaccine against tuberculosis: 13 trials
...
"""

from bayesmixed.datasets.catalogue import describe, list, load
from bayesmixed.datasets.dataset import Dataset
from bayesmixed.datasets.simulate import (
    simulate_blood_pressure,
    simulate_cells,
    simulate_readmissions,
)
from bayesmixed.datasets.simulate_trial import simulate_trial

__all__ = [
    "Dataset",
    "describe",
    "list",
    "load",
    "simulate_blood_pressure",
    "simulate_cells",
    "simulate_readmissions",
    "simulate_trial",
]
