#!/bin/sh
# Runs commands one after the other, all of them, and adds up their closing lines.
#   tally.sh NAME COMMAND...
# A closing line is "N passed, N failed" or "N passed, N failed, N skipped", alone on a line. A command without one counts
# as one; a command that fails though its lines say 0 failed counts as one failed. The last line printed is
# "NAME: N passed, N failed[, N skipped]" (without "NAME: " when NAME is empty), so that nested tallies are not added twice.
# Exit status 1 when anything failed.
set -u
name=$1
shift
log=$(mktemp)
trap 'rm -f "$log" "$log.status"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0 failures=
for command; do
    echo "== $command"
    start=$(date +%s)
    { sh -c "$command" 2>&1 </dev/null; echo $? >"$log.status"; } | tee "$log"
    status=$(cat "$log.status")
    # A nested tally ("check: 9 passed, ...") speaks for everything before it, so it replaces what was summed so far.
    counts=$(awk '
        /^([a-z-]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
            nested = ($1 ~ /:$/); if (nested) sub(/^[a-z-]+: /, "")
            split($0, w, " ")
            if (nested) { p = f = s = 0 }
            p += w[1]; f += w[3]; s += w[5]; seen = 1
        }
        END { if (!seen) print "none"; else print p, f, s + 0 }' "$log")
    if [ "$counts" = none ]; then
        counts="$((status == 0)) $((status != 0)) 0"
    fi
    # shellcheck disable=SC2086
    set -- $counts
    if [ "$status" != 0 ] && [ "$2" = 0 ]; then
        set -- "$1" 1 "$3"
    fi
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    if [ "$status" != 0 ] || [ "$2" != 0 ]; then
        failures="$failures
   failed: $command"
    fi
    echo "== $(($(date +%s) - start)) s: $command"
done
[ -z "$failures" ] || echo "== ${name:-all}:$failures"
line="$passed passed, $failed failed"
[ "$skipped" = 0 ] || line="$line, $skipped skipped"
echo "${name:+$name: }$line"
[ -z "$failures" ]
