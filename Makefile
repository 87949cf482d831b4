# Every target that needs Python builds the virtual environment first, with uv where it works and with venv + pip otherwise.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=
PAGE ?=
RUN ?= pretrained:broad

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help train test test-slow results scoreboard bench lint constraints clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: ARGS='STEPS=200' is passed on to the command; PYTHON=python3.12 VENV=.venv312 choose interpreter and environment; JOBS=1 tests in one process."

train: $(INSTALLED)  ## meta-train the quickstart recipe and show how it compares
	$(BIN)/vsml train recipes/quickstart.gin --run_dir runs/quickstart $(ARGS)

test: $(INSTALLED)  ## run the tests, without those that learn for minutes
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --max-worker-restart 0 $(ARGS)

test-slow: $(INSTALLED)  ## run the tests that learn for minutes
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=3600 $(ARGS)

results: $(INSTALLED)  ## make the figures and tables of docs/results, PAGE=cloning those of one page; goes on where it was stopped
	$(BIN)/python docs/results/make.py $(PAGE) $(ARGS)

scoreboard: $(INSTALLED)  ## score a learned algorithm, RUN=pretrained:broad or a run, beside all rivals; takes an hour
	$(BIN)/vsml eval $(RUN) evaluators/scoreboard.gin $(ARGS)

bench: $(INSTALLED)  ## measure meta-steps beside a plain twin and the machine's ceilings; takes minutes and a quiet machine
	$(BIN)/python benchmarks/run.py $(ARGS)

lint: $(INSTALLED)  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

constraints:  ## pin the newest versions that resolve for every supported Python (needs uv)
	@{ echo "# Pinned versions for every supported Python; 'make constraints' renews them."; \
	uv pip compile --quiet --universal --upgrade --no-emit-index-url --no-annotate --no-header --python-version 3.11 \
		--all-extras pyproject.toml; } > constraints.txt.new && mv constraints.txt.new constraints.txt

clean:  ## remove the virtual environment
	rm -rf $(VENV)

# The stamp is written last, so that an interrupted installation is done again.
$(INSTALLED): pyproject.toml constraints.txt
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2], int(sys.version_info >= (3, 11)))' 2>/dev/null); \
	case "$$version" in \
	*" 1") ;; \
	"") echo "error: '$(PYTHON)' does not run: choose Python 3.11 or newer, as with make PYTHON=python3.12" >&2; exit 2 ;; \
	*) echo "error: '$(PYTHON)' is Python $${version% *}, vsml needs 3.11 or newer: choose one, as with make PYTHON=python3.12" >&2; exit 2 ;; \
	esac
	@echo "Installing into $(VENV) (about a minute, once)"
	@set -e; if uv --version >/dev/null 2>&1; then \
		uv venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
		$(PYTHON) -m venv --clear $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@
