# Everything a newcomer types. The set-up itself is .ci/setup, the test environments are tox.ini.

SCENARIO ?= scenarios/startup.yaml

.DEFAULT_GOAL := help
.PHONY: help run test lint clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

run: ## Set this machine up, then measure and report scenarios/startup.yaml (another: SCENARIO=file)
	@.ci/setup run
	.venv/bin/pybench run $(SCENARIO)

test: ## Set this machine up, then run every test, type check and linter through tox
	@.ci/setup test
	@rm -rf build  # setuptools would pack modules that are deleted by now
	@# Those that take one processor each run side by side; the others take two, and run whatever these have said.
	.venv/bin/tox run-parallel --parallel 2 --parallel-no-spinner -e sanitize,typing,lint,docs; \
		status=$$?; .venv/bin/tox run -e tests && exit $$status

lint: ## Run the linters and the type checker only
	@.ci/setup test
	@rm -rf build
	.venv/bin/tox run -e lint,typing

clean: ## Remove what runs left on the host and what set-up and tests made; results/ stays
	-@if [ -x .venv/bin/pybench ]; then .venv/bin/pybench clean; fi
	rm -rf .venv .tox build dist *.egg-info .ci/artefacts
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find harness runtime reports scenarios vm-images tests \( -name '*.so' -o -name __pycache__ \) -prune -exec rm -rf {} +
