# isthmus: everything a person or CI runs. `make demo` and `make test` need nothing but root, python3 and Debian's packages.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-versions test-upgrade lint unit cluster lab-tests lab-up lab-down bench check help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): setup.cfg constraints.txt
	@bash scripts/setup $(PYTHON) $(VENV)
	@touch $@

demo: $(STAMP) ## two clusters, isthmus between them, an application across
	@$(RUN) -m deploy.demo

test: $(STAMP) ## lint, types, layering, unit, cluster and lab tests
	@$(RUN) -m deploy.lab ensure
	@bash scripts/test

lint: $(STAMP) ## lint, types and layering
	@bash scripts/lint

unit: $(STAMP) ## unit tests only
	@$(VENV)/bin/pytest -q tests/unit

cluster: $(STAMP) ## tests with real API servers
	@$(VENV)/bin/pytest -q tests/cluster

lab-tests: $(STAMP) ## tests with real kubelets and networks
	@$(VENV)/bin/pytest -q tests/lab

lab-up: $(STAMP) ## start the lab's clusters (LAB_NAME, LAB_PROVIDERS, LAB_NODES, LAB_KWOK, LAB_FLAT, LAB_ALIKE, LAB_KUBERNETES)
	@$(RUN) -m deploy.lab up

lab-down: $(STAMP) ## stop the demo and remove all that the lab made
	@$(RUN) -m deploy.demo --stop
	@$(RUN) -m deploy.lab down

test-versions: $(STAMP) ## a smaller set on Kubernetes 1.33 and 1.37 and between them (builds both, some 15 minutes)
	@$(VENV)/bin/pytest -q tests/versions

test-upgrade: $(STAMP) ## exchange an earlier version for this one and back, under load (FROM=commit; else the last tag or commit)
	@$(RUN) -m deploy.lab ensure
	@ISTHMUS_UPGRADE_FROM=$(FROM) $(VENV)/bin/pytest -q tests/cluster/faults/test_upgrade.py

bench: $(STAMP) ## figures, as ratios to direct creation at the provider
	@$(RUN) -m tests.bench
