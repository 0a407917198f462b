# Every way to use this checkout. `make help` lists them; each makes .venv and installs what it needs by itself.
# ARGS="..." is passed on: make demo ARGS="--seconds 20", make test ARGS="-k budget", make bench ARGS="--pairs 3".

PY := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test prove bench bench-full bench-chart lint check

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-11s %s\n' "$$name" "$$what"; done

demo:  ## a whole mesh on this machine, with traffic; Ctrl-C stops it (ARGS="--seconds 20" ends by itself)
	@.ci/venv control-plane
	@$(PY) -m demo $(ARGS)

test:  ## the test suite
	@.ci/venv test
	@$(PY) -m pytest -q $(ARGS)

prove:  ## the long runs (fuzzing, load), one line each into bench/proof.json; can be stopped and goes on later
	@.ci/venv test
	@$(PY) -m bench.prove $(ARGS)

bench:  ## CPU per request and memory, side by side with Envoy; at most five minutes (ARGS="--compare A B": two commits)
	@.ci/venv bench
	@$(PY) -m bench $(ARGS)

bench-full:  ## all rows: also latency, mutual TLS, TCP, HTTP/2; over an hour, can be stopped and goes on later
	@.ci/venv bench
	@$(PY) -m bench --full $(ARGS)

bench-chart:  ## draw docs/bench.svg from the newest bench-full
	@.ci/venv bench
	@$(PY) -m bench.chart $(ARGS)

lint:  ## ruff, mypy, import-linter
	@.ci/venv test
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet . || { echo "ruff format: the files that differ are listed by: $(PY) -m ruff format --check ." >&2; exit 1; }
	@$(PY) -m mypy --no-error-summary
	@$(PY) .venv/bin/lint-imports --no-logo > .venv/layers.log 2>&1 || { cat .venv/layers.log; exit 1; }
	@echo "lint: ok"

check: lint test  ## lint, then test
