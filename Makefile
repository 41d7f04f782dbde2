PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lab docs bench export readme outputs figures clean

demo: .venv/installed       # ULMFiT on 1,000 labelled reviews -> runs/demo/report.html
	$(BIN)/ulmfit-course demo

test: .venv/installed       # tests/, then every notebook in its smallest profile
	ULMFIT_COURSE_PROFILE=tiny OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile tests
	ULMFIT_COURSE_PROFILE=tiny OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2 --timing

lab: .venv/installed        # the course in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) nbs/index.ipynb

docs: .venv/installed       # the site -> docs/_build/html/index.html
	$(BIN)/python docs/build.py

bench: .venv/installed      # side by side with fastai; QUICK=1 for a few minutes
	$(BIN)/python bench/run.py $(if $(QUICK),--quick)

export: .venv/installed     # notebooks -> ulmfit_course/
	$(BIN)/nbdev-export

readme: .venv/installed     # nbs/index.ipynb -> README.md
	$(BIN)/python docs/readme.py

outputs: .venv/installed    # run every notebook and keep what it shows
	$(BIN)/python docs/outputs.py

figures: .venv/installed    # draw again what `ulmfit-course evidence` has found: lessons 05, 06 and 08, and the front door
	$(BIN)/python docs/outputs.py nbs/05_pretraining.ipynb nbs/06_lm_finetuning.ipynb nbs/08_classifier.ipynb nbs/index.ipynb
	$(BIN)/python docs/readme.py

clean:                      # what runs and builds have left; .venv stays
	rm -rf runs docs/_build build dist *.egg-info .pytest_cache

.venv/installed: settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info[:2] <= (3, 13) else "Python 3.10 to 3.13 is needed: make PYTHON=python3.12 ...")'
	@echo "Installing into .venv; the first time takes some minutes"
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
