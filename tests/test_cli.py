"""The command line, as a user calls it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import bayesmixed as bm
from bayesmixed import cli


def test_demo_does_the_main_job(tmp_path):
    result = CliRunner().invoke(cli.app, ["demo", "--quiet", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for words in ("54 groups, 1 to 92", "Converged", "Variance components", "shrunken"):
        assert words in result.output
    assert (tmp_path / "hospitals.png").stat().st_size > 50_000
    fit = bm.load(tmp_path / "medpar.nc")
    assert fit.converged
    assert len(fit.posterior["provnum"]) == 54


def test_datasets_are_listed():
    result = CliRunner().invoke(cli.app, ["datasets"])
    assert result.exit_code == 0
    assert all(name in result.output for name in bm.datasets.list()["name"])


def test_errors_come_without_a_traceback(monkeypatch, capsys):
    def fail() -> None:
        raise bm.BayesmixedError("the column is missing")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "Error: the column is missing\n"
