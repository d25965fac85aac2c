# `make demo` and `make test` are all a newcomer needs: each makes .venv on first use and
# installs again only when pyproject.toml has changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test quick lint soak vm bench docs deb clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@sh tests/prerequisites.sh "$(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: pyproject.toml $(BIN)/python
	@echo "Setting up $(VENV) (first time only) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/python
	@echo "Setting up $(VENV) for development ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.run $@

# With job control, Ctrl-C goes to the demo alone: make sees it end well instead of being interrupted itself.
demo: $(VENV)/.run
	@if [ -t 0 ]; then set -m; fi; $(BIN)/fixgw demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

# For the inner loop: no socket, no device, no process.
quick: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --quick -q $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.dev
	$(BIN)/python tests/soak.py --hours $(or $(HOURS),2) $(ARGS)

vm: $(VENV)/.run
	@tests/vm/run $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

deb: $(VENV)/.run
	$(BIN)/python systemd/debian/build.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
