# make report: set up and run the chain on Complete Journey.  make test: set up and pass the tests.
# make lab: open JupyterLab on a start page.
# A stamp remembers each set-up: nothing is installed again, and no network is needed, until pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: report test lab clean

report: $(VENV)/.core
	$(BIN)/segkit run $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 $(ARGS)

lab: $(VENV)/.core
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/start.ipynb

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13)' 2>/dev/null \
	  || { echo "segkit needs Python 3.11 or 3.12, and '$(PYTHON)' is another or is missing. Try: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV): a minute or two, once."
	$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) for the tests: a few minutes, once."
	$(PIP) -e '.[dev,spark,postgres,llm,mcp]'
	@touch $@ $(VENV)/.core
