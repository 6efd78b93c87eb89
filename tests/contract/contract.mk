# schemathesis and the state machine; tests/contract/README.md
CONTRACT = $(BUILD)/contract
CONTRACT_RUN = $(CONTRACT)/bin/python tests/contract
contract-venv: ; @$(SUBMAKE) deps DEPS='test check' && sh tests/contract/venv.sh $(PYTHON) $(CONTRACT)
ST_RUN = $(CONTRACT_RUN)/run_schemathesis.py --binary $(BIN)/annotmixd --st $(CONTRACT)/bin/st
test-contract: all contract-venv ## schemathesis on the API document and a model of the service, against a running server (a minute and a half)
	@$(TALLY) contract '$(ST_RUN) --phases examples,coverage --examples 3 --no-shrink --log $(BUILD)/test-t7.log' \
	  '$(ST_RUN) --phases fuzzing,stateful --examples 3 --seconds 15 --no-shrink --log $(BUILD)/test-t7-more.log' \
	  '$(CONTRACT_RUN)/state_machine.py --binary $(BIN)/annotmixd --runs 40 --steps 30 --seconds 40'
soak-t7: all contract-venv ## T7: 10,000 cases of schemathesis, all phases (SEED=1, log build/soak-t7.log)
	@$(ST_RUN) --examples 150 --seed $(or $(SEED),1) --log $(BUILD)/soak-t7.log
soak-t8: all contract-venv ## T8: 2,000 runs of 50 steps against the model (SEED=1; goes on where it was stopped, log build/soak/t8.jsonl)
	@$(CONTRACT_RUN)/state_machine.py --binary $(BIN)/annotmixd --runs 2000 --steps 50 --seed $(or $(SEED),1) --log $(BUILD)/soak/t8.jsonl
# Everything that runs our code, built with counters. COVERAGE_PARTS='unit http' runs some (and adds to what is counted).
COVERAGE := $(BUILD)/coverage
COVER    = $(SUBMAKE) BUILD=$(COVERAGE) CONTRACT=$(BUILD)/contract
COVERED  = $(if $(filter $(1),$(or $(COVERAGE_PARTS),unit replay http fault contract)),$(2))
coverage: export CFLAGS = -O0 -g --coverage -fprofile-update=atomic
coverage: export LDFLAGS = --coverage -Wl,--wrap=_exit $(abspath $(COVERAGE))/hook.o
coverage: export ANNOTMIX_KILL = SIGUSR2
coverage: ## share of src that all tests reach, faults included (build/coverage.txt: lines >= 90 %, branches >= 80 %; most of an hour)
	@$(SUBMAKE) deps DEPS='build test check coverage'
	@mkdir -p $(COVERAGE) && $(CC) -O2 -c -o $(COVERAGE)/hook.o tests/ci/coverage_hook.c
	@$(COVER) $(JOBS) build-all
	@$(if $(COVERAGE_PARTS),,find $(COVERAGE) -name '*.gcda' -delete)
	@-$(TALLY) coverage $(call COVERED,unit,'$(COVER) test-unit' 'ANNOTMIX_KERNEL=plain $(COVER) test-unit UNIT_ROOMS=learn') \
	  $(call COVERED,replay,'$(COVER) test-replay') $(call COVERED,http,'$(COVER) test-http') \
	  $(call COVERED,fault,'$(COVER) test-fault SAMPLE=60' '$(COVER) test-backup' '$(COVER) test-upgrade' '$(COVER) test-resume' '$(COVER) test-shutdown') \
	  $(call COVERED,contract,'$(COVER) test-contract')
	@sh tests/ci/coverage.sh $(COVERAGE) $(BUILD)/coverage.txt
.PHONY: coverage contract-venv test-contract soak-t7 soak-t8
