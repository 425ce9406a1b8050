# Everything here goes through .venv, which scripts/environment.sh makes on first use and leaves alone afterwards.
.DEFAULT_GOAL := help
.PHONY: help environment pages-environment demo test test-pages test-oldest docs lint clean

PYTHON_HERE := .venv/bin/python
OLDEST_PYTHON = $(or $(PYTHON),python3.11)
ARGS ?=

help:
	@echo "make demo     train a small CCNet with and without attention and compare; needs only Python 3.11 or newer"
	@echo "make test     run the tests        (make test ARGS='tests/test_layering.py -q', ARGS='-m slow')"
	@echo "make test-pages   the tests of the app and the site, which have an environment of their own"
	@echo "make test-oldest  the tests on the oldest Python and packages that pyproject.toml allows"
	@echo "make docs     the documentation as a site in build/site, links checked"
	@echo "make lint     ruff check, ruff format --check, mypy"
	@echo "make clean    remove .venv (if make made it), caches and build outputs; runs/ stays"
	@echo
	@echo "PYTHON=/path/to/python chooses the Python. Packages are shared between checkouts; to remove them:"
	@echo "    rm -r \"$${XDG_CACHE_HOME:-$$HOME/.cache}/crisscross-seg\""

environment:
	@sh scripts/environment.sh

# With an older Pillow, which gradio needs.
pages-environment: environment
	@$(PYTHON_HERE) -m scripts.pages_environment

demo: environment
	.venv/bin/crisscross demo $(ARGS)

# The tests of a file stay together: they share what they made. Without ARGS all of them run, in several processes.
test: environment
	$(PYTHON_HERE) -m pytest $(or $(ARGS),-n auto --maxprocesses 4 --dist loadfile)

test-pages: pages-environment
	.venv-pages/bin/python -m pytest $(or $(ARGS),tests/app tests/pages)

# On the lower bounds of pyproject.toml.
test-oldest:
	$(OLDEST_PYTHON) -m scripts.oldest $(ARGS)

# A broken link or anchor, a page outside the navigation or a request to another host is an error.
docs: pages-environment
	NO_MKDOCS_2_WARNING=1 .venv-pages/bin/python -m mkdocs build --quiet
	@echo "build/site/index.html; with search: $(PYTHON_HERE) -m http.server --bind 127.0.0.1 --directory build/site"

lint: environment
	$(PYTHON_HERE) -m ruff check .
	$(PYTHON_HERE) -m ruff format --check .
	$(PYTHON_HERE) -m mypy

clean:
	@if grep -qs '"made by": "make"' .venv/crisscross-seg.json; then rm -rf .venv; fi
	rm -rf .venv-oldest .venv-pages build dist .pytest_cache .mypy_cache .ruff_cache
	find src tests scripts benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
