# annotmixd: build, tests and checks. `make help` lists the targets.
# Variables: CC CFLAGS LDFLAGS PREFIX DESTDIR, SAN=address,undefined|thread, WERROR=1, V=1, DEBUG=1, BUILD=folder.
VERSION := 0.1.0
BUILD   ?= build
PREFIX  ?= /usr/local
SAN     ?=
CFLAGS  ?= -O2 -g
VARIANT := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),default)
comma   := ,
VARIANT := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),default)
O       := $(BUILD)/$(VARIANT)
BIN     := $(if $(SAN),$(O),$(BUILD))
Q       := $(if $(V),,@)
ARCH    := $(shell $(CC) -dumpmachine | cut -d- -f1)

PKGS    := libmicrohttpd jansson sqlite3 zlib nettle libcurl
LIBS    := $(shell pkg-config --libs $(PKGS)) -lcsv -lopenblas -lm -lpthread
AMXLIBS := $(shell pkg-config --libs jansson nettle) -lopenblas -lm -lpthread
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wstrict-prototypes \
  -Wmissing-prototypes -Wold-style-definition -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wwrite-strings -Wcast-qual \
  -Wcast-align -Wimplicit-fallthrough -Wnull-dereference -Wswitch-enum $(if $(WERROR),-Werror)
HARDEN  := -fno-omit-frame-pointer -fstack-protector-strong -fvisibility=hidden -fPIC $(if $(SAN),,-D_FORTIFY_SOURCE=2) \
  $(if $(filter x86_64,$(ARCH)),-fstack-clash-protection -fcf-protection)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
CPPFLAGS += -Iinclude -Isrc -I$(O)/gen -D_GNU_SOURCE -DANNOTMIX_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(PKGS))
ALL_CFLAGS = $(WARN) $(HARDEN) $(SANFLAGS) $(if $(DEBUG),-O0 -g3) -MMD -MP $(CFLAGS)
ALL_LDFLAGS = $(SANFLAGS) -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)

# ---- what is built from what ---------------------------------------------------------------------------------------
room_srcs = $(sort $(wildcard src/$(1)/*.c src/$(1)/*/*.c))
room_objs = $(patsubst src/%.c,$(O)/%.o,$(call room_srcs,$(1)))
KERNEL_LEVELS := plain $(if $(filter x86_64,$(ARCH)),sse2 avx2 avx512)
LEARN_OBJS := $(patsubst src/%.c,$(O)/%.o,$(filter-out src/learn/kernels.c,$(call room_srcs,learn))) \
  $(foreach k,$(KERNEL_LEVELS),$(O)/learn/kernels_$(k).o)
CROWD_OBJS := $(call room_objs,crowd)
AMX_OBJS   := $(LEARN_OBJS) $(CROWD_OBJS)
UTIL_OBJS  := $(call room_objs,util)
STORE_OBJS := $(call room_objs,store) $(O)/gen/embed.o
ROOM_OBJS  := $(UTIL_OBJS) $(STORE_OBJS) $(call room_objs,http) $(call room_objs,work) $(call room_objs,endpoints)
CMD_OBJS   := $(patsubst src/%.c,$(O)/%.o,$(wildcard src/*.c))
EMBEDDED   := $(sort $(wildcard migrations/*.sql)) $(wildcard api/openapi.yaml api/openapi.json) $(sort $(wildcard src/dashboard/*.*))

all: $(BIN)/annotmixd $(BIN)/libannotmix.a $(BIN)/libannotmix.so ## build/annotmixd and build/libannotmix.{a,so}

$(O)/%.o: src/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu17 $(ALL_CFLAGS) -c -o $@ $<
$(O)/learn/%.o $(O)/crowd/%.o: STD := -std=c11
$(O)/learn/%.o: src/learn/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(ALL_CFLAGS) -fno-math-errno -fno-trapping-math -c -o $@ $<
$(O)/crowd/%.o: src/crowd/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(ALL_CFLAGS) -fno-math-errno -fno-trapping-math -c -o $@ $<
# One kernel file, compiled once per level; the table is chosen at run time (src/learn/kernel_table.c).
KFLAGS_plain  :=
KFLAGS_sse2   := -march=x86-64
KFLAGS_avx2   := -march=x86-64-v3
KFLAGS_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
$(O)/learn/kernels_%.o: src/learn/kernels.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -DAMX_KERNEL=$* -std=c11 $(ALL_CFLAGS) -O3 -fno-math-errno -fno-trapping-math $(KFLAGS_$*) -c -o $@ $<

# Migrations, the API document and the dashboard become part of the program (table: src/util/embed.h).
$(O)/gen/embed.c: $(EMBEDDED) src/util/embed.sh
	@mkdir -p $(@D)
	$(Q)sh src/util/embed.sh $(EMBEDDED) > $@.tmp && mv $@.tmp $@
$(O)/gen/embed.o: $(O)/gen/embed.c
	$(Q)$(CC) $(CPPFLAGS) -std=gnu17 $(ALL_CFLAGS) -c -o $@ $<

$(BIN)/libannotmix.a: $(AMX_OBJS)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(BIN)/libannotmix.so: $(AMX_OBJS)
	$(Q)$(CC) -shared -Wl,-soname,libannotmix.so.0 $(ALL_LDFLAGS) -o $@ $^ $(AMXLIBS)
$(BIN)/annotmixd: $(CMD_OBJS) $(ROOM_OBJS) $(AMX_OBJS)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# ---- unit tests: tests/unit/ROOM/test_*.c -> one program per room ------------------------------------------------------
UNIT_ROOMS := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard tests/unit/*/test_*.c)))))
UNIT_BINS  := $(UNIT_ROOMS:%=$(O)/unit/%)
UNIT_NEEDS_learn := $(AMX_OBJS)
UNIT_NEEDS_crowd := $(AMX_OBJS)
UNIT_NEEDS_util  := $(UTIL_OBJS)
UNIT_NEEDS_http  := $(UTIL_OBJS) $(call room_objs,http)
UNIT_NEEDS_store := $(UTIL_OBJS) $(STORE_OBJS)
UNIT_NEEDS_work  := $(ROOM_OBJS) $(AMX_OBJS)
UNIT_NEEDS_endpoints := $(ROOM_OBJS) $(AMX_OBJS)
$(O)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Itests/unit -std=gnu17 $(ALL_CFLAGS) -c -o $@ $<
.SECONDEXPANSION:
$(UNIT_BINS): $(O)/unit/%: $$(patsubst tests/%.c,$(O)/tests/%.o,$$(wildcard tests/unit/%/*.c)) $(O)/tests/unit/test.o $$(UNIT_NEEDS_%)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

test-unit: $(UNIT_BINS) ## unit tests of every room (TEST_WRAPPER='valgrind -q --error-exitcode=9' works)
	$(Q)for t in $(UNIT_BINS); do $(TEST_WRAPPER) $$t || exit 1; done

clean: ## remove build/
	rm -rf $(BUILD)
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: all test-unit clean help
.DELETE_ON_ERROR:
-include $(shell find $(O) -name '*.d' 2>/dev/null)
