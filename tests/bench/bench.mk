# Programs of the benchmarks; included by the Makefile.
# The learner and the store by themselves.
ENGINE_BIN := $(O)/bench/engine
$(ENGINE_BIN): $(O)/tests/bench/engine.o $(UTIL_OBJS) $(STORE_OBJS) $(AMX_OBJS)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -Wl,--wrap=gemm_nt,--wrap=gemm_nn,--wrap=gemm_tn,--wrap=gemm_tt -o $@ $^ $(LIBS)
# The least a server with our options can do, the partner of bench_http.py.
SKELETON_BIN := $(O)/bench/skeleton
$(SKELETON_BIN): $(O)/tests/bench/skeleton.o
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
