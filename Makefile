# Everything here sets itself up: uv comes from PyPI into .tools, the rest follows uv.lock.
SHELL := /bin/sh
PYTHON ?= python3
UV := .tools/bin/uv
TOX := $(UV) run --quiet --frozen --group tox tox run --quiet
# For those that mostly wait; what they print is shown when they end.
TOX_SIDE_BY_SIDE := $(UV) run --quiet --frozen --group tox tox run-parallel --parallel-no-spinner --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test format lint static unit functional charm virtualbox coverage benchmark pack docs clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

demo: $(UV)  ## Play MAAS: ten VMs on and off through the service; real ones with HOSTS=user@address
	@$(UV) run --quiet --frozen --no-dev --extra cli --extra service maas-virtualbox $(if $(HOSTS),--hosts '$(HOSTS)') $(if $(KEY),--key '$(KEY)') demo

test: $(UV)  ## All checks and tests; those with a real VirtualBox need root on Debian 12
	$(TOX) -e lint,static,unit
	$(TOX_SIDE_BY_SIDE) -e functional,charm
	$(TOX) -e coverage,virtualbox

format: $(UV)  ## Format the code and mend what can be mended
	$(TOX) -e format

lint: $(UV)  ## Look for faults of style
	$(TOX) -e lint

static: $(UV)  ## Check the types
	$(TOX) -e static

unit: $(UV)  ## Tests without processes and sockets
	$(TOX) -e unit

functional: $(UV)  ## Tests against the simulator and a real sshd
	$(TOX) -e functional

coverage: $(UV)  ## Lines that the unit and functional tests ran
	$(TOX) -e coverage

charm: $(UV)  ## Tests of the charm, also packed, on machines with a systemd of their own (root, Debian 12)
	$(TOX) -e charm

virtualbox: $(UV)  ## Tests against a real VirtualBox (root, Debian 12)
	$(TOX) -e virtualbox

benchmark: $(UV)  ## Ratios beside plain VBoxManage and fence_vbox (root, Debian 12)
	$(TOX) -e benchmark

pack: $(UV)  ## Pack both charms into dist/ (Debian 12, or where charmcraft is installed)
	@$(UV) run --quiet --frozen --no-dev python -m tests.charm.packing dist
	@$(UV) run --quiet --frozen --no-dev python -m tests.charm.packing --project virtualbox-host dist

docs: $(UV)  ## Write docs/reference/charm.md anew from charmcraft.yaml
	@$(UV) run --quiet --frozen --no-dev python -m tests.charm.reference

clean:  ## Remove what these targets made
	rm -rf .tools .venv .tox .coverage* .pytest_cache .ruff_cache .hypothesis dist

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet 'uv>=0.9,<1'
