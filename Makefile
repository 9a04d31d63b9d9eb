# Two commands do everything: `make all` installs and runs the benchmark, `make test` installs and tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORES  ?= 8
WORKERS ?= 2

# uv reads its own settings only; hand it whatever find-links pip is configured with (a CPU wheel of torch, a mirror).
FIND_LINKS = $${PIP_FIND_LINKS:-$$($(BIN)/pip config get global.find-links 2>/dev/null || true)}

# Tests and runs as a user has them, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all smoke test programs lint audit docs tutorial report install reference release ui clean

all: $(VENV)/installed ## install if needed, then run the default preset (nothing happens when all is up to date)
	$(BIN)/snakemake --cores $(CORES) all

smoke: $(VENV)/installed ## the whole graph, tiny, in about three minutes
	$(BIN)/snakemake --cores $(CORES) all --configfile workflow/config/smoke.yaml

report: $(VENV)/installed ## self-contained HTML report of what has been run
	$(BIN)/snakemake --report results/report.html

test: $(VENV)/installed ## the whole test suite; what needs programs that are not here is skipped
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

programs: ## what some tests drive, from the distribution: a browser, TeX, Slurm (Debian and Ubuntu, as root)
	apt-get update -qq
	sed 's/#.*//' tests/system-packages.txt | xargs apt-get install -y -qq --no-install-recommends > /dev/null

lint: $(VENV)/installed ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	# One environment serves all rules (environment.yml, containers/), so that they lack one each is no fault.
	! $(BIN)/snakemake --lint 2>&1 | grep -E '^    \*|Error' | grep -v 'Specify a conda environment or container'
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/installed ## known vulnerabilities of the pinned dependencies; asks the advisories of a package index
	$(BIN)/uv tool run pip-audit --requirement constraints.txt --disable-pip --no-deps

docs: $(VENV)/installed ## this documentation as a site to read offline: docs/_build/html/index.html
	$(BIN)/sphinx-build --quiet -W --keep-going -b html docs docs/_build/html

tutorial: $(VENV)/installed ## run the tutorial and keep its outputs in it, as the site shows them
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-execute --inplace docs/tutorial.ipynb

# What of a finished run of the default preset is kept in git: tables, figures, per-image values, manifests.
NAME ?= embedded
RECORDS = find . -name per_image.csv -o -name '*manifest.json' -o -name evaluation.json -o -name history.csv -o -name scores.json
KEPT := $(CURDIR)/results/reference/$(NAME)
reference: ## copy the record of a finished run into results/reference/$(NAME)
	rm -rf $(KEPT)
	mkdir -p $(KEPT)
	cp -r results/tables/embedded $(KEPT)/tables
	cp -r results/figures/embedded $(KEPT)/figures
	find $(KEPT)/figures -name '*.pdf' -delete # drawn again from the same values, to the same bytes
	find $(KEPT)/figures -name gates.png -not -path '*/modules/*' -delete # the same network's in every study
	find $(KEPT)/figures -name panels.png -not -path '*/modules/*' -not -path '*/controls/*' -delete
	cp data/embedded/depth_model/scores.json $(KEPT)/depth_scores.json
	cp data/embedded/depth/monodepth2/preview.png $(KEPT)/depth_preview.png
	cd results/runs/embedded && $(RECORDS) | tar -cf - -T - | tar -xf - -C $(KEPT)
	mkdir $(KEPT)/systems $(KEPT)/defocus_maps
	cd results/systems/embedded && $(RECORDS) | tar -cf - -T - | tar -xf - -C $(KEPT)/systems
	cd results/defocus_maps/embedded && $(RECORDS) | tar -cf - -T - | tar -xf - -C $(KEPT)/defocus_maps

release: $(VENV)/installed ## train the networks that the package carries, and take them in
	$(BIN)/snakemake --cores $(CORES) release --configfile workflow/config/release.yaml
	$(BIN)/ddnet release

ui: $(VENV)/installed ## browse the runs in MLflow
	$(BIN)/python -m ddnet.report.mlflow_move
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///results/mlflow.db --workers 1

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q ddnet baselines # a run's jobs, an interpreter each, only read what is compiled
	touch $@

clean: ## delete everything made at run time, keeping results/paper and results/reference
	rm -rf data logs results/runs results/systems results/defocus_maps results/complexity results/tables results/figures results/report results/report.html results/mlflow results/mlflow.db results/mlartifacts
