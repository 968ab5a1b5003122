# Every target installs what it needs. PIP_ARGS is passed to pip, e.g. an index of CPU builds of torch.
PYTHON ?= python3
PIP_ARGS ?=
# The store that pages show: without STORE or LABS_STORE the demo's, which is filled first if it is empty.
STORE ?=
OWN = $(or $(STORE),$(LABS_STORE))
BIN = .venv/bin
STREAMLIT = --server.headless true --browser.gatherUsageStats false --client.toolbarMode viewer --server.address localhost --server.port

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/%/NAME/' | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

demo: .venv/all.done  ## run every lab's notebooks at demo size into build/demo, offline, and print the results
	$(BIN)/python -m tools.demo

iris: .venv/iris.done  ## the Iris lab alone, at demo size, into build/demo
	$(BIN)/python -m tools.demo iris

wine: .venv/wine.done .venv/ctgan.done  ## the Wine lab alone, at demo size, into build/demo
	$(BIN)/python -m tools.demo wine

whisper: .venv/whisper.done  ## the Whisper lab alone, on its nano corpus, into build/demo
	$(BIN)/python -m tools.demo whisper

ui-iris: .venv/iris.done $(if $(OWN),,build/demo/lab1_iris/store/models/iris_species)  ## the Iris page on http://localhost:7860
	LABS_STORE="$(or $(OWN),build/demo/lab1_iris/store)" $(BIN)/python lab1_iris/app/app.py

ui-iris-monitor: .venv/iris.done $(if $(OWN),,build/demo/lab1_iris/store/models/iris_species)  ## the Iris monitor on http://localhost:7861
	LABS_STORE="$(or $(OWN),build/demo/lab1_iris/store)" GRADIO_SERVER_PORT=7861 $(BIN)/python lab1_iris/monitor/app.py

ui-wine: .venv/wine.done $(if $(OWN),,build/demo/lab1_wine/store/models/wine_quality)  ## the Wine page on http://localhost:8501
	LABS_STORE="$(or $(OWN),build/demo/lab1_wine/store)" $(BIN)/streamlit run lab1_wine/app/app.py $(STREAMLIT) 8501

ui-wine-monitor: .venv/wine.done $(if $(OWN),,build/demo/lab1_wine/store/models/wine_quality)  ## the Wine monitor on http://localhost:8502
	LABS_STORE="$(or $(OWN),build/demo/lab1_wine/store)" $(BIN)/streamlit run lab1_wine/monitor/app.py $(STREAMLIT) 8502

ui-whisper: .venv/whisper.done $(if $(OWN),,build/demo/lab2_whisper/store/models/whisper_nano_pl)  ## the Whisper page on http://localhost:8503
	LABS_STORE="$(or $(OWN),build/demo/lab2_whisper/store)" $(BIN)/streamlit run lab2_whisper/app/app.py $(STREAMLIT) 8503 --client.showErrorDetails none

daily-iris: .venv/iris.done  ## add today's Iris flower, and every missed day's, to store/ and predict them
	LABS_STORE="$(or $(OWN),store)" $(BIN)/python -m lab1_iris.daily --page build/pages/iris

daily-wine: .venv/wine.done  ## add today's wine, and every missed day's, to store/ and predict them
	LABS_STORE="$(or $(OWN),store)" $(BIN)/python -m lab1_wine.daily --page build/pages/wine

copy-store: .venv/iris.done  ## copy a whole store and verify the copy: make copy-store FROM=store TO=hopsworks:labs
	$(BIN)/python -m tools.copy_store "$(FROM)" "$(TO)"

notebooks: .venv/all.done  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

# Two workers, each with one thread for arithmetic. A file stays on one worker, because its tests share
# trained stores; a worker costs about 25 CPU seconds more for imports and for stores that both train.
test: .venv/dev.done build/whisper/multilingual.tiktoken  ## run the everyday tests (under 8 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-slow: .venv/dev.done build/whisper/multilingual.tiktoken  ## run the slow tests: kills, demos, benchmarks' quick runs
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 2 --dist worksteal

rehearse: .venv/dev.done  ## try every deployment in clean environments, as far as possible without an account (half an hour)
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/pytest -m rehearse tests/rehearse

lint: .venv/dev.done  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev.done  ## run every benchmark (some hours; training alone takes one) and save the figures in benchmarks/results
	set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script; done

address:  ## after a fork, change the address in pyproject, README and notebooks: make address REPO=owner/name
	$(PYTHON) -m tools.address $(REPO)

lock: .venv/dev.done  ## write what is installed in .venv to requirements.txt; the pin of bitsandbytes stays
	($(BIN)/pip freeze --exclude bitsandbytes --exclude-editable | sed 's/+cpu//'; grep ^bitsandbytes requirements.txt) | LC_ALL=C sort -t= -fk1,1 -o requirements.txt

clean:  ## remove build/ and the environment; store/ stays
	rm -rf build .venv

build/whisper/multilingual.tiktoken: .venv/dev.done
	-$(BIN)/python -m tools.whisper_vocabulary

build/demo/lab1_iris/store/models/iris_species:
	@$(MAKE) --no-print-directory iris

build/demo/lab1_wine/store/models/wine_quality:
	@$(MAKE) --no-print-directory wine

build/demo/lab2_whisper/store/models/whisper_nano_pl:
	@$(MAKE) --no-print-directory whisper

# A Space's lab is the first word of its name. SPACE=owner/name is where to push it.
.SECONDEXPANSION:
space-%: .venv/$$(firstword $$(subst -, ,$$*)).done  ## stage a Space in build/spaces/NAME: iris, iris-monitor, wine, wine-monitor, whisper
	LABS_STORE="$(OWN)" $(BIN)/python -m tools.space stage $*

push-space-%: .venv/$$(firstword $$(subst -, ,$$*)).done  ## stage a Space, create it and upload it: make push-space-iris SPACE=owner/name
	LABS_STORE="$(OWN)" $(BIN)/python -m tools.space push $* "$(SPACE)"

deploy-modal-%: .venv/dev.done  ## check a lab's Modal app, iris, wine or whisper, and deploy it
	$(BIN)/python -m tools.deploy_modal $*

doctor: .venv/dev.done  ## list what is missing here, for every deployment
	LABS_STORE="$(OWN)" $(BIN)/python -m tools.doctor

.venv/iris.done: EXTRAS = iris,notebook
.venv/wine.done: EXTRAS = wine,notebook
.venv/whisper.done: EXTRAS = whisper,notebook
.venv/%.done: EXTRAS = $*
.venv/%.done: pyproject.toml requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11 ...')"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint requirements.txt --editable '.[$(EXTRAS)]'
	@touch $@

.PHONY: help demo iris wine whisper ui-iris ui-iris-monitor ui-wine ui-wine-monitor ui-whisper daily-iris daily-wine copy-store notebooks test test-slow rehearse doctor lint bench address lock clean
