# make demo      the whole way on the embedded data, then the report (about five minutes on two cores)
# make test      the tests
# make test-all  the tests and the long ones
# make check     ruff, mypy and the import layers
# make notebooks the .ipynb files from their .py sources, without outputs
# Each makes the virtual environment it needs in .venv. PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n 2

.PHONY: demo test test-all check notebooks clean

demo: .venv/ready
	$(BIN)/reprkit demo

test: .venv/ready-test
	$(PYTEST) -m "not slow"

test-all: .venv/ready-test
	$(PYTEST)

check: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: .venv/ready-dev
	$(BIN)/jupytext --quiet --to ipynb --update-metadata '{"jupytext": null}' notebooks/*.py

# torch and torchvision come in one call: each release of torchvision fits one release of torch.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "reprkit needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "no venv module: on Debian, apt-get install python3-venv"; exit 2; }
	@echo "installing into .venv: minutes, and several GB with PyTorch's CUDA build; TORCH_OPTIONS='--index-url URL' takes another"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_OPTIONS) "torch>=2.11" "torchvision>=0.26"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

.venv/ready-dev: .venv/ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
