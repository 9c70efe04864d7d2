# make run      notebooks 01 to 06 on the phantom; DATA=folder or .zip for a real collection
# make knowledge notebooks 30 to 34, which go on from what make run wrote: decoders with knowledge, and their table
# make demo     a page to try the newest run in, on this machine only; without a run the quick phantom is trained first
# make test     all tests, the notebooks included
# make encoder  train our small image encoder again, on drawings
# make soak     kill the pipeline twenty times at random moments
# make coverage all tests, counting the lines and branches they reach (at least 94% of both together)
# make real     what we read in real radiographs: figures in work/real/figures.json (DATA holds nih_cxr and tb_cxr)
# make vision   notebooks 20 to 22: classify, segment, measure; figures in work/vision/figures.json (DATA=../shared)
# make sequence notebooks 40 to 43, from a recurrent cell to burned-in text that is read; figures in work/sequence/figures.json
# make bench    how fast it is against PyTorch and Paddle as installed (in an environment of its own)
#
# DATA, WORK     the collection, and where everything is written
# IMAGES=phantom draw the images of DATA's reports from their MeSH terms or labels
# RUN            name of the run
# PRESET         settings: real, phantom, phrased, tiny or original (the AI Studio notebook's); empty: what suits the reports
# QUICK=1        a small phantom and a tiny model

PYTHON ?= python3
DATA ?=
WORK ?= work
IMAGES ?=
RUN ?= lstm
PRESET ?=
QUICK ?=
export DATA WORK IMAGES RUN PRESET

BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/0[1-6]_*.ipynb))
KNOWLEDGE := $(sort $(wildcard notebooks/3[0-4]_*.ipynb))
VISION := $(sort $(wildcard notebooks/2[0-2]_*.ipynb))
SEQUENCE := $(sort $(wildcard notebooks/4[0-3]_*.ipynb))
CODE := app.py medcap_paddle notebooks tests benchmarks  # not the notebooks of a WORK that lies beside them

.PHONY: run knowledge vision demo sequence test encoder real soak coverage format bench

# Paths may hold blanks and Chinese: they reach the shell as variables, never as words of make.
define paths
set -e; \
absolute() { case "$$1" in "" | /*) echo "$$1";; *) echo "$$PWD/$$1";; esac; }; \
work=$$(absolute "$$WORK"); data=$$(absolute "$$DATA")
endef
define execute
mkdir -p "$$work/notebooks"; \
for notebook in $(1); do \
	$(BIN)/python -m papermill $$notebook "$$work/$$notebook" --cwd notebooks -k python3 -l python \
		-r data_dir "$$data" -r work_dir "$$work" -r run "$$RUN" -r preset "$$PRESET" \
		-p quick $(if $(QUICK),True,False); \
done; \
$(BIN)/python -m medcap_paddle.runtime.timings $(1:%="$$work/%")
endef

run: $(BIN)/ready
	@$(paths); \
	if [ -n "$$IMAGES" ]; then \
		if [ "$$IMAGES" != phantom ] || [ -z "$$data" ]; then echo "IMAGES=phantom needs DATA=<reports>"; exit 1; fi; \
		$(BIN)/python -m medcap_paddle.phantom "$$work/collection" --redraw "$$data"; \
		data="$$work/collection"; \
	fi; \
	$(call execute,$(NOTEBOOKS)); \
	cat "$$work/summary.txt"; \
	echo; echo "Predictions under their radiographs: $$WORK/runs/$$RUN/predictions.png"; \
	echo "The notebooks as they ran: $$WORK/notebooks"

knowledge: $(BIN)/ready
	@$(paths); \
	for file in reports.csv features.h5 vocab.json "runs/$$RUN/predictions.csv" runs/neighbour/predictions.csv; do \
		if [ ! -e "$$work/$$file" ]; then \
			echo "$$WORK/$$file is missing: make run first, with the same DATA, IMAGES, WORK, RUN and QUICK"; exit 1; \
		fi; \
	done; \
	$(call execute,$(KNOWLEDGE)); \
	cat "$$work/knowledge.txt"; \
	echo; echo "The notebooks as they ran: $$WORK/notebooks"

demo: $(BIN)/ready
	@$(paths); \
	$(BIN)/python -m medcap_paddle.demo "$$work" --check || { \
		[ $$? = 3 ]; \
		echo "$$WORK has no trained run: the quick phantom is trained first"; \
		$(MAKE) run QUICK=1; \
	}; \
	exec $(BIN)/python -m medcap_paddle.demo "$$work"

test: $(BIN)/ready
	$(BIN)/python -m ruff check $(CODE)
	$(BIN)/python -m ruff format --check $(CODE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

soak: $(BIN)/ready
	KILLS=20 $(BIN)/python -m pytest -q -s tests/test_soak.py

coverage: $(BIN)/ready
	$(BIN)/python -m pytest -q --cov --cov-report=term

encoder: $(BIN)/ready
	$(BIN)/python -m medcap_paddle.phantom.pretrain

real: $(BIN)/ready
	$(BIN)/python benchmarks/real.py "$${DATA:-../shared}" "$$WORK/real"

vision: $(BIN)/ready
	@$(paths); \
	$(call execute,$(VISION)); \
	cat "$$work/vision/figures.json"

sequence: $(BIN)/ready
	@$(paths); \
	if [ -z "$$data" ] && [ ! -e "$$work/reports.csv" ]; then \
		$(call execute,$(firstword $(NOTEBOOKS))); \
	fi; \
	$(call execute,$(SEQUENCE)); \
	cat "$$work/sequence/figures.json"

format: $(BIN)/ready
	$(BIN)/python -m ruff check --fix $(CODE)
	$(BIN)/python -m ruff format $(CODE)
	$(BIN)/python -m nbstripout --keep-id notebooks/*.ipynb

bench: $(BIN)/ready benchmarks/.venv/ready
	$(BIN)/python benchmarks/bench.py benchmarks/.venv/bin/python $(if $(DATA),--data "$$DATA")

# The package is installed in place, so that a kernel started anywhere finds it.
$(BIN)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(not (3, 10) <= v < (3, 14) and 'Python 3.10 to 3.13 is needed, this is %d.%d: make PYTHON=python3.11' % v[:2])"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

benchmarks/.venv/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@
