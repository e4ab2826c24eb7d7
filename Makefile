PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PROCESSES ?= auto

.PHONY: demo test lint docs clean

demo: $(INSTALLED)  ## install, then the demo sweep on the embedded model and benchmark
	$(BIN)/prunesweep sweep demo

test: $(INSTALLED)  ## install, then the test suite, a file to each process (PROCESSES=1: one after the other)
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --maxprocesses 8 --dist loadfile

lint: $(INSTALLED)  ## style, types, who may import whom, spelling and length of sentences
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell README.md CONTRIBUTING.md CHANGELOG.md docs src conf sweeps
	$(BIN)/python -m prunesweep.dev.prose

docs: $(INSTALLED)  ## the documentation, into site/; links are checked, nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "python -m http.server -d site serves it; or open site/index.html"

$(INSTALLED): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'PruneSweep needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:  ## remove the installation and caches; results in outputs/ and multirun/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
