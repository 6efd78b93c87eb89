# The fault-injecting build and its tests; part of the Makefile, which has the variables. SEED= repeats a run of a gate.
# The release runs (soak-*) go on where they were stopped: their logs are build/soak/*.jsonl; remove one to begin anew.
FAULT_BIN  := $(O)/fault/annotmixd-fault
FAULT_OBJS := $(patsubst tests/%.c,$(O)/tests/%.o,$(wildcard tests/fault/*.c))
FAULT_WRAP := -Wl,--wrap=db_open,--wrap=db_begin,--wrap=db_commit,--wrap=db_checkpoint,--wrap=db_wal_used,--wrap=store_reader_get,--wrap=store_reader_put,--wrap=clock_gettime,--wrap=problem_reply_as
FAULT_CALLS := fopen fdopen fclose fwrite fflush read write fsync stat lstat fstat statfs statvfs mkdir access flock opendir realpath \
  socket bind listen gzopen gzdopen gzread pthread_create open
FAULT_WRAP += $(FAULT_CALLS:%=-Wl,--wrap=%)
FAULT_SEED := --seed $(or $(SEED),1)
FAULT_PY    = $(PYTHON) tests/fault/$(1).py --binary $(FAULT_BIN) $(FAULT_SEED)
SOAK_PY     = $(PYTHON) tests/fault/$(1).py --binary $(FAULT_BIN) --log $(BUILD)/soak/$(2).jsonl
$(FAULT_BIN): $(CMD_OBJS) $(ROOM_OBJS) $(AMX_OBJS) $(FAULT_OBJS)
	$(Q)mkdir -p $(@D) && $(CC) -pie $(ALL_LDFLAGS) $(FAULT_WRAP) -o $@ $^ $(LIBS)
TORTURE_BIN  := $(O)/fault/torture
TORTURE_OBJS := $(patsubst tests/%.c,$(O)/tests/%.o,$(wildcard tests/fault/torture/*.c))
$(TORTURE_BIN): $(filter-out $(O)/main.o,$(CMD_OBJS)) $(ROOM_OBJS) $(AMX_OBJS) $(FAULT_OBJS) $(TORTURE_OBJS)
	$(Q)mkdir -p $(@D) && $(CC) -pie $(ALL_LDFLAGS) $(FAULT_WRAP) -o $@ $^ $(LIBS)
build-all: $(FAULT_BIN) $(TORTURE_BIN)

test-fault: $(FAULT_BIN) $(TORTURE_BIN) ## the fault-injecting build: power cuts, disk errors, a full disk, failed allocations; each mutant must be noticed (<= 4 minutes)
	@$(TALLY) fault '$(call FAULT_PY,kill9) --cycles 5 --mutant' '$(call FAULT_PY,power_cut) --cuts 40' \
	  '$(call FAULT_PY,power_cut) --cuts 20 --mutant' '$(call FAULT_PY,torture) --torture $(TORTURE_BIN) --sample $(or $(SAMPLE),20)' \
	  '$(call FAULT_PY,disk_errors) --calls 10 --step 2 --jobs 6' '$(call FAULT_PY,full_disk)' '$(call FAULT_PY,clock_jump)'
test-proxies: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/front_raw.py --binary $(BIN)/annotmixd --work $(BUILD)/libmicrohttpd $(or $(PROXIES),--library trixie --library sid) ## the raw requests behind nginx and haproxy, and on Debian 13's and the newest libmicrohttpd (T9)
test-shutdown: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/front_shutdown.py --binary $(BIN)/annotmixd $(FAULT_SEED) $(or $(SHUTDOWN),--streams 30 --uploads 15) ## SIGTERM under streams, uploads, a training and writers: ends at once, nothing lost or torn (T13)
test-load: $(BIN)/annotmixd ## slow clients beside a good one, twice the connections, predict + label + train (T10, T11, T12 in small)
	@$(TALLY) load '$(PYTHON) tests/fault/front_slow.py --binary $(BIN)/annotmixd' \
	  '$(PYTHON) tests/fault/soak_mixed.py --binary $(BIN)/annotmixd --seconds 20 $(FAULT_SEED)'
WAL_PY = $(PYTHON) tests/fault/wal_bound.py --binary $(BIN)/annotmixd
test-wal: $(BIN)/annotmixd ; @$(TALLY) wal '$(WAL_PY) $(FAULT_SEED)' '$(WAL_PY) $(FAULT_SEED) --mutant' ## the write-ahead log stays small beside slow readers (T17 in small)
soak-t17: $(BIN)/annotmixd ; @$(WAL_PY) --readers 1000 --labels 500000 --rate 5000 --figures ## release run: 1,000 readers of 100 bytes/s, 5,000 labels/s
soak-t10: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/front_slow.py --binary $(BIN)/annotmixd --slow 10000 --over 1000 --figures ## release run: 10,000 slow clients
soak-t12: $(BIN)/annotmixd ; @$(PYTHON) tests/fault/soak_mixed.py --binary $(BIN)/annotmixd --minutes $(or $(MINUTES),10) --log $(BUILD)/soak/t12.jsonl --figures ## release run: predict, label, train for MINUTES=10 (480 for a night)
soak-t13: ; @$(SUBMAKE) test-shutdown SHUTDOWN='--rounds 10' ## release run: 100 streams, 50 uploads, ten times (SAN=address,undefined too)
soak-t1: $(FAULT_BIN) ; @$(call SOAK_PY,kill9,t1) --cycles 1000 ## release run: 1,000 kills
soak-t2: $(FAULT_BIN) ; @$(call SOAK_PY,power_cut,t2) --cuts 2000 ## release run: 2,000 power cuts
soak-t3: $(FAULT_BIN) ; @$(call SOAK_PY,disk_errors,t3) --calls 300 --jobs 8 ## release run: disk errors at each of 300 calls
soak-t4: $(FAULT_BIN) $(TORTURE_BIN) ; @$(call SOAK_PY,torture,t4) --torture $(TORTURE_BIN) --jobs 3 ## release run: every allocation of every scenario
.PHONY: test-fault test-proxies test-shutdown test-load test-wal soak-t17 soak-t10 soak-t12 soak-t13 soak-t1 soak-t2 soak-t3 soak-t4
