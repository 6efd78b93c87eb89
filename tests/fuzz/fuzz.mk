# The fuzz targets, as a program that replays files, and under libFuzzer (clang; `make fuzz` sets SAN and CC).
FUZZ_OBJS  = $(patsubst tests/%.c,$(O)/tests/%.o,$(filter-out tests/fuzz/replay.c tests/fuzz/libfuzzer.c,$(wildcard tests/fuzz/*.c))) \
  $(filter-out $(O)/main.o,$(CMD_OBJS)) $(ROOM_OBJS) $(AMX_OBJS)
REPLAY_BIN := $(O)/fuzz/replay
FUZZER_BIN := $(O)/fuzz/fuzzer
FUZZ_SAN   := fuzzer-no-link,address,undefined
FUZZ_OUT   := $(BUILD)/san-fuzzer-no-link-address-undefined
$(O)/tests/fuzz/%.o: EXTRA = -Itests/fuzz
$(REPLAY_BIN): $(O)/tests/fuzz/replay.o $(FUZZ_OBJS)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(FUZZER_BIN): $(O)/tests/fuzz/libfuzzer.o $(FUZZ_OBJS)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
build-all: $(REPLAY_BIN)
test-replay: $(REPLAY_BIN) ; @$(TEST_WRAPPER) $(REPLAY_BIN) tests/fuzz/corpus ## every input that fuzzing keeps (tests/fuzz/corpus), through its target
fuzz: ## fuzz the parsers with libFuzzer (TARGET='npy gzip', FUZZ_SECONDS=60 each; logs and findings in build/fuzz)
	@$(SUBMAKE) deps DEPS='build check'
	@$(SUBMAKE) $(JOBS) CC=clang SAN=$(FUZZ_SAN) $(FUZZ_OUT)/fuzz/fuzzer
	@sh tests/fuzz/run.sh $(FUZZ_OUT)/fuzz/fuzzer $(BUILD)/fuzz $(or $(FUZZ_SECONDS),60) $(TARGET)
.PHONY: test-replay fuzz
