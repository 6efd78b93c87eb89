# schemathesis and the state machine; tests/contract/README.md
CONTRACT = $(BUILD)/contract
CONTRACT_RUN = $(CONTRACT)/bin/python tests/contract
contract-venv: ; @$(SUBMAKE) deps DEPS='test check' && sh tests/contract/venv.sh $(PYTHON) $(CONTRACT)
test-contract: all contract-venv ## schemathesis on the API document and a model of the service against a running server (a minute each)
	@$(TALLY) contract '$(CONTRACT_RUN)/run_schemathesis.py --binary $(BIN)/annotmixd --st $(CONTRACT)/bin/st --phases coverage --log $(BUILD)/test-t7.log --no-shrink' \
	  '$(CONTRACT_RUN)/state_machine.py --binary $(BIN)/annotmixd --runs 40 --steps 30 --seconds 40'
soak-t7: all contract-venv ## T7: 10,000 cases of schemathesis, all phases (SEED=1, log build/soak-t7.log)
	@$(CONTRACT_RUN)/run_schemathesis.py --binary $(BIN)/annotmixd --st $(CONTRACT)/bin/st --examples 150 --seed $(or $(SEED),1) --log $(BUILD)/soak-t7.log
soak-t8: all contract-venv ## T8: 2,000 runs of 50 steps against the model (SEED=1; goes on by SEED=1+runs done, log build/soak-t8.log)
	@$(CONTRACT_RUN)/state_machine.py --binary $(BIN)/annotmixd --runs 2000 --steps 50 --seed $(or $(SEED),1) | tee $(BUILD)/soak-t8.log
.PHONY: contract-venv test-contract soak-t7 soak-t8
