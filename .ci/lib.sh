# Shared by .ci/run and .ci/full: suites, each with a time, a log and a count. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

target=${CARGO_TARGET_DIR:-$root/target}
venv=$target/ci-venv
logs=$target/ci-logs
mkdir -p "$logs"

# A skip is a failure, unless whoever runs this says otherwise.
export WALCAST_REQUIRE_ALL=${WALCAST_REQUIRE_ALL:-1}
# Runs can be repeated: the test kit and proptest take their seeds from here.
export WALCAST_SEED=${WALCAST_SEED:-20251125}
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$WALCAST_SEED}
export CARGO_TERM_COLOR=never
# Which tests run four at a time: .ci/runner.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$root/.ci/runner CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$root/.ci/runner
# A machine without Rust's own installer on PATH in a non-login shell.
if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then
    . "$HOME/.cargo/env"
fi

passed=0
failed=0
times=()
failures=()
declare -A beside began_at

# Reads what cargo's, Python's and Node's test runners print, and answers "passed failed skipped".
count_results() {
    awk '
        function number(name) {
            return match($0, name "=[0-9]+") ? substr($0, RSTART + length(name) + 1, RLENGTH - length(name) - 1) + 0 : 0
        }
        /^test result: / { passed += $4; failed += $6; skipped += $8 }
        /^Ran [0-9]+ tests? in / { ran += $2; passed += $2 }
        (/^FAILED \(/ || /^OK/) && ran {
            bad = number("failures") + number("errors") + number("unexpected successes")
            not_run = number("skipped")
            failed += bad; skipped += not_run; passed -= bad + not_run; ran = 0
        }
        /^# pass [0-9]+$/ { passed += $3 }
        /^# (fail|cancelled) [0-9]+$/ { failed += $3 }
        /^# skipped [0-9]+$/ { skipped += $3 }
        END { print passed + 0, failed + 0, skipped + 0 }
    ' "$1"
}

# What failed in a log, and how: of a run whose middle is cut off, its end must tell. Without a test's name, the end of it.
explain_failure() {
    awk '
        function keep(line) { if (kept < 60) { print "  " line; kept++ } }
        /^test .* \.\.\. FAILED$/ || /^not ok / || / panicked at / { keep($0); rest = 4; next }
        # unittest: everything from the first failure to the count.
        /^(ERROR|FAIL): / { report = 1 }
        /^Ran [0-9]+ tests? in / { report = 0 }
        report || rest-- > 0 { keep($0) }
        END { exit kept == 0 }
    ' "$1" || tail --lines=30 "$1" | sed 's/^/  /'
}

# suite NAME COMMAND...: runs a command to its end, at the latest until the deadline, and counts what it says.
suite() {
    local name=$1 log=$logs/$1.log began=${began_at[$1]:-$SECONDS} left=$((deadline - SECONDS)) status=0 good bad skipped
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if [ "$left" -le 0 ]; then
        echo "no time is left for it"
        failed=$((failed + 1))
        times+=("$(printf '%-10s %6s  %s' "$name" - 'not run: no time left')")
        return
    fi
    # timeout gives the command a process group of its own, so nothing that it started outlives it.
    timeout --kill-after=10 "$left" "$@" </dev/null 2>&1 | tee "$log" || status=$?
    read -r good bad skipped < <(count_results "$log")
    if [ "$skipped" -gt 0 ]; then
        printf '\n##### %s: %d SKIPPED #####\n' "$name" "$skipped"
        if [ "$WALCAST_REQUIRE_ALL" = 1 ]; then
            bad=$((bad + skipped))
        fi
    fi
    # A suite that counts nothing is one check; one that fails without a count (it did not compile) is a failure.
    if [ $((good + bad + skipped)) -eq 0 ] && [ "$status" -eq 0 ]; then
        good=1
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        printf '\n##### %s: stopped, the time was up #####\n' "$name"
    fi
    if [ "$bad" -gt 0 ]; then
        failures+=("$(printf '=== failed in %s:\n' "$name" && explain_failure "$log")")
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    times+=("$(printf '%-10s %4d s  %d passed, %d failed (exit %d)' "$name" $((SECONDS - began)) "$good" "$bad" "$status")")
    echo "--- ${times[-1]}"
}

# begin NAME COMMAND...: runs a command beside what comes next, for a `join` with its name.
begin() {
    local name=$1
    shift
    began_at[$name]=$SECONDS
    # The deadline of a suite that nobody joins is that of the run, too.
    (
        timeout --kill-after=10 $((deadline - SECONDS)) "$@" </dev/null && status=0 || status=$?
        echo "$name: ended with $status"
    ) >"$logs/$name.out" 2>&1 &
    beside[$name]=$!
}

# join NAME: what was begun is a suite like any other; its time is the whole.
join() {
    suite "$1" bash -c 'tail --pid="$1" --lines=+1 --follow "$2" && tail --lines=1 "$2" | grep --quiet --line-regexp "$3: ended with 0"' \
        join "${beside[$1]}" "$logs/$1.out" "$1"
}

# The times of all suites, and the line that counts. Fails if anything failed.
finish() {
    if [ ${#failures[@]} -gt 0 ]; then
        printf '\n%s\n' "${failures[@]}"
    fi
    printf '\n=== times, %d s in all, WALCAST_SEED=%s\n' "$SECONDS" "$WALCAST_SEED"
    printf '%s\n' "${times[@]}"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
