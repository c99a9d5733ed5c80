"""The command line, as a user calls it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import wraps

import pandas as pd
import pytest
from made import from_priors
from typer.testing import CliRunner

import bayesmixed as bm
from bayesmixed import cli


def test_demo_does_the_main_job(tmp_path):
    result = CliRunner().invoke(cli.app, ["demo", "--quiet", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for words in ("54 groups, 1 to 92", "Converged", "Variance components", "shrunken"):
        assert words in result.output
    assert (tmp_path / "hospitals.png").stat().st_size > 50_000
    assert "<h1>Deaths in 54 hospitals</h1>" in (tmp_path / "report.html").read_text()
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
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "Error: the column is missing\n"


QUICK = ["--draws", "100", "--tune", "100", "--chains", "2", "--seed", "1", "--quiet"]
FORMULA = "Reaction ~ Days + (1 | Subject)"


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "sleep.csv"
    result = run("datasets", "sleepstudy", "--out", path)
    assert result.exit_code == 0
    assert "licence" in result.output
    return path


def test_a_fit_is_written_and_made_again(table, tmp_path):
    """From a table, and from the model file beside it: the same draws to the bit."""
    out = tmp_path / "one"
    result = run(
        "fit", table, FORMULA, "--prior", "sigma=HalfNormal(sigma=50)", "--out", out, *QUICK
    )
    # So few draws are not called converged; all is written none the less.
    assert result.exit_code == 3, result.output
    assert "effective draws" in result.stderr
    summary = pd.read_csv(out / "summary.csv", index_col=0)
    assert "beta[Days]" in summary.index
    said = tomllib.loads((out / "model.toml").read_text())
    assert said["priors"]["sigma"] == {"distribution": "HalfNormal", "sigma": 50}
    assert said["sampling"] == {"draws": 100, "tune": 100, "chains": 2, "seed": 1}
    again = run("fit", out / "model.toml", "--out", tmp_path / "two", "--quiet")
    assert again.exit_code == result.exit_code
    one, two = (bm.load(tmp_path / n / "fit.nc").posterior for n in ("one", "two"))
    assert one.identical(two)
    # Without a seed one is drawn and written, before anything is sampled.
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused = run("fit", table, FORMULA, "--out", blocked)
    assert isinstance(refused.exception, bm.BayesmixedError)
    unseeded = run("fit", table, FORMULA, "--out", tmp_path / "three", *QUICK[:6], "--quiet")
    assert unseeded.exit_code in (0, 3)
    assert tomllib.loads((tmp_path / "three" / "model.toml").read_text())["sampling"]["seed"] >= 0
    page = run("report", out / "fit.nc", "--out", tmp_path / "page.html", "--title", "Sleep")
    assert page.exit_code == 0
    assert "<h1>Sleep</h1>" in (tmp_path / "page.html").read_text()


def test_a_model_file_with_everything(tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(
        """
dataset = "orthodont"
formula = "distance ~ age * Sex"
center = false

[hierarchy]
Subject = "1"

[priors]
"beta[age]" = {distribution = "Normal", mu = 0, sigma = 2}

[residual]
structure = "AR1"
time = "age"
within = "Subject"

[sampling]
draws = 500
"""
    )
    result = run("check", path)
    assert result.exit_code == 0, result.output
    for words in ("AR1", "Subject: 27 groups", "integrated out: Subject", "Normal(mu=0, sigma=2)"):
        assert words in result.output


def test_parquet_is_read(table, tmp_path):
    pd.read_csv(table).to_parquet(tmp_path / "sleep.parquet")
    assert "180 rows" in run("check", tmp_path / "sleep.parquet", FORMULA).output


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sleep.tsv", {"sep": "\t"}),
        ("sleep.csv.gz", {}),
        ("bom.csv", {"encoding": "utf-8-sig"}),
        ("windows.csv", {"lineterminator": "\r\n"}),
    ],
)
def test_text_is_read_however_it_is_packed(name, how, table, tmp_path):
    pd.read_csv(table).to_csv(tmp_path / name, index=False, **how)
    assert "180 rows" in run("check", tmp_path / name, FORMULA).output


def test_a_folder_that_cannot_be_made_is_named(monkeypatch, capsys):
    def fail() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/nowhere/x")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "Error: /nowhere/x: No such file or directory.\n"


def test_correlated_groups_in_a_model_file(tmp_path):
    (tmp_path / "model.toml").write_text(
        'dataset = "orthodont"\nformula = "distance ~ age + (1 | Subject) + (1 | Subject:age)"\n'
        '[covariances."Subject:age"]\nstructure = "AR1"\ntime = "age"\nwithin = "Subject"\n'
    )
    result = run("check", tmp_path / "model.toml")
    assert result.exit_code == 0, result.output
    assert "covariance of Subject:age: AR1" in result.output
    assert "phi_Subject:age" in result.output


def test_the_version_is_said():
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"bayesmixed {bm.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.csv", FORMULA], "no file none.csv"),
        (["check", "sleep.csv"], "needs a formula"),
        (["check", "sleep.txt", FORMULA], ".csv, .tsv and .parquet"),
        (["check", "sleep.parquet.gz", FORMULA], ".csv, .tsv and .parquet"),
        (["check", "empty.csv", FORMULA], "is empty"),
        (["fit", "sleep.csv", FORMULA, "--out", "sleep.csv"], "is a file; name a folder"),
        (["check", "sleep.csv", "Reaction ~ Dys"], "Did you mean 'Days'"),
        (["check", "sleep.csv", FORMULA, "--prior", "sigma=__import__('os')"], "write it as"),
        (["check", "bad.toml"], "Did you mean 'formula'"),
        (["check", "kind.toml"], "must be true or false"),
        (["check", "broken.toml"], "is not TOML"),
        (["report", "none.nc"], "no file none.nc"),
        (["check", "sleep.csv", FORMULA, "--link", "lg"], "Did you mean 'log'"),
        (["check", "text.csv", FORMULA], "not UTF-8"),
        (["check", "semicolons.csv", FORMULA], "sep=';', decimal=','"),
        (["check", "parameters.toml"], "sigma = 3 in [parameters] must be text"),
        (["check", "hierarchy.toml"], "Subject = 1 in [hierarchy] must be text"),
        (["check", "residual.toml"], "Did you mean 'heterogeneous'"),
        (["check", "lacking.toml"], "[residual] lacks within"),
        (["check", "bands.toml"], "bands = '2' must be a whole number"),
        (["check", "related.toml"], "must be a table with a structure"),
        (["check", "related2.toml"], "[covariances.Subject] lacks time, within"),
        (["datasets", "sleepstudies"], "Did you mean 'sleepstudy'"),
    ],
)
def test_what_cannot_be_used_is_said(arguments, message, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('data = "sleep.csv"\nformulae = "y ~ x"\n')
    (tmp_path / "kind.toml").write_text('data = "a.csv"\nformula = "y ~ x"\ncenter = "no"\n')
    (tmp_path / "broken.toml").write_text("= 1")
    (tmp_path / "text.csv").write_bytes(b"Reaction,Days,Subject\n1,\xff\xfe,3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "semicolons.csv").write_text("Reaction;Days;Subject\n1,5;2;3\n")
    start = f'data = "sleep.csv"\nformula = "{FORMULA}"\n'
    residual = '[residual]\nstructure = "AR1"\ntime = "Days"\n'
    (tmp_path / "parameters.toml").write_text(f"{start}[parameters]\nsigma = 3")
    (tmp_path / "hierarchy.toml").write_text(f"{start}[hierarchy]\nSubject = 1")
    (tmp_path / "lacking.toml").write_text(start + residual)
    residual += 'within = "Subject"\n'
    (tmp_path / "residual.toml").write_text(f"{start}{residual}heterogenous = true")
    residual = residual.replace("AR1", "Toeplitz")
    (tmp_path / "related.toml").write_text(f'{start}[covariances]\nSubject = "AR1"')
    (tmp_path / "related2.toml").write_text(f'{start}[covariances.Subject]\nstructure = "AR1"')
    (tmp_path / "bands.toml").write_text(f'{start}{residual}bands = "2"')
    result = run(*arguments)
    assert isinstance(result.exception, bm.BayesmixedError)
    assert message in str(result.exception)


def _process(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_from_a_shell():
    """Exit codes and streams of a real process; help does not wait for PyMC."""
    code = "import sys; from bayesmixed.cli import main; main()"
    done = _process(code, "check", "none.csv", "y ~ x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no file")
    assert "Traceback" not in done.stderr
    code = "import sys; sys.argv[1:] = ['--help']; import bayesmixed.cli as c\ntry: c.main()\n"
    code += "finally: sys.exit(('pymc' in sys.modules) * 9)"
    helped = _process(code)
    assert helped.returncode == 0
    assert "Exit codes" in helped.stdout


def test_what_is_written_is_there_before_sampling(table, tmp_path, monkeypatch):
    """A run that is broken off leaves what makes it again; a model file is not written over."""

    @wraps(bm.Model.fit)
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bm.Model, "fit", stopped)
    run("fit", table, FORMULA, "--link", "log", "--out", tmp_path / "run", "--quiet")
    written = tmp_path / "run" / "model.toml"
    assert tomllib.loads(written.read_text())["link"] == "log"
    before = written.read_text()
    again = run("fit", written, "--out", tmp_path / "run", "--quiet")
    assert not isinstance(again.exception, bm.BayesmixedError)
    assert written.read_text() == before
    refused = run("fit", written, "--draws", "7", "--out", tmp_path / "run")
    assert "would be written over" in str(refused.exception)


RAYLEIGH = """
from math import pi
import numpy as np
import bayesmixed as bm
from bayesmixed import backend as bk

mine = bm.Family(
    name="rayleigh",
    parameters=(bm.Parameter("mu", (bm.links.log,)),),
    loglik=lambda y, mu: bk.log(pi / 2 * y / mu**2) - pi / 4 * (y / mu) ** 2,
    mean=lambda mu: mu,
    variance=lambda mu: (4 / pi - 1) * mu**2,
    simulate=lambda rng, mu: rng.rayleigh(mu * np.sqrt(2 / pi)),
    valid=lambda y, trials: y > 0,
    support="above 0",
)
"""


def test_a_report_of_a_family_of_ones_own(tmp_path):
    space = {}
    exec(RAYLEIGH, space)  # noqa: S102
    data = pd.DataFrame({"y": [1.2, 0.4, 2.2, 0.9, 1.1, 0.3], "g": list("aabbcc")})
    saved = from_priors(bm.Model("y ~ 1 + (1 | g)", data, family=space["mine"])).save(
        tmp_path / "fit.nc"
    )
    out = tmp_path / "page.html"
    refused = run("report", saved, "--out", out)
    assert "the family 'rayleigh'" in str(refused.exception)
    assert "--own FILE.py" in str(refused.exception)
    source = tmp_path / "rayleigh.py"
    source.write_text("x = 1")
    assert "defines no Family" in str(run("report", saved, "--own", source).exception)
    source.write_text("1 / 0")
    assert "ZeroDivisionError" in str(run("report", saved, "--own", source).exception)
    source.write_text(RAYLEIGH)
    assert run("report", saved, "--own", source, "--out", out, "--unit", "g").exit_code == 0
    assert "family=rayleigh" in out.read_text()
    unknown = run("report", saved, "--own", source, "--out", out, "--unit", "h")
    assert "There is no grouping" in str(unknown.exception)


def test_every_command_explains_its_exit_codes():
    for command in ("demo", "fit", "check", "report", "datasets"):
        words = " ".join(run(command, "--help").output.split())
        assert "Exit codes: 0 done; 1 what was given cannot be used" in words
        assert ("have not converged" in words) == (command == "fit")


def test_what_is_likely_forgotten_is_said(table):
    medpar = table.parent / "medpar.csv"
    run("datasets", "medpar", "--out", medpar)
    said = run("check", medpar, "died ~ age80 + (1 | provnum)")
    assert "give --family bernoulli" in said.stderr
    given = run("check", medpar, "died ~ age80 + (1 | provnum)", "--family", "gaussian")
    assert given.exit_code == 0
    assert given.stderr == ""
    assert run("check", table, FORMULA).stderr == ""
