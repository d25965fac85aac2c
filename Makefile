# `make demo` and `make test` are all a newcomer needs: each makes .venv on first use, which needs the network, and
# installs again only when pyproject.toml has changed.
#
# The scripts in .venv/bin hold absolute paths, so a clone that was moved or renamed has broken ones. Its Python still
# works: everything here runs as `python -m`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Tests start commands in other directories, and these find the clone by its path.
ifneq ($(wildcard $(VENV)/.dev),)
ifneq ($(filter-out $(CURDIR),$(shell cat $(VENV)/.dev)),)
$(shell rm -f $(VENV)/.dev)
endif
endif

.PHONY: demo test quick lint fuzz mutate soak campaign vm bench docs site pictures deb release clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@sh tests/prerequisites.sh "$(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: pyproject.toml $(BIN)/python
	@echo "Setting up $(VENV) (first time only) ..."
	@sh tests/install.sh $(BIN)/python --editable '.[web]'
	@echo "$(CURDIR)" > $@

$(VENV)/.dev: pyproject.toml $(BIN)/python
	@echo "Setting up $(VENV) for development ..."
	@sh tests/install.sh $(BIN)/python --editable '.[dev]'
	@echo "$(CURDIR)" | tee $(VENV)/.run > $@

# With job control, Ctrl-C goes to the demo alone: make sees it end well instead of being interrupted itself.
demo: $(VENV)/.run
	@if [ -t 0 ]; then set -m; fi; $(BIN)/python -m fixgw demo $(ARGS)

# Compiled tests are kept, whatever the environment says: compiling them takes longer than importing them. The first
# time two processes compile them, or else all four would.
test quick: export PYTHONDONTWRITEBYTECODE =
# Python 3.11 parses code for the carets of a traceback, which threads must not do at once (CPython's gh-106905): a
# gateway's thread that logged an error ended the worker that reported a failure.
test quick: export PYTHONNODEBUGRANGES = 1
test: $(VENV)/.dev
	@[ -d tests/__pycache__ ] || for part in "drivers sim net" "core plugins cli service recording fuzz"; do \
	    (cd tests && ../$(BIN)/python -m pytest --collect-only -qq $$part > /dev/null) & done; wait
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS) || { [ $$? = 1 ] && \
	    echo "Those that failed once more, alone: on a busy machine, time may have been short." && \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS); }

# For the inner loop: no socket, no device, no process.
quick: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --quick -q $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# Atheris has wheels for some Pythons on x86-64 only; where there is none, the command says so.
fuzz: $(VENV)/.dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install -qq --only-binary atheris --editable '.[fuzz]' 2>/dev/null || true
	@PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(or $(MINUTES),10) $(ARGS)

# PATH names a file here, and is where commands are found everywhere else.
ifeq ($(origin PATH),command line)
FILES := $(PATH)
override PATH := $(shell /usr/bin/getconf PATH)
endif
mutate: $(VENV)/.dev
	@$(BIN)/python -c 'import coverage, cosmic_ray' 2>/dev/null || sh tests/install.sh $(BIN)/python --editable '.[mutate]'
	@PYTHONPATH=tests $(BIN)/python -m mutation $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(FILES) $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python tests/soak.py --hours $(or $(HOURS),2) $(ARGS)

campaign: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python -m campaign --scenarios $(or $(SCENARIOS),200) $(if $(SEED),--seed $(SEED)) $(ARGS)

vm: $(VENV)/.run
	@tests/vm/run $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/.docs: pyproject.toml $(BIN)/python
	@sh tests/install.sh $(BIN)/python --editable '.[docs]'
	@echo "$(CURDIR)" > $@

site: $(VENV)/.docs
	@$(BIN)/python docs/site.py

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

pictures: $(VENV)/.dev
	$(BIN)/python tests/plugins/web/pictures.py

deb: $(VENV)/.run
	$(BIN)/python systemd/debian/build.py $(ARGS)

$(VENV)/.release: $(VENV)/.docs
	@sh tests/install.sh $(BIN)/python --editable '.[release]'
	@echo "$(CURDIR)" > $@

release: $(VENV)/.release
	@$(BIN)/python tests/release.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
