"""The packages that are compared, and the command that makes each of them do a task."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCRIPTS = Path(__file__).parent / "scripts"
_BAMBI = os.environ.get(
    "BAYESMIXED_BAMBI", str(Path.home() / ".cache" / "bayesmixed-benchmarks" / "bambi")
)


@dataclass(frozen=True)
class Peer:
    """A package in one of its ways of working.

    Parameters
    ----------
    name : str
        As results and the report name it.
    interpreter, script : str
        What runs a task.
    options : mapping
        What the task tells the script besides.
    """

    name: str
    interpreter: str
    script: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def command(self, folder: Path) -> list[str]:
        """The command for the task in a folder."""
        return [self.interpreter, str(_SCRIPTS / self.script), str(folder)]

    @property
    def samples(self) -> bool:
        """Whether it gives draws, rather than point estimates."""
        return "package" not in self.options


OURS = Peer("bayesmixed", sys.executable, "run_ours.py")
BAMBI = Peer("Bambi (nutpie)", f"{_BAMBI}/bin/python", "run_bambi.py", {"sampler": "nutpie"})
BAMBI_DEFAULT = Peer("Bambi (default)", f"{_BAMBI}/bin/python", "run_bambi.py", {"sampler": "pymc"})
BRMS = Peer("brms", "Rscript", "run_brms.R")
LME4 = Peer("lme4", "Rscript", "run_lme4.R", {"package": "lme4"})
GLMMTMB = Peer("glmmTMB", "Rscript", "run_lme4.R", {"package": "glmmTMB"})

PEERS = {p.name: p for p in (OURS, BAMBI, BAMBI_DEFAULT, BRMS, LME4, GLMMTMB)}
