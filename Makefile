# make run      notebooks 01 to 06 on the phantom; DATA=folder or .zip for a real collection
# make test     all tests, the notebooks included
# make encoder  train our small image encoder again
# make soak     kill the pipeline twenty times at random moments
# make coverage all tests, counting the lines and branches they reach (at least 94% of both together)
# make bench    how fast it is against PyTorch and Paddle as installed (in an environment of its own)
#
# DATA, WORK     the collection, and where everything is written
# IMAGES=phantom draw the images of DATA's reports from their MeSH terms
# RUN, QUICK=1   name of the run (RUN=original: the AI Studio settings); a small phantom and model

PYTHON ?= python3
DATA ?=
WORK ?= work
IMAGES ?=
RUN ?= lstm
QUICK ?=

BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/0[1-6]_*.ipynb))
CODE := medcap_paddle notebooks tests benchmarks  # not the notebooks of a WORK that lies beside them
COLLECTION := $(if $(IMAGES),$(WORK)/collection,$(DATA))

.PHONY: run test encoder soak coverage format bench

run: $(BIN)/ready
ifneq ($(IMAGES),)
	@test "$(IMAGES)" = phantom -a -n "$(DATA)" || { echo "IMAGES=phantom needs DATA=<folder with reports>"; exit 1; }
	$(BIN)/python -m medcap_paddle.phantom "$(COLLECTION)" --redraw "$(DATA)"
endif
	@mkdir -p "$(WORK)/notebooks"
	@set -e; for notebook in $(NOTEBOOKS); do \
		$(BIN)/papermill $$notebook "$(WORK)/notebooks/$$(basename $$notebook)" --cwd notebooks -k python3 -l python \
			-r data_dir "$(if $(COLLECTION),$(abspath $(COLLECTION)))" -r work_dir "$(abspath $(WORK))" \
			-r run "$(RUN)" -p quick $(if $(QUICK),True,False); \
	done
	@cat "$(WORK)/summary.txt"
	@echo; echo "Predictions under their radiographs: $(WORK)/runs/$(RUN)/predictions.png"
	@echo "The notebooks as they ran: $(WORK)/notebooks"

test: $(BIN)/ready
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

soak: $(BIN)/ready
	KILLS=20 $(BIN)/python -m pytest -q -s tests/test_soak.py

coverage: $(BIN)/ready
	$(BIN)/python -m pytest -q --cov --cov-report=term

encoder: $(BIN)/ready
	$(BIN)/python -m medcap_paddle.encoder

format: $(BIN)/ready
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb

bench: $(BIN)/ready benchmarks/.venv/ready
	$(BIN)/python benchmarks/bench.py benchmarks/.venv/bin/python $(if $(DATA),--data "$(DATA)")

$(BIN)/ready: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

benchmarks/.venv/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@
