# Everything runs from a virtual environment in .venv, made at the first call.
PYTHON ?= python3
PROTOCOL ?= protocols/phantom_glu_gln_3t.yaml
RUN ?= runs/$(notdir $(basename $(PROTOCOL)))
# Where pip finds PyTorch's CPU build, if your index offers only the large CUDA one (README, "How large is it"):
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

BIN = .venv/bin
INPUTS = pyproject.toml constraints.txt
TORCH = $(shell grep '^torch==' constraints.txt)
READERS = .venv-readers

.PHONY: demo test test-slow check docs-examples wheel-test readers-test benchmark clean

demo: .venv/.installed          ## the whole chain with a simulated scan; prints where the report is
	$(BIN)/seqgen run $(PROTOCOL) -o $(RUN)

test: .venv/.installed-dev      ## the default test suite
	$(BIN)/python -m pytest -n 2

test-slow: .venv/.installed-peers ## slow oracles and comparisons with other tools
	$(BIN)/python -m pytest -n 2 -m "slow or crosstool"

check: .venv/.installed-dev     ## lint, types, spelling, import contracts
	$(BIN)/ruff check seqgen sequences tests benchmarks
	$(BIN)/ruff format --check seqgen sequences tests benchmarks
	$(BIN)/mypy
	$(BIN)/codespell seqgen sequences protocols data tests docs benchmarks *.md
	$(BIN)/lint-imports

docs-examples: .venv/.installed-dev ## run every example of README and docs
	$(BIN)/python -m pytest --doctest-glob='*.md' README.md docs

wheel-test: .venv/.installed-dev ## the wheel in an empty environment
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

readers-test: .venv/.installed-dev $(READERS)/.installed ## other people's Pulseq readers on what `seqgen build` writes
	rm -rf $(READERS)/files
	$(BIN)/python tests/readers/make_files.py $(READERS)/files
	READER_FILES=$(CURDIR)/$(READERS)/files $(READERS)/bin/python -m pytest -m readers tests/readers/test_readers.py

benchmark: .venv/.installed-peers ## speed and memory, side by side with the naive way
	$(BIN)/python -m benchmarks

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit("seqgen needs Python 3.11 or later, but this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.torch: .venv/.python constraints.txt
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	touch $@

.venv/.installed: .venv/.torch $(INPUTS)
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

.venv/.installed-dev: .venv/.torch $(INPUTS)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@ .venv/.installed

.venv/.installed-peers: .venv/.installed-dev
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,peers]'
	touch $@

$(READERS)/.installed: constraints-readers.txt
	$(PYTHON) -m venv $(READERS)
	printf '*\n' > $(READERS)/.gitignore
	$(READERS)/bin/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(shell grep '^torch==' constraints-readers.txt)
	$(READERS)/bin/python -m pip install -c constraints-readers.txt pulserver pypulseqpp pydisseqt MRzeroCore pytest
	touch $@

clean:
	rm -rf .venv $(READERS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
