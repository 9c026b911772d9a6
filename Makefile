# make run    environment, the whole pipeline on the bundled books, then the server with its page
# make test   environment, then the tests
# make drill  environment, then the tests that lose nodes and stop jobs on whole clusters (minutes each)
# make lint   environment, then format, lint, types and layers
# Everything may be repeated: what is done is skipped.

PYTHON ?= python3
PORT ?= 8000
RECIPE ?= ray_jobs/recipes/goodbooks.yaml
BIN := .venv/bin
# Torch for CPUs. `make TORCH_INDEX=` takes pip's own index instead, as does a machine that does not
# reach this one; on Linux, Torch of PyPI brings CUDA, several GB more.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test drill lint clean

run: .venv/.installed
	@$(BIN)/python -m ray_jobs.pipeline --config $(RECIPE)
	@$(BIN)/python -m serve --config $(RECIPE) --set serve.port=$(PORT)

test: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not ray and not drill" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "ray and not drill"

drill: .venv/.installed-dev
	$(BIN)/python -m pytest -m drill

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wanted Python 3.11 or newer, found $$($(PYTHON) --version); try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv
	@echo "installing into .venv (about 2 GB, a few minutes the first time)"
	@test -z "$(TORCH_INDEX)" || \
		$(PIP_INSTALL) --retries 1 --timeout 15 --no-deps --index-url $(TORCH_INDEX) torch || \
		echo "no Torch from $(TORCH_INDEX): taking that of pip's own index"
	@$(PIP_INSTALL) -e '.[cpu]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	@$(PIP_INSTALL) -e '.[cpu,dev]'
	@touch $@

clean:
	rm -rf .venv runs
