# make demo    install, then train and sample in ten minutes on two cores     make demo ARGS="--minutes 3"
# make test    install, then run the whole suite                              make test ARGS="--only 06_blocks"
# make lab     read and run the lessons in JupyterLab
# make bench   measure speed and memory beside the alternatives, and refresh the tables (a quarter of an hour)
# make browser drive the apps and the widget in a real Chromium
# make export  notebooks -> package      make readme  nbs/index.ipynb -> README.md      make clean | distclean
#
# Needs Python 3.11 or newer with pip, nothing else. Another interpreter: make demo PYTHON=/path/to/python
# No NVIDIA GPU on Linux? PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo   fetches the much smaller CPU build of torch.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do $$p -c 'import sys; sys.exit(sys.version_info < (3,11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
NEEDS  := settings.ini setup.py pyproject.toml constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test bench browser lab export readme clean distclean
.NOTPARALLEL:

demo: $(VENV)/.ready
	$(BIN)/pixart demo $(ARGS)

test: $(VENV)/.ready-dev
	$(BIN)/python .ci/test.py $(ARGS)

lab: $(VENV)/.ready-dev $(VENV)/.ready-lab
	$(BIN)/jupyter lab $(ARGS) nbs

bench: $(VENV)/.ready-dev
	$(BIN)/pixart bench $(ARGS)
	for n in 19_bench 19b_speed index; do (cd nbs && ../$(BIN)/exec_nb $$n.ipynb --dest $$n.ipynb); done
	$(BIN)/nbdev_clean
	$(BIN)/python .ci/readme.py

browser: $(VENV)/.ready-dev $(VENV)/.ready-browser
	$(BIN)/python .ci/browser.py $(ARGS)

export: $(VENV)/.ready-dev
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export

readme: $(VENV)/.ready
	$(BIN)/python .ci/readme.py

clean:
	rm -rf build dist *.egg-info .ruff_cache _proc _docs
	find . -path './$(VENV)' -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Stamps: the package alone (.ready), or with one of the extras of settings.ini (.ready-dev, .ready-lab); redone only when $(NEEDS) change.
# Quiet at first; if that fails, once more with everything pip has to say.
define install
@echo "installing $(1) into $(VENV) (about 2 GB; a minute or two, more on a slow line)"
@$(BIN)/python -m pip install -qq -c constraints.txt -e "$(1)" || $(BIN)/python -m pip install -c constraints.txt -e "$(1)"
@touch $@
endef

$(VENV)/.ready: $(NEEDS) | $(VENV)/.made
	$(call install,.)

$(VENV)/.ready-%: $(NEEDS) | $(VENV)/.made
	$(call install,.[$*])

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "want Python 3.11 or newer on PATH (or make PYTHON=...), found none"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3,11) and "want Python 3.11 or newer, got " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV)
	@touch $@
