# shellcheck shell=bash
# What scripts/test and scripts/soak share. Sourced; works from the top of the checkout.

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
target_dir=${CARGO_TARGET_DIR:-$PWD/target}

# In CI a command that hangs is ended; at a desk Ctrl-C does that.
bounded() {
    if [[ -n ${CI:-} ]]; then
        timeout --kill-after=10 900 "$@"
    else
        "$@"
    fi
}

# Says whether a cargo sub-command is there, after trying to install it.
# An unoptimised build of the tool is slower by nothing that matters and ready in half the time.
ensure_cargo_tool() {
    local tool=$1
    cargo "$tool" --version >/dev/null 2>&1 && return
    echo "cargo-$tool is missing: installing it"
    env -u CARGO_TARGET_DIR cargo install --locked --debug "cargo-$tool"
}

# Says whether the nightly toolchain is there. It is never installed: it is the machine's choice.
have_nightly() {
    cargo +nightly --version >/dev/null 2>&1
}

have_simulator() {
    [[ -e engine/tests/sim.rs || -e engine/tests/sim/main.rs ]]
}

# run_simulator FIRST_SEED COUNT [TEST ...]: the simulator with all its optimisations, or only these tests.
# The whole workspace is named so that its dependencies are built once, with one set of features.
run_simulator() {
    echo "simulating seeds $1 to $(($1 + $2 - 1))"
    RAET_FIRST_SEED=$1 RAET_SEEDS=$2 \
        bounded cargo test --locked --release --workspace --test sim --quiet -- "${@:3}"
}

# run_restarts COUNT SEED: kills the two processes of the durable example COUNT times in all, at
# moments that the seed draws, lets them finish, and checks that each record had its effect once.
# One kill in eight takes both, and after one in eight the side stays away for up to a second.
run_restarts() {
    local restarts=$1 seed=$2 program=$target_dir/release/examples/durable
    bounded cargo build --locked --release --workspace --example durable || return
    (
        folder=$(mktemp -d)
        declare -A pids=()
        # Only what was started here is ended here.
        trap 'for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null; done; rm -rf "$folder"' EXIT
        start() {
            local words=(receive "$folder/receive")
            [[ $1 == receive ]] || words=(send "$folder/send" "$folder/receive")
            "$program" "${words[@]}" >>"$folder/$1.log" 2>&1 &
            pids[$1]=$!
        }
        # end SIDE: without a word of warning. A process that ended by itself broke down.
        end() {
            if ! kill -9 "${pids[$1]}" 2>/dev/null; then
                echo "the side that does '$1' ended by itself:"
                tail -n 5 "$folder/$1.log"
                exit 1
            fi
            { wait "${pids[$1]}" || true; } 2>/dev/null
            unset "pids[$1]"
        }
        # Its sequence of numbers follows from its seed.
        RANDOM=$seed
        sides=(receive send)
        start receive
        start send
        for ((round = 1; round <= restarts; round++)); do
            killed=("${sides[RANDOM % 2]}")
            printf -v delay '0.%03d' "$((RANDOM % 400))"
            printf -v away '0.%03d' "$((RANDOM % 1000))"
            case $((RANDOM % 8)) in
            0) killed=("${sides[@]}") away=0 ;;
            1) ;;
            *) away=0 ;;
            esac
            sleep "$delay"
            for side in "${killed[@]}"; do end "$side"; done
            sleep "$away"
            for side in "${killed[@]}"; do start "$side"; done
            ((round % 100 != 0)) || echo "$round of $restarts restarts, $SECONDS s"
        done
        end send
        words=(drain "$folder/send" "$folder/receive")
        accepted=$(timeout 120 "$program" "${words[@]}" 2>>"$folder/send.log") || {
            echo "what is left is not delivered, or not within 120 s; the last words of both sides:"
            tail -n 5 "$folder"/*.log
            exit 1
        }
        end receive
        ((accepted >= restarts)) || {
            echo "only $accepted records were accepted: the processes make no progress"
            exit 1
        }
        "$program" check "$folder/receive" "$folder/send"
    )
}

have_fuzz_targets() {
    [[ -e engine/fuzz/Cargo.toml ]]
}

fuzz_targets() {
    cargo +nightly fuzz list --fuzz-dir engine/fuzz
}

# run_fuzz_target NAME SECONDS: what it finds new stays below target/, so a run leaves the
# checkout as it was; the kept corpus and the dictionary are read only. A crash lands in
# engine/fuzz/artifacts.
run_fuzz_target() {
    local name=$1 seconds=$2
    local found=$target_dir/fuzz-corpus/$name
    local corpus=("$found")
    mkdir -p "$found"
    if [[ -d engine/fuzz/corpus/$name ]]; then
        corpus+=("engine/fuzz/corpus/$name")
    fi
    local dictionary=engine/fuzz/dictionaries/$name.dict options=()
    if [[ -e $dictionary ]]; then
        options+=("-dict=$dictionary")
    fi
    cargo +nightly fuzz run --fuzz-dir engine/fuzz "$name" "${corpus[@]}" -- "${options[@]}" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
}
