# Two commands do everything on a machine that has Python (3.11 to 3.13), make and a C compiler:
#   make demo   the whole pipeline on phantom frames, on the CPU, in about a quarter of an hour
#   make test   linters, types and all tests
# Each sets up .venv when it is missing or out of date. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
INSTALLED := $(VENV)/.installed

define CHECK_PYTHON
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("This project needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is %d.%d: name another one, "
             "for example: make PYTHON=python3.12 $(or $(MAKECMDGOALS),install)" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("'$(PYTHON)' cannot make virtual environments: install its venv package "
             "(on Debian and Ubuntu: apt install python%d.%d-venv), then run make again." % sys.version_info[:2])
endef
export CHECK_PYTHON

define WRITE_LOCK
import json, pathlib, sys
report, lock = map(pathlib.Path, sys.argv[1:])
header = [line for line in lock.read_text().splitlines() if line.startswith("#")]
found = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
pins = [f"{item['name']}=={item['version']}" for item in found if item["name"] != "nnunet_fganet"]
lock.write_text("\n".join(header + sorted(pins, key=str.lower)) + "\n")
endef
export WRITE_LOCK

define MINOR_VERSION
import sys
print("%d.%d" % sys.version_info[:2])
endef
export MINOR_VERSION

.PHONY: help install demo test lint format lock clean clean-venv

help:
	@echo "make demo        phantom -> convert -> plan -> train -> predict -> scores, on the CPU"
	@echo "make test        linters, types, all tests"
	@echo "make lint        linters and types only"
	@echo "make format      let ruff format and mend what it can"
	@echo "make install     the virtual environment $(VENV) only"
	@echo "make lock        renew $(LOCK) from the newest versions that pyproject.toml allows"
	@echo "make clean       remove what demo and tests wrote"
	@echo "make clean-venv  remove the virtual environment"

install: $(INSTALLED)

# $(VENV) keeps the Python that it was made with: one that is named has to be of the same version.
.PHONY: same-python
same-python:
ifneq ($(origin PYTHON),file)
	@if [ -x $(BIN)/python ] && command -v $(PYTHON) >/dev/null; then \
		ours=$$($(BIN)/python -c "$$MINOR_VERSION"); named=$$($(PYTHON) -c "$$MINOR_VERSION"); \
		[ "$$ours" = "$$named" ] || { echo "$(VENV) has Python $$ours and '$(PYTHON)' is $$named: remove it with make clean-venv, then run make again." >&2; exit 1; }; \
	fi
endif

# The stamp holds the project's folder: an environment that was moved with it is set up anew.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): pyproject.toml nnunet_fganet.pth nnunet_fganet/__init__.py $(LOCK) | same-python
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)' here: install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@echo "Setting up $(VENV) (a few minutes and about 6 GB when it is new)"
	@if [ -e $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ]; then rm -rf $(VENV); fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --constraint $(LOCK) pip
	$(BIN)/python -m pip install --constraint $(LOCK) --build-constraint $(LOCK) --editable '.[test]'
	@echo "$(CURDIR)" > $@

# Threads that spin while they wait take the cores from nnU-Net's workers, and from other programs.
demo: export OMP_WAIT_POLICY = PASSIVE
demo: $(INSTALLED)
	$(BIN)/python -m nnunet_fganet.demo

test: export OMP_WAIT_POLICY = PASSIVE
# Two processes, for two cores. pytest comes last, so that its closing line is the last one.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Made with Python 3.11: its set of versions serves the newer ones too, not the other way round.
lock: $(INSTALLED)
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" || { echo "make lock needs a $(VENV) of Python 3.11: make clean-venv, then make PYTHON=python3.11 lock" >&2; exit 1; }
	$(BIN)/python -m pip install --dry-run --ignore-installed --quiet --report $(VENV)/closure.json '.[test]' pip
	$(BIN)/python -c "$$WRITE_LOCK" $(VENV)/closure.json $(LOCK)

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

clean-venv:
	rm -rf $(VENV)
