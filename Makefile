PYTHON ?= python3
BIN := .venv/bin
PYTHONS := $(shell sed -n 's/^m.._python = 3\.//p' settings.ini)
# Without an NVIDIA GPU, torch comes in the build for the CPU, which on Linux is a tenth of the size; TORCH_INDEX= takes the usual one
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi 2>/dev/null),,https://download.pytorch.org/whl/cpu)

# The slow tests run the lessons in a browser and the assignments in nbgrader; once is enough
NOTEBOOKS = $(if $(and $(SLOW),$(shell command -v chromium chromium-browser google-chrome 2>/dev/null)),nbs/index.ipynb nbs/library nbs/tutorials,nbs)

.PHONY: demo test check lab docs bench faults export readme outputs figures constraints clean

demo: .venv/installed       # ULMFiT on 1,000 labelled reviews -> runs/demo/report.html
	$(BIN)/ulmfit-course demo

test: .venv/installed       # tests/, then every notebook in its smallest profile; SLOW=1 for the slow tests, too, as CI has it
	ULMFIT_COURSE_PROFILE=tiny OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(if $(SLOW),,-m "not slow") tests
	for o in $(NOTEBOOKS); do ULMFIT_COURSE_PROFILE=tiny OMP_NUM_THREADS=1 $(BIN)/nbdev-test $$o --n-workers 2 --timing || exit 1; done

check: .venv/installed      # a look before a commit, in less than a minute: ruff, and whether the repository is in step with itself
	$(BIN)/ruff check ulmfit_course tests bench tools experiments
	$(BIN)/python -m pytest -q -m "not slow" tests/test_project.py tests/test_house.py tests/test_lessons.py tests/test_recipes.py tests/test_glossary.py

lab: .venv/installed        # the course in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) nbs/index.ipynb

docs: .venv/installed       # the site -> docs/_build/html/index.html
	$(BIN)/python docs/build.py

bench: .venv/installed      # side by side with fastai; QUICK=1 for a few minutes
	$(BIN)/python bench/run.py $(if $(QUICK),--quick)

faults: .venv/installed     # attack what the course promises; QUICK=1 for a few minutes
	$(BIN)/python bench/faults.py $(if $(QUICK),--quick)

export: .venv/installed     # notebooks -> ulmfit_course/
	$(BIN)/nbdev-export

readme: .venv/installed     # nbs/index.ipynb -> README.md
	$(BIN)/python tools/readme.py

outputs: .venv/installed    # run every notebook and keep what it shows
	$(BIN)/python tools/outputs.py

figures: .venv/installed    # draw again what `ulmfit-course evidence` has found: lessons 05, 06 and 08, and the front door
	$(BIN)/python tools/outputs.py nbs/05_pretraining.ipynb nbs/06_lm_finetuning.ipynb nbs/08_classifier.ipynb nbs/index.ipynb
	$(BIN)/python tools/readme.py

constraints: .venv/installed # settings.ini -> constraints.txt; what is pinned stays, UPGRADE=1 takes the newest of all but torch
	$(BIN)/pip install -q uv
	$(BIN)/python tools/constraints.py $(if $(UPGRADE),--upgrade)

clean:                      # what runs and builds have left; .venv stays
	rm -rf runs docs/_build build dist *.egg-info .pytest_cache .ruff_cache

.venv/installed: settings.ini pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; a, b = map(int, sys.argv[1:]); sys.exit(None if (3, a) <= sys.version_info[:2] <= (3, b) else "Python 3.%d to 3.%d is needed: make PYTHON=python3.12 ..." % (a, b))' $(PYTHONS)
	@echo "Installing into .venv; the first time takes some minutes"
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-deps -c constraints.txt $(addprefix --extra-index-url ,$(TORCH_INDEX)) torch torchvision
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
