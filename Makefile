# `make` lists the targets. Everything runs from .venv, which the first target you call sets up.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint case-studies docs docs-quick docs-links readme-picture teach bench bench-peers lock clean

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/set-up.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Two test processes share the cores with the chains they sample: one BLAS thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

SPHINX := $(BIN)/sphinx-build --fail-on-warning --keep-going -q

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

demo: $(STAMP) ## set everything up, then do the main job on real data
	$(BIN)/bayesmixed demo

test: lint docs-links ## set everything up, then lint, check types and layers, build the docs, run the tests
	@scripts/set-up-chromium
	$(PYTEST)

test-slow: $(STAMP) ## run the tests that `make test` leaves out
	$(PYTEST) -m slow

lint: $(STAMP) ## check style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP) ## build the site into docs/_build/html, running its code and the case studies
	$(SPHINX) -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

docs-quick: $(STAMP) ## build the site without running any code: links, references, formulas
	$(SPHINX) -b html -t quick -j 2 docs docs/_build/quick

docs-links: docs-quick ## check the links inside the site, list those that leave it
	$(BIN)/python scripts/check_links.py docs/_build/quick

readme-picture: $(STAMP) ## draw docs/_static/hospitals.svg from a fit to medpar
	$(BIN)/python scripts/readme_picture.py docs/_static/hospitals.svg

teach: $(STAMP) ## open the teaching app: sliders for shrinkage, design effect, odds ratios
	$(BIN)/marimo run docs/teaching/app.py

case-studies: $(STAMP) ## run the case studies into build/case_studies
	$(BIN)/python -m case_studies

bench: $(STAMP) ## run the benchmarks against the installed peers (hours; bench-peers first)
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## install the benchmarks' peers on Debian 12 (as root)
	benchmarks/scripts/set-up-peers $(BIN)/python

# To move to newer versions: .venv/bin/pip install --upgrade NAME, make lock, make test.
lock: $(STAMP) ## write the versions installed in .venv to requirements.lock
	{ sed '/^#/!d' requirements.lock; \
	  $(PIP) freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$'; } > requirements.new
	mv requirements.new requirements.lock

clean: ## remove .venv, caches and build products
	rm -rf $(VENV) build dist docs/_build docs/api/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || { \
	  python=$$(scripts/find-python "$(PYTHON)") && \
	  echo "setting up $(VENV) with $$python" && \
	  "$$python" -m venv --clear $(VENV); }
	@$(PIP) install -q --upgrade 'pip>=25.3'
	@$(PIP) install -q -c requirements.lock --build-constraint requirements.lock \
	  -e . --group test --group lint --group docs
	@touch $@
