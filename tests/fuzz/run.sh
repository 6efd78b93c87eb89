#!/bin/sh
# Fuzzes targets one after the other. Goes on from the corpus of the last run.
#   run.sh FUZZER WORKDIR SECONDS [TARGET...]
# WORKDIR/TARGET/corpus collects inputs, WORKDIR/TARGET.log is the log, WORKDIR/TARGET/findings has what broke something.
# Closing line: "N passed, N failed" (targets without and with findings). FUZZ_FLAGS go to libFuzzer.
set -u
fuzzer=$1 work=$2 seconds=$3
shift 3
here=$(dirname "$0")
[ $# -gt 0 ] || set -- $(sed -n 's/^    {"\([a-z_]*\)", fuzz_.*/\1/p' "$here/targets.c")
passed=0 failed=0
for target; do
    corpus=$work/$target/corpus findings=$work/$target/findings
    mkdir -p "$corpus" "$findings"
    dict=
    [ ! -f "$here/dict/$target.dict" ] || dict=-dict=$here/dict/$target.dict
    # 256 MB for the target; the sanitizers' own needs come on top.
    # shellcheck disable=SC2086
    FUZZ_TARGET=$target UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
        nice -n 15 "$fuzzer" -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=256 -rss_limit_mb=1024 -max_len=8192 \
        -artifact_prefix="$findings/" -print_final_stats=1 $dict ${FUZZ_FLAGS:-} "$corpus" "$here/corpus/$target" \
        >"$work/$target.log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        echo "$target: ${runs:-0} runs, nothing found"
    else
        failed=$((failed + 1))
        echo "$target: FINDING after ${runs:-?} runs, see $work/$target.log and $findings"
        grep -m 3 -E 'ERROR|runtime error|SUMMARY' "$work/$target.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
