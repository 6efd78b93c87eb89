# annotmixd: build, tests and checks. `make help` lists the targets.
# Variables: CC CFLAGS LDFLAGS PREFIX DESTDIR PYTHON, SAN=address,undefined or thread, WERROR=1 V=1 DEBUG=1, BUILD=folder.
VERSION := 0.1.0
BUILD   ?= build
PREFIX  ?= /usr/local
PYTHON  ?= $(firstword $(wildcard /usr/bin/python3) python3)
VARIANT := $(if $(SAN),san-$(shell echo $(SAN) | tr , -),default)
O       := $(BUILD)/$(VARIANT)
BIN     := $(if $(SAN),$(O),$(BUILD))
Q       := $(if $(V),,@)
CFLAGS  ?= $(if $(DEBUG),-O0 -g3,$(if $(SAN),-O1 -g,-O2 -g))
ARCH    := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)
TALLY   := sh tests/ci/tally.sh
SUBMAKE := $(MAKE) --no-print-directory
JOBS    := -j$(shell nproc 2>/dev/null || echo 2)

# ---- flags ---------------------------------------------------------------------------------------------------------
PKGS    := libmicrohttpd jansson sqlite3 zlib nettle libcurl
LIBS    := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lcsv -lopenblas -lm -lpthread
AMXLIBS := $(shell pkg-config --libs jansson nettle 2>/dev/null) -lopenblas -lm -lpthread
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wstrict-prototypes \
  -Wmissing-prototypes -Wold-style-definition -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wwrite-strings -Wcast-qual \
  -Wcast-align -Wimplicit-fallthrough -Wnull-dereference -Wswitch-enum $(if $(WERROR),-Werror)
HARDEN  := -fno-omit-frame-pointer -fstack-protector-strong -fvisibility=hidden -fPIC \
  $(if $(SAN)$(DEBUG),,-D_FORTIFY_SOURCE=2) $(if $(filter x86_64,$(ARCH)),-fstack-clash-protection -fcf-protection)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
PKGFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
ALL_CPPFLAGS = -Iinclude -Isrc -I$(O)/gen -D_GNU_SOURCE -DANNOTMIX_VERSION='"$(VERSION)"' $(PKGFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = $(WARN) $(HARDEN) $(SANFLAGS) -MMD -MP $(CFLAGS)
ALL_LDFLAGS  = $(SANFLAGS) -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
STD          = -std=gnu17
COMPILE      = @mkdir -p $(@D) && $(if $(V),set -x,echo "  CC $<") && $(CC) $(ALL_CPPFLAGS) $(STD) $(ALL_CFLAGS) $(EXTRA) -c -o $@ $<

# ---- what is built from what ---------------------------------------------------------------------------------------
room_srcs = $(sort $(wildcard src/$(1)/*.c src/$(1)/*/*.c))
room_objs = $(patsubst src/%.c,$(O)/%.o,$(call room_srcs,$(1)))
KERNEL_OBJS := $(patsubst %,$(O)/learn/kernels_%.o,plain $(if $(filter x86_64,$(ARCH)),sse2 avx2 avx512))
AMX_OBJS   := $(filter-out $(O)/learn/kernels.o,$(call room_objs,learn)) $(KERNEL_OBJS) $(call room_objs,crowd)
UTIL_OBJS  := $(call room_objs,util)
STORE_OBJS := $(call room_objs,store) $(O)/gen/embed.o
ROOM_OBJS  := $(UTIL_OBJS) $(STORE_OBJS) $(call room_objs,http) $(call room_objs,work) $(call room_objs,endpoints)
CMD_OBJS   := $(patsubst src/%.c,$(O)/%.o,$(wildcard $(addprefix src/,*.c commands/*.c files/*.c simulate/*.c)))
EMBEDDED   := $(sort $(wildcard migrations/*.sql) $(wildcard api/openapi.yaml api/openapi.json)) \
  $(filter-out %.md,$(sort $(wildcard src/dashboard/*.*)))

all: $(BIN)/annotmixd $(BIN)/libannotmix.a $(BIN)/libannotmix.so ## build/annotmixd and build/libannotmix.{a,so}
# The flags of the last build; other flags (or another compiler) make everything anew.
FLAGS := $(strip $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS))
ifneq ($(FLAGS),$(strip $(file <$(O)/flags)))
$(O)/flags: FORCE
endif
$(O)/flags:
	@:$(shell mkdir -p $(@D))$(file >$@,$(FLAGS))
$(O)/%.o: src/%.c $(O)/flags
	$(COMPILE)
$(AMX_OBJS): STD = -std=c11 -fno-math-errno -fno-trapping-math
# One kernel file, compiled once per level; the table is chosen at run time (src/learn/kernel_table.c).
KFLAGS_sse2   := -march=x86-64
KFLAGS_avx2   := -march=x86-64-v3
KFLAGS_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
$(KERNEL_OBJS): EXTRA = -DAMX_KERNEL=$* -O3 $(KFLAGS_$*)
$(O)/learn/kernels_%.o: src/learn/kernels.c $(O)/flags
	$(COMPILE)
# Migrations, the API document and the dashboard become part of the program (table: src/util/embed.h).
$(O)/gen/embed.c: $(EMBEDDED) src/util/embed.sh
	$(Q)mkdir -p $(@D) && sh src/util/embed.sh $(EMBEDDED) > $@.tmp && mv $@.tmp $@
$(O)/gen/embed.o: $(O)/gen/embed.c $(O)/flags
	$(COMPILE)
$(BIN)/libannotmix.a: $(AMX_OBJS)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(BIN)/libannotmix.so: $(AMX_OBJS)
	$(Q)$(CC) -shared -Wl,-soname,libannotmix.so.0 $(ALL_LDFLAGS) -o $@ $^ $(AMXLIBS)
$(BIN)/annotmixd: $(CMD_OBJS) $(ROOM_OBJS) $(AMX_OBJS)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# ---- unit tests: tests/unit/ROOM/test_*.c -> one program per room --------------------------------------------------
UNIT_ROOMS := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard tests/unit/*/test_*.c)))))
UNIT_BINS   = $(UNIT_ROOMS:%=$(O)/unit/%)
unit_objs   = $(patsubst tests/%.c,$(O)/tests/%.o,$(wildcard tests/unit/$(1)/*.c))
UNIT_NEEDS_learn = $(AMX_OBJS)
UNIT_NEEDS_crowd = $(AMX_OBJS)
UNIT_NEEDS_util  = $(UTIL_OBJS)
UNIT_NEEDS_cmd   = $(filter-out $(O)/main.o,$(CMD_OBJS)) $(ROOM_OBJS) $(AMX_OBJS)
UNIT_NEEDS_http  = $(UTIL_OBJS) $(call room_objs,http)
UNIT_NEEDS_store = $(UTIL_OBJS) $(STORE_OBJS)
$(O)/tests/%.o: EXTRA = -Itests/unit
$(O)/tests/%.o: tests/%.c $(O)/flags
	$(COMPILE)
.SECONDEXPANSION:
$(UNIT_BINS): $(O)/unit/%: $(O)/tests/unit/test.o $$(call unit_objs,$$*) $$(or $$(UNIT_NEEDS_$$*),$$(ROOM_OBJS) $$(AMX_OBJS))
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
include tests/bench/bench.mk tests/fault/fault.mk tests/hardening/hardening.mk tests/fuzz/fuzz.mk tests/contract/contract.mk
build-all: all $(UNIT_BINS) $(ENGINE_BIN) $(SKELETON_BIN)
# ---- targets for people ----------------------------------------------------------------------------------------------
deps: ## install the Debian packages that are missing (DEPS='build demo test check bench' picks groups)
	@sh tests/ci/deps.sh $(or $(DEPS),build demo test check)
demo: ## digits from twelve annotators: build, serve, import, train, show; Ctrl-C ends (DEMO_EXIT=1: ends by itself)
	@$(SUBMAKE) deps DEPS='build demo' && $(SUBMAKE) $(JOBS) all
	@sh tests/demo/demo.sh $(BIN)/annotmixd
test: ## what to run before and after a change: build, unit tests, HTTP tests, saved inputs (<= 6 minutes)
	@$(SUBMAKE) deps DEPS='build test' && $(SUBMAKE) $(JOBS) build-all
	@$(TALLY) test '$(SUBMAKE) test-unit' '$(SUBMAKE) test-replay' '$(SUBMAKE) test-http'
check: ## what CI runs after `test`: other compilers, sanitizers, valgrind, lint, kill -9, install, faults, contract, demo (about 20 minutes)
	@$(TALLY) check '$(SUBMAKE) lint' '$(SUBMAKE) $(JOBS) build-all WERROR=1 CC=gcc BUILD=$(BUILD)/gcc' \
	  '$(SUBMAKE) $(JOBS) build-all WERROR=1 CC=clang BUILD=$(BUILD)/clang' '$(SUBMAKE) test-install' '$(SUBMAKE) bench-check' \
	  '$(SUBMAKE) test-kill' '$(SUBMAKE) test-proxies' '$(SUBMAKE) test-shutdown' '$(SUBMAKE) test-load' '$(SUBMAKE) test-wal' '$(SUBMAKE) test-fault' '$(SUBMAKE) test-contract' '$(SUBMAKE) test-asan' '$(SUBMAKE) test-tsan' '$(SUBMAKE) test-valgrind UNIT_ROOMS="store work"' \
	  '$(SUBMAKE) test-hardening' '$(SUBMAKE) test-backup' '$(SUBMAKE) test-upgrade' '$(SUBMAKE) test-resume' 'DEMO_EXIT=1 $(SUBMAKE) demo'
test-unit: $(UNIT_BINS) ## unit tests of every room (TEST_WRAPPER='valgrind -q --error-exitcode=9' works)
	@rc=0; for t in $(UNIT_BINS); do echo "-- $$t"; $(TEST_WRAPPER) $$t || rc=1; done; exit $$rc
test-http: all ; @$(PYTHON) tests/http/run.py --binary $(BIN)/annotmixd $(HTTP_ARGS) ## HTTP tests against a running server, answers checked against api/openapi.yaml (HTTP_ARGS='-k NAME')
test-kill: all ; @$(PYTHON) tests/fault/kill9.py --binary $(BIN)/annotmixd --cycles $(or $(CYCLES),10) ## kill -9 under load, again and again: no acknowledged label lost or doubled (CYCLES=100 for more)
test-asan: ## unit and HTTP tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(SUBMAKE) $(JOBS) build-all SAN=address,undefined
	@$(TALLY) asan '$(SUBMAKE) SAN=address,undefined test-unit' '$(SUBMAKE) SAN=address,undefined test-replay' '$(SUBMAKE) SAN=address,undefined test-http'
test-tsan: ## HTTP tests and the threaded rooms' unit tests under ThreadSanitizer
	@$(SUBMAKE) $(JOBS) build-all SAN=thread
	@$(TALLY) tsan "$(SUBMAKE) SAN=thread test-unit TEST_WRAPPER='env TEST_QUICK=1' UNIT_ROOMS='$(filter http store work,$(UNIT_ROOMS))'" 'TEST_QUICK=1 $(SUBMAKE) SAN=thread test-http'
test-valgrind: ## unit tests under valgrind; learn and crowd train and take minutes there: AddressSanitizer has them
	@$(SUBMAKE) test-unit UNIT_ROOMS='$(filter-out learn crowd,$(UNIT_ROOMS))' TEST_WRAPPER='env TEST_QUICK=1 valgrind -q --fair-sched=try --error-exitcode=9 --leak-check=full'
test-install: all ; @BUILD=$(BUILD) CC='$(CC)' sh tests/ci/install.sh ## `make install` into a scratch folder, then build and run the README's C example against it
bench bench-train bench-http bench-store bench-scale: ## every figure or one group: a table, and build/bench.json (BENCH='labels predict', TORCH_PYTHON=a python with torch)
	@$(SUBMAKE) deps DEPS='build bench' && $(SUBMAKE) $(JOBS) all $(ENGINE_BIN) $(SKELETON_BIN)
	@$(PYTHON) tests/bench/run.py --binary $(BIN)/annotmixd --engine $(ENGINE_BIN) --out $(BUILD)/$@.json $(BENCH_ARGS) $(or $(BENCH),$(patsubst bench-%,%,$(filter-out bench,$@)))
bench-check: $(ENGINE_BIN) ; @CC='$(CC)' $(PYTHON) tests/bench/check.py --engine $(ENGINE_BIN) $(if $(UPDATE),--update) ## instruction counts of a fixed fit, prediction and ingest against the kept ones, +-3 % (UPDATE=1 keeps)
faceoff: all ## every method on the data sets at hand -> tests/bench/FACEOFF.md; hours (FACEOFF='--repeat 1 music-genres digits-sim')
	@$(PYTHON) tests/bench/faceoff.py --binary $(BIN)/annotmixd --results $(BUILD)/faceoff $(FACEOFF)
poisoned: all ; @$(PYTHON) tests/bench/poisoned.py --binary $(BIN)/annotmixd $(POISONED) ## what attackers among the annotators do -> tests/bench/POISONED.md; an hour, goes on where it stopped (POISONED='--repeat 1 music-genres')
lint: all ; @$(PYTHON) tests/lint/lint.py --binary $(BIN)/annotmixd ## the house rules: one-way includes, banned functions, lengths, folder READMEs, README against --help
format: ; clang-format -i $(or $(FILES),$(shell find src include tests -name '*.[ch]')) ## clang-format the files named in FILES (default: all C files)
install: all ## program, library, header and pkg-config file under $(DESTDIR)$(PREFIX)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(BIN)/annotmixd
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include include/annotmix.h
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib $(BIN)/libannotmix.a
	install -m 755 $(BIN)/libannotmix.so $(DESTDIR)$(PREFIX)/lib/libannotmix.so.$(VERSION)
	cd $(DESTDIR)$(PREFIX)/lib && ln -sf libannotmix.so.$(VERSION) libannotmix.so.0 && ln -sf libannotmix.so.0 libannotmix.so
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig && printf '%s\n' 'Name: annotmix' 'Version: $(VERSION)' \
	  'Description: classes and reliability from noisy annotators' 'Cflags: -I$(PREFIX)/include' 'Requires.private: jansson nettle' \
	  'Libs: -L$(PREFIX)/lib -lannotmix' 'Libs.private: -lopenblas -lm' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/annotmix.pc
dist: ; mkdir -p $(BUILD) && git archive --prefix=annotmixd-$(VERSION)/ -o $(BUILD)/annotmixd-$(VERSION).tar.gz HEAD ## build/annotmixd-VERSION.tar.gz of the last commit
clean: ; rm -rf $(BUILD) ## remove build/
help: ## this list
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## /\1\t/' | expand -t 16
.PHONY: all build-all deps demo test check test-unit test-http test-kill test-asan test-tsan test-valgrind test-install bench bench-train bench-http bench-store bench-scale bench-check faceoff poisoned lint format install dist clean help FORCE
.DELETE_ON_ERROR:
$(O)/%.d: ;
-include $(shell find $(O) -name '*.d' 2>/dev/null)
