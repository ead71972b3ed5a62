# SPDX-License-Identifier: GPL-2.0-only
# Two commands: `make certify` (the main job on the installed libspice-server) and `make test`.
# Both set up what they need first and cost no set-up time when typed again.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/ready
SERVER ?= system
OUT ?=
WORKERS ?= auto
REPEAT ?= 20

# A run starts hundreds of Pythons: without kept byte code each of them compiles the suite anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup certify test lint format selftest prove known-verdicts interop bench-inspect harmless survey bare-captures bench-run same-verdicts bench-fuzz captures models clean
.DEFAULT_GOAL := certify

# What CI jobs call, so that `spice-conform` itself tells them its exit status (make turns each into 2).
setup: $(STAMP)

certify: $(STAMP)
	$(BIN)/spice-conform certify --server $(SERVER) -n $(WORKERS) $(if $(OUT),--out $(OUT))

test: $(VENV)/test-ready lint
	$(BIN)/pytest suites/selftest suites/replay -n $(WORKERS) -q --record-only
	$(BIN)/spice-conform certify --server $(SERVER) -n $(WORKERS) $(if $(OUT),--out $(OUT))

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format --quiet .

selftest: $(VENV)/test-ready
	$(BIN)/pytest suites/selftest -n $(WORKERS) -q --record-only

# Runs each planted fault once and prints what it turns red; ONLY=ID: the faults of one requirement;
# SOURCE=1: bugs of the past and slips of the source instead, each built from the distribution's source package
# (once: about 5 minutes).
ONLY ?=
SOURCE ?=
prove: $(VENV)/test-ready
	$(BIN)/pytest suites --ignore suites/selftest --prove $(if $(SOURCE),--old-bugs) --record-only -q -n $(WORKERS) $(if $(ONLY),-k $(ONLY))

# The verdicts that `spice-conform explain` tells of released servers, from run directories of certify.
RUNS ?=
known-verdicts: $(STAMP)
	$(BIN)/python -m reports.views.known_verdicts $(RUNS)

# spice-gtk through every kind of migration on SERVER, REPEAT times each (with 20: about ten minutes).
interop: $(VENV)/test-ready
	$(BIN)/pytest suites/interop --server $(SERVER) --repeat $(REPEAT) -n $(WORKERS) -q $(if $(OUT),--out $(OUT))

# 10,000 harmless and lossy changes of recorded captures and more (1,500 of each of seven kinds, in parts of
# 200; 15 minutes of CPU time).
harmless: $(VENV)/test-ready
	HARMLESS_EXAMPLES=1500 $(BIN)/pytest suites/selftest/dissectors/rules/test_harmless_changes.py -n $(WORKERS) -q --record-only

# The inspector over every file of directories (CAPTURES="DIR..."), such as the captures that Wireshark, tcpdump,
# libpcap and Scapy ship in their sources: crashes, sessions and findings.
CAPTURES ?=
survey: $(VENV)/test-ready
	$(BIN)/python -m reports.commands.survey_captures $(CAPTURES)

# The packets of runs' cases judged again as strangers' captures (RUNS="DIR..."): no finding may appear that the case
# does not have. SHAPE="--shape all": cut, halved, translated and so on, too (--help names them).
SHAPE ?=
bare-captures: $(VENV)/test-ready
	$(BIN)/python -m suites.selftest.dissectors.rules.bare_captures $(RUNS) $(SHAPE)

bench-inspect: $(VENV)/test-ready
	$(BIN)/python -m reports.inspection.benchmark_inspect

bench-fuzz: $(VENV)/test-ready
	$(BIN)/python -m suites.fuzz.benchmark_fuzz

bench-run: $(VENV)/test-ready
	$(BIN)/python -m reports.commands.benchmark_run

# RUNS runs of certify on SERVER, with a busy process on each core: all must come to the same verdicts.
# ONLY="--profile smoke": options of certify. STILL=1: instead of the load, processes stand still for up to 1 s.
same-verdicts: $(STAMP)
	$(BIN)/python -m reports.commands.same_verdicts $(or $(RUNS),10) $(if $(STILL),--stand-still) --server $(SERVER) -n $(WORKERS) $(ONLY)

captures: $(VENV)/test-ready
	$(BIN)/python -m fixtures.captures.make all

# The models of the releases anew (minutes each; what is known already is not asked again).
models: $(STAMP)
	$(BIN)/python -m suites.model.make_models

$(STAMP): pyproject.toml constraints.txt .ci/setup
	.ci/setup certify $(VENV)
	@touch $@

$(VENV)/test-ready: $(STAMP)
	.ci/setup test $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) results dist
