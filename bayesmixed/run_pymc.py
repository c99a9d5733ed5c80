"""A run of PyMC's own sampler; apart from `run` because PyMC takes a while to load."""

from __future__ import annotations

import pymc as pm

from bayesmixed._errors import SamplingError
from bayesmixed.design import Design
from bayesmixed.names import public_names
from bayesmixed.run import Run
from bayesmixed.sample import Settings


def run_pymc(design: Design, model: pm.Model, settings: Settings) -> Run:
    """Sample a PyMC model with PyMC's own NUTS.

    Raises
    ------
    SamplingError
        If it was interrupted before a draw was kept.
    """
    names = public_names(design)
    with model:
        tree = pm.sample(
            settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            random_seed=settings.seed,
            progressbar=settings.progress,
            target_accept=settings.target_accept,
            nuts={"max_treedepth": settings.max_depth},
            nuts_sampler="pymc",
            compute_convergence_checks=False,
            var_names=names,
        )
    posterior = tree["posterior"].to_dataset()
    if not posterior.sizes.get("draw"):
        raise SamplingError("Sampling was interrupted during warm-up, before a draw was kept.")
    short = posterior.sizes["draw"] < settings.draws or posterior.sizes["chain"] < settings.chains
    return Run(posterior[names], tree["sample_stats"].to_dataset(), short)
