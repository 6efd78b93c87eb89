#!/bin/sh
# Counts what the tests of a build with --coverage have reached, file by file, and the two sums.
#   coverage.sh BUILD REPORT
# Kernels count once (the level that ran). Branches that only a compiler sees (exceptions, unreachable ones) do not count.
set -eu
gcovr --root . --object-directory "$1" --filter src/ --exclude-unreachable-branches --exclude-throw-branches \
    --gcov-ignore-parse-errors --txt "$2" --print-summary 2>"$2.log" | grep -E '^(lines|branches)'
gcovr --root . --object-directory "$1" --filter src/ --exclude-unreachable-branches --exclude-throw-branches \
    --gcov-ignore-parse-errors --branches --txt "${2%.txt}-branches.txt" 2>>"$2.log"
echo "by file: $2 and ${2%.txt}-branches.txt"
