"""The set-up's files agree with each other."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bayesmixed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
]
DECLARED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["dependency-groups"]["test"],
    *PROJECT["dependency-groups"]["lint"],
    *PROJECT["dependency-groups"]["docs"],
]


def test_lock_holds_plain_pins_only():
    """No address, path or option: the lock serves with whatever registry pip is set up for."""
    assert [x for x in LOCK if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", x)] == []


@pytest.mark.parametrize("declared", DECLARED)
def test_lock_pins_every_dependency_at_an_allowed_version(declared):
    pins = {canonicalize_name(name): pin for name, pin in (x.split("==") for x in LOCK)}
    requirement = Requirement(declared)
    pin = pins.get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} is not in the lock: run `make lock`"
    assert requirement.specifier.contains(pin), f"the lock has {requirement.name} {pin}"


def test_version_is_the_same_everywhere():
    stale = "the installed version is older: run `touch pyproject.toml`, then make again"
    assert version("bayesmixed") == bayesmixed.__version__, stale
    assert f"\nversion: {bayesmixed.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert bayesmixed.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_wheel_holds_every_file_of_the_package(tmp_path):
    """Hatchling drops what .gitignore lists, and that must not reach data sets or py.typed."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("bayesmixed/")}
    present = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bayesmixed").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == present
    assert "bayesmixed/py.typed" in packed
