#!/bin/sh
# The main job, start to end, on 1,797 handwritten digits that twelve annotators labelled, some of them badly.
#   demo.sh build/annotmixd        DEMO_EXIT=1: check the figures and end instead of serving on
# Starts a server of its own on a free loopback port with its database in DEMO_DIR (default: build/demo), talks to it
# with curl like any client would, and shows the answers with jq and awk.
set -eu
cd "$(dirname "$0")/../.."

program=$(realpath "$1")
data=tests/data/digits
dir=${DEMO_DIR:-build/demo}
project=digits
server=

bold= dim= plain=
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m')
fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
die() {
    echo "demo: $*" >&2
    [ ! -s "$dir/serve.log" ] || { echo "last lines of $dir/serve.log:" >&2 && tail -n 5 "$dir/serve.log" >&2; }
    exit 1
}
stop() {
    trap - EXIT INT TERM
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" || true; }
    [ -z "${1:-}" ] || echo
    exit "${2:-0}"
}
trap 'status=$?; stop "" $status' EXIT
trap 'stop newline 0' INT TERM

# call METHOD PATH [JSON]: prints the body; a 4xx or 5xx ends the demo with the problem's own words.
call() {
    if [ $# = 3 ]; then
        set -- -X "$1" -H 'Content-Type: application/json' --data-binary "$3" "$url$2"
    else
        set -- -X "$1" "$url$2"
    fi
    code=$(curl -sS --max-time 90 -o "$dir/answer.json" -w '%{http_code}' "$@") || die "no answer from $url"
    case $code in
    2*) cat "$dir/answer.json" ;;
    *) die "$code: $(jq -r '.detail // .title' "$dir/answer.json" 2>/dev/null || cat "$dir/answer.json")" ;;
    esac
}

# ---- serve ---------------------------------------------------------------------------------------------------------
mkdir -p "$dir"
if [ -e "$dir/demo.db" ] && "$program" health --db "$dir/demo.db" >/dev/null 2>&1; then
    die "another demo is still serving $dir/demo.db; end it with Ctrl-C, or set DEMO_DIR=another/folder"
fi
rm -f "$dir"/demo.db* "$dir/serve.out" "$dir/serve.log"
"$program" serve --db "$dir/demo.db" --listen 127.0.0.1:0 >"$dir/serve.out" 2>"$dir/serve.log" &
server=$!
tries=0
until url=$(sed -n 's/.* listening on \(http:[^ ]*\).*/\1/p' "$dir/serve.out" 2>/dev/null) && [ -n "$url" ]; do
    kill -0 "$server" 2>/dev/null || { server= && die "the server did not start"; }
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || die "the server did not get ready within 30 seconds"
    sleep 0.1
done
say "1. annotmixd serves $url"
note "   database $dir/demo.db, log $dir/serve.log"

# ---- import --------------------------------------------------------------------------------------------------------
say "2. Import: digits, labels of twelve annotators, gold (gold is only used to score, never to train)"
"$program" import "$project" "$data" --db "$dir/demo.db" >"$dir/import.out" 2>&1 || die "import: $(tail -n 1 "$dir/import.out")"
call GET "/v1/projects/$project" |
    jq -r '.counts | "   \(.instances) instances, \(.labels) labels by \(.annotators) annotators, \(.gold) gold labels"'

# ---- train ---------------------------------------------------------------------------------------------------------
say "3. Train annot-mix"
run=$(call POST "/v1/projects/$project/training-runs" '{"settings":{"dropout":0.25}}' | jq -r .id)
etag=
while :; do
    # Answers at the first change after the state we have seen, or after a second.
    curl -sS --max-time 30 -D "$dir/head" -o "$dir/run.json" ${etag:+-H "If-None-Match: $etag"} \
        "$url/v1/projects/$project/training-runs/$run?wait=1" || die "no answer from $url"
    grep -q '^HTTP/[0-9.]* 304' "$dir/head" && continue
    grep -q '^HTTP/[0-9.]* 200' "$dir/head" || die "training run $run: $(jq -r .detail "$dir/run.json")"
    etag=$(tr -d '\r' <"$dir/head" | sed -n 's/^[Ee][Tt][Aa][Gg]: *//p')
    line=$(jq -r '.progress // {} | "\((.fraction // 0) * 100 | floor) \(.epoch // 0) \(.epochs // 0) " +
        "\(.labels_per_second // 0 | floor) \(.loss // 0)"' "$dir/run.json" | awk '{
        bar = ""; for (i = 0; i < 40; i++) bar = bar (i < $1 * 0.4 ? "#" : ".")
        printf "   [%s] %3d %%  epoch %d/%d  loss %.3f", bar, $1, $2, $3, $5
        if ($4 > 0) printf "  %d labels/s", $4 }')
    state=$(jq -r .state "$dir/run.json")
    if [ -t 1 ]; then printf '\r%s        ' "$line"; fi
    case $state in
    queued | running) ;;
    *) break ;;
    esac
done
if [ -t 1 ]; then echo; else echo "$line"; fi
[ "$state" = succeeded ] || die "training run $run $state: $(jq -r '.error // "no reason given"' "$dir/run.json")"
jq -r '"   model \(.model), active: \(.activated), trained on \(.labels_used) labels of \(.instances_used) instances"' "$dir/run.json"

# ---- how good ------------------------------------------------------------------------------------------------------
# Majority vote can only speak about instances with labels (train); the digits of the test part have none.
awk -F, 'FNR == 1 { next } FILENAME ~ /gold/ { gold[$1] = $2; next } { n[$1 "," $3]++; seen[$1] = 1; class[$3] = 1 }
    END { for (i in seen) { best = 0; ties = 0; hit = 0
            for (c in class) { v = n[i "," c]; if (v > best) { best = v; ties = 0; hit = 0 }
                               if (v == best && v > 0) { ties++; if (c == gold[i]) hit = 1 } }
            total++; right += hit / ties }
          printf "%.4f %d\n", right / total, total }' "$data/gold.csv" "$data/labels.csv" >"$dir/vote"
read -r vote vote_n <"$dir/vote"
label_accuracy=$(jq .label_accuracy "$data/meta.json")
accuracy=$(jq -r '.metrics.test.accuracy' "$dir/run.json")
say "4. How good is it, against gold it has never seen?"
jq -r --arg vote "$vote" --arg n "$vote_n" --arg single "$label_accuracy" '
    def percent: . * 1000 | round / 10 | tostring | if contains(".") then . else . + ".0" end;
    [["single labels", ($single | tonumber | percent), "4,137 labels of the train digits"],
     ["majority vote", ($vote | tonumber | percent), "\($n) train digits, ties split"],
     ["annot-mix", (.metrics.test.accuracy | percent), "\(.metrics.test.n) test digits that nobody labelled" +
        (.metrics.test.accuracy_interval // null | if . then ", 95 % interval \(.[0] | percent) to \(.[1] | percent)" else "" end)]]
    | .[] | @tsv' "$dir/run.json" | awk -F'\t' '{ printf "   %-14s %6s %%   %s\n", $1, $2, $3 }'

# ---- annotators ----------------------------------------------------------------------------------------------------
say "5. Whom to trust: the twelve annotators by reliability, beside their true accuracy (which the model was never told)"
call GET "/v1/projects/$project/reliability?limit=100" >"$dir/reliability.json"
jq -r --slurpfile meta "$data/meta.json" '.items | sort_by(-.reliability)[]
    | [.annotator, .labels, .reliability, $meta[0].annotator_accuracy[.annotator]] | @tsv' "$dir/reliability.json" |
    awk -F'\t' 'BEGIN { printf "   %-20s %6s  %11s  %13s\n", "annotator", "labels", "reliability", "true accuracy" }
        { bar = ""; for (i = 0; i < 20; i++) bar = bar (i < $3 * 20 ? "#" : ".")
          printf "   %-20s %6d  %11.3f  %13.3f  %s\n", $1, $2, $3, $4, bar }'

# ---- disagreements -------------------------------------------------------------------------------------------------
say "6. Five digits that the annotators disagree about, and what the model says"
# Most different answers first, then most labels, then by name: a fixed choice, not a flattering one.
awk -F, 'FNR > 1 { n[$1]++; if (!(($1, $3) in seen)) { seen[$1, $3] = 1; k[$1]++ } }
    END { for (i in n) if (k[i] > 2) print k[i], n[i], i }' "$data/labels.csv" |
    LC_ALL=C sort -k1,1nr -k2,2nr -k3,3 | head -n 5 | awk '{ print $3 }' >"$dir/five"
ids=$(jq -R . "$dir/five" | jq -sc 'map({id: .})')
call POST "/v1/projects/$project/predict" "{\"instances\":$ids}" >"$dir/predict.json"
# The pictures, five in a row: 8 x 8 counts of dark pixels, 0 to 16.
awk -F, 'FILENAME ~ /five/ { order[++m] = $1; next } { for (i = 1; i <= m; i++) if (order[i] == $1) row[i] = $0 }
    END { split(" ,.,:,-,=,+,*,#,@", shade, ",")
          for (y = 0; y < 8; y++) { line = "   "
              for (i = 1; i <= m; i++) { split(row[i], v, ",")
                  for (x = 0; x < 8; x++) { s = shade[1 + int(v[3 + 8 * y + x] / 2 + 0.5)]; line = line s s }
                  line = line "   " }
              sub(/ +$/, "", line); print line } }' "$dir/five" "$data/instances.csv"
awk -F, 'FILENAME ~ /five/ { order[++m] = $1; next } FNR == 1 { next }
    FILENAME ~ /gold/ { gold[$1] = $2; next } { said[$1] = said[$1] (said[$1] == "" ? "" : ", ") $2 " " $3 }
    END { for (i = 1; i <= m; i++) print order[i] "\t" gold[order[i]] "\t" said[order[i]] }' \
    "$dir/five" "$data/gold.csv" "$data/labels.csv" >"$dir/said"
jq -r '.predictions[] | [.class, .confidence] | @tsv' "$dir/predict.json" | paste "$dir/said" - |
    awk -F'\t' 'BEGIN { printf "\n   %-10s  %5s  %10s  %4s  %s\n", "digit", "model", "confidence", "gold", "labels" }
        { printf "   %-10s  %5s  %8.1f %%  %4s  %s\n", $1, $4, $5 * 100, $2, $3 }'

# ---- go on ---------------------------------------------------------------------------------------------------------
first=$(head -n 1 "$dir/five")
say "7. Go on by hand"
cat <<HERE
   curl -s $url/v1/projects/$project | jq
   curl -s $url/v1/projects/$project/reliability/expert-1 | jq
   curl -s $url/v1/projects/$project/consensus/$first | jq
   curl -s -H 'Content-Type: application/json' $url/v1/projects/$project/predict \\
     -d '{"instances":[{"id":"$first"}],"annotators":["expert-1","careless"],"return":["p_class","p_perf"]}' | jq
   curl -s -H 'Content-Type: application/json' $url/v1/projects/$project/labels \\
     -d '{"instance":"$first","annotator":"me","class":"3"}' | jq
   curl -s -X POST $url/v1/projects/$project/training-runs | jq
   status page: $url/      API document: $url/openapi.yaml
HERE

if [ -n "${DEMO_EXIT:-}" ]; then
    # For CI: the figures must be those of a working learner, not just figures.
    annotators=$(jq '.items | length' "$dir/reliability.json")
    awk -v a="$accuracy" -v n="$annotators" 'BEGIN { exit !(a >= 0.95 && n == 12) }' ||
        die "accuracy $accuracy (at least 0.95 expected), $annotators annotators (12 expected)"
    [ "$(jq -r '.items | max_by(.reliability).annotator' "$dir/reliability.json" | cut -c1-6)" = expert ] ||
        die "the most reliable annotator should be an expert"
    exit 0
fi
say "Serving on. Ctrl-C ends it."
wait "$server" || die "the server ended with status $?"
