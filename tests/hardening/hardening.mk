# Hardening, backups, upgrades and determinism; part of the Makefile, which has the variables.
install: install-unit
install-unit:
	$(Q)mkdir -p $(DESTDIR)$(PREFIX)/lib/systemd/system && sed 's|/usr/local/bin|$(PREFIX)/bin|' src/systemd/annotmixd.service \
	  > $(DESTDIR)$(PREFIX)/lib/systemd/system/annotmixd.service
test-hardening: $(BIN)/annotmixd ## flags of the binary, exposure of the systemd unit, system calls (T18); hostile names on the dashboard in a browser
	@$(TALLY) hardening '$(PYTHON) tests/hardening/hardening.py --binary $(BIN)/annotmixd' '$(PYTHON) tests/hardening/browser.py --binary $(BIN)/annotmixd'
bench-token: $(BIN)/annotmixd ; @$(PYTHON) tests/hardening/token_timing.py --binary $(BIN)/annotmixd $(TOKEN_ARGS) ## whether the time of a 401 tells of the token, and what a flood of wrong ones costs a right one (TOKEN_ARGS='--samples 3000')
sbom: $(BIN)/annotmixd ; @$(PYTHON) tests/hardening/sbom.py --binary $(BIN)/annotmixd --version $(VERSION) --out $(BUILD)/annotmixd.cdx.json ## build/annotmixd.cdx.json: the libraries in use, as CycloneDX
test-backup: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/backup_load.py --binary $(BIN)/annotmixd $(if $(SEED),--seed $(SEED)) ## backups under load hold what was acknowledged (T15)
test-upgrade: $(BIN)/annotmixd ; @$(PYTHON) tests/upgrade/upgrade.py --binary $(BIN)/annotmixd $(if $(SEED),--seed $(SEED)) ## older files and models, kill -9 while migrating (T14)
test-resume: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/resume.py --binary $(BIN)/annotmixd --times 3 $(if $(SEED),--seed $(SEED)) ## the same model after kill -9 in training (T19)
# The release runs go on where they were stopped; build/soak/*.jsonl are their logs.
SOAK_RUN = $(PYTHON) tests/$(1).py --binary $(BIN)/annotmixd --log $(BUILD)/soak/$(2).jsonl
soak-t14: $(BIN)/annotmixd ; @$(call SOAK_RUN,upgrade/upgrade,t14) --kills 100 ## release run: 300 kills of each schema while migrating
soak-t15: $(BIN)/annotmixd ; @$(call SOAK_RUN,fault/backup_load,t15) --pieces 3 --backups 20 --pause 10 --every 7s --figures ## release run: 60 backups in ten minutes of 5,000 labels/s
soak-t19: $(BIN)/annotmixd ; @$(call SOAK_RUN,fault/resume,t19) --times 20 ## release run: 20 kills in training
.PHONY: bench-token install-unit test-hardening sbom test-backup test-upgrade test-resume soak-t14 soak-t15 soak-t19
