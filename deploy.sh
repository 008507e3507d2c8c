#!/usr/bin/env bash
# Builds the worker image, proves it by a real job, pushes it, and creates or updates its RunPod endpoint.
# REST API: https://rest.runpod.io/v1 (templates, endpoints). The key goes to curl alone, on its standard input.
set -Eeuo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'USAGE'
Usage: RUNPOD_API_KEY=... ./deploy.sh IMAGE:TAG [options]

Builds IMAGE:TAG, trains one model in it, pushes it, and creates or updates the endpoint. Run it again after a failure:
template and endpoint are found by name. A tag is needed, and not "latest": workers must all run the same image.

  --name NAME             endpoint and template (seedpod)
  --device gpu|cpu        what the image trains on (gpu)
  --datasets "A B"        prepared in the image (digits mnist)
  --gpus "TYPE,TYPE"      RunPod's GPU type ids, in order of preference
                          (NVIDIA RTX A4000,NVIDIA RTX A5000,NVIDIA L4,NVIDIA GeForce RTX 3090)
  --cpus "FLAVOR,FLAVOR"  RunPod's CPU flavours, with --device cpu (cpu3c,cpu5c)
  --vcpus N               cores of a CPU worker (2)
  --min-cuda VERSION      oldest CUDA version of a host's driver (12.5)
  --workers-max N         workers at one time (3)
  --concurrency N         trials that one worker trains side by side, 1 to 6 (1)
  --idle-timeout S        seconds that an idle worker is kept (5)
  --execution-timeout S   seconds after which RunPod ends a job (3600)
  --disk GB               container disk (20)
  --cache-gb GB           of it for data sets that searches bring along (10)
  --volume ID             network volume to mount; workers read data sets from it
  --no-flashboot          without RunPod's quick restarts
  --build-timeout S       seconds for the build, and for the push (3600)
  --smoke-timeout S       seconds for the trial job (600)
  --dry-run               print each step and change nothing
  --help
USAGE
}

NAME=seedpod DEVICE=gpu DATASETS="digits mnist" CPUS=cpu3c,cpu5c VCPUS=2 MIN_CUDA=12.5 WORKERS_MAX=3 CONCURRENCY=1
GPUS="NVIDIA RTX A4000,NVIDIA RTX A5000,NVIDIA L4,NVIDIA GeForce RTX 3090"
IDLE_TIMEOUT=5 EXECUTION_TIMEOUT=3600 DISK=20 CACHE_GB=10 FLASHBOOT=true BUILD_TIMEOUT=3600 SMOKE_TIMEOUT=600
DRY_RUN=false IMAGE='' VOLUME=''
API=${SEEDPOD_RUNPOD_REST:-https://rest.runpod.io/v1} # another one is for tests
HTTP_TIMEOUT=${SEEDPOD_HTTP_TIMEOUT:-60}              # seconds for one answer
KEY=${RUNPOD_API_KEY:-}
export -n RUNPOD_API_KEY # no program inherits it

STEP="read the arguments"
TOLD=false
SCRATCH=
CONTAINER=
OUTPUT=

fail() { # SENTENCE...
    TOLD=true
    printf 'deploy.sh: %s: %s\n' "$STEP" "$*" >&2
    exit 1
}

on_error() { # LINE COMMAND STATUS
    $TOLD || printf 'deploy.sh: %s: line %s, exit code %s: %s\n' "$STEP" "$1" "$3" "$2" >&2
    exit 1
}

clean_up() {
    if [ -n "$CONTAINER" ]; then timeout 30 docker rm --force "$CONTAINER" >/dev/null 2>&1 || true; fi
    if [ -n "$SCRATCH" ]; then rm -rf "$SCRATCH"; fi
}

trap 'on_error "$LINENO" "$BASH_COMMAND" "$?"' ERR
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    STEP=$1
    printf '== %s\n' "$STEP"
}

# Runs a program that takes long, for so many seconds at most; --dry-run prints it. What it prints goes to $OUTPUT,
# where that is set. In the foreground, so that Ctrl-C reaches it.
bounded() { # SECONDS PROGRAM...
    local limit=$1 status=0
    shift
    if $DRY_RUN; then
        printf '  would run:'
        printf ' %q' "$@"
        printf '\n'
        return
    fi
    if [ -n "$OUTPUT" ]; then
        timeout --foreground --kill-after=10 "$limit" "$@" >"$OUTPUT" || status=$?
    else
        timeout --foreground --kill-after=10 "$limit" "$@" || status=$?
    fi
    [ "$status" -ne 0 ] || return 0
    if [ -n "$OUTPUT" ]; then tail -n 20 "$OUTPUT" >&2; fi
    case $status in
        124 | 137) fail "$1 $2 was not done after $limit s." ;;
        *) fail "$1 $2 ended with exit code $status; its output is above." ;;
    esac
}

number() { # OPTION VALUE LOW HIGH
    if ! [[ $2 =~ ^[0-9]{1,7}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        fail "$1 $2: must be a whole number from $3 to $4."
    fi
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h | help) usage && exit 0 ;;
            --dry-run) DRY_RUN=true && shift && continue ;;
            --no-flashboot) FLASHBOOT=false && shift && continue ;;
            --name | --device | --datasets | --gpus | --cpus | --vcpus | --min-cuda | --workers-max | --concurrency | \
                --idle-timeout | --execution-timeout | --disk | --cache-gb | --volume | --build-timeout | --smoke-timeout)
                [ $# -ge 2 ] || fail "$1 needs a value; see --help."
                ;;
            -*) fail "there is no option $1; see --help." ;;
            *)
                [ -z "$IMAGE" ] || fail "one image alone, not also $1; see --help."
                IMAGE=$1
                shift
                continue
                ;;
        esac
        case $1 in
            --name) NAME=$2 ;;
            --device) DEVICE=$2 ;;
            --datasets) DATASETS=$2 ;;
            --gpus) GPUS=$2 ;;
            --cpus) CPUS=$2 ;;
            --vcpus) VCPUS=$2 ;;
            --min-cuda) MIN_CUDA=$2 ;;
            --workers-max) WORKERS_MAX=$2 ;;
            --concurrency) CONCURRENCY=$2 ;;
            --idle-timeout) IDLE_TIMEOUT=$2 ;;
            --execution-timeout) EXECUTION_TIMEOUT=$2 ;;
            --disk) DISK=$2 ;;
            --cache-gb) CACHE_GB=$2 ;;
            --volume) VOLUME=$2 ;;
            --build-timeout) BUILD_TIMEOUT=$2 ;;
            --smoke-timeout) SMOKE_TIMEOUT=$2 ;;
        esac
        shift 2
    done
}

check_arguments() {
    [ -n "$IMAGE" ] || fail "name the image, as in docker.io/you/seedpod-worker:0.1.0; see --help."
    [[ ${IMAGE##*/} == *:* && ${IMAGE##*:} != latest ]] || fail "$IMAGE: needs a tag of its own, and not latest."
    [[ $IMAGE =~ ^[a-z0-9][a-zA-Z0-9._/:-]*$ ]] || fail "$IMAGE: not an image's name."
    [[ $NAME =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$ ]] || fail "--name $NAME: must be letters, digits, dots and dashes."
    [[ $DEVICE == gpu || $DEVICE == cpu ]] || fail "--device $DEVICE: must be gpu or cpu."
    [[ $DATASETS =~ ^[a-z0-9_]+(\ [a-z0-9_]+)*$ ]] || fail "--datasets $DATASETS: must be names with spaces between."
    [[ $MIN_CUDA =~ ^[0-9]+\.[0-9]+$ ]] || fail "--min-cuda $MIN_CUDA: must be a version such as 12.5."
    number --vcpus "$VCPUS" 1 64
    number --workers-max "$WORKERS_MAX" 0 1000
    number --concurrency "$CONCURRENCY" 1 6
    number --idle-timeout "$IDLE_TIMEOUT" 1 3600
    number --execution-timeout "$EXECUTION_TIMEOUT" 5 604800
    number --disk "$DISK" 1 1000
    number --cache-gb "$CACHE_GB" 0 1000
    [[ $VOLUME =~ ^[A-Za-z0-9_-]*$ ]] || fail "--volume $VOLUME: must be a network volume's id."
    number --build-timeout "$BUILD_TIMEOUT" 1 86400
    number --smoke-timeout "$SMOKE_TIMEOUT" 1 86400
    [[ $API == https://* || $API == http://127.0.0.1:* ]] || fail "SEEDPOD_RUNPOD_REST=$API: must be https."
}

check_tools() {
    local tool
    for tool in docker curl python3 timeout; do
        command -v "$tool" >/dev/null || fail "$tool is not on PATH; install it."
    done
    [ -n "$KEY" ] || fail "RUNPOD_API_KEY is not set; make a key at https://console.runpod.io/user/settings."
    [[ $KEY =~ ^[A-Za-z0-9_.-]+$ ]] || fail "RUNPOD_API_KEY holds characters that no key has."
    timeout --kill-after=5 30 docker version >/dev/null 2>"$SCRATCH/docker" ||
        fail "the Docker engine does not answer: $(tail -n 1 "$SCRATCH/docker")"
    request GET endpoints # the key works, before anything takes an hour
}

# One request to the REST API; the answer, which must be JSON, lands in $SCRATCH/answer. GET and PATCH may be repeated
# without harm; a POST whose answer is lost may have made something, so it is sent once.
request() { # METHOD PATH [BODY-FILE]
    local method=$1 path=$2 status=0 code
    local options=(-q --silent --show-error --connect-timeout 10 --max-time "$HTTP_TIMEOUT" --request "$method"
        --output "$SCRATCH/answer" --write-out '%{http_code}' --config -)
    [ "$method" = POST ] || options+=(--retry 2 --retry-max-time "$HTTP_TIMEOUT")
    [ $# -lt 3 ] || options+=(--header 'Content-Type: application/json' --data-binary "@$3")
    : >"$SCRATCH/answer"
    code=$(printf 'header = "Authorization: Bearer %s"\n' "$KEY" |
        timeout --kill-after=5 $((3 * HTTP_TIMEOUT + 10)) curl "${options[@]}" "$API/$path" 2>"$SCRATCH/curl") ||
        status=$?
    local what="$method $API/${path%%\?*}"
    [ "$status" -eq 0 ] ||
        fail "$what: no answer: $(tail -n 1 "$SCRATCH/curl") (exit code $status).$(lost "$method")"
    case $code in
        2??) ;;
        401 | 403) fail "$what: HTTP $code: RunPod refuses the key; it needs the right to write endpoints." ;;
        *) fail "$what: HTTP $code: $(said).$(lost "$method")" ;;
    esac
    python3 -c 'import json, sys; json.load(open(sys.argv[1], "rb"))' "$SCRATCH/answer" 2>/dev/null ||
        fail "$what: HTTP $code, and the answer is not JSON: $(said).$(lost "$method")"
}

lost() { # METHOD
    [ "$1" != POST ] || printf ' It may have been made all the same; run this again, and it is found by name.'
}

# The beginning of an answer on one line, without the key should it hold it.
said() {
    printf '%s' "$KEY" | python3 -c '
import sys
text = open(sys.argv[1], "rb").read().decode(errors="replace").replace(sys.stdin.read() or "\0", "***")
print(" ".join(text.split())[:300] or "an empty answer", end="")' "$SCRATCH/answer"
}

# The id of the one thing of this name in the answered list; nothing where there is none. RunPod appends " -fb" to the
# name of an endpoint with FlashBoot.
FIND='
import json, sys
answer = json.load(open(sys.argv[1], "rb"))
if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
    sys.exit("the answer is not a list of objects.")
found = [str(one.get("id")) for one in answer if str(one.get("name", "")).removesuffix(" -fb") == sys.argv[2]]
if len(found) > 1:
    ids = ", ".join(found)
    sys.exit(f"{len(found)} are named {sys.argv[2]} ({ids}); delete all but one, or choose another --name.")
print(*found)
'

# The id of the one object that was answered.
TAKE_ID='
import json, re, sys
answer = json.load(open(sys.argv[1], "rb"))
found = answer.get("id") if isinstance(answer, dict) else None
if not isinstance(found, str) or not re.fullmatch("[A-Za-z0-9_-]+", found):
    sys.exit("the answer holds no id.")
print(found)
'

write_template() { # new|known
    python3 - "$SCRATCH/body" "$1" "$NAME" "$IMAGE" "$DISK" "$CONCURRENCY" "$DEVICE" "$CACHE_GB" <<'PY'
import json, sys

path, new, name, image, disk, concurrency, device, cache = sys.argv[1:]
body = {
    "name": name,
    "imageName": image,
    "containerDiskInGb": int(disk),
    "env": {"SEEDPOD_WORKER_CONCURRENCY": concurrency, "SEEDPOD_CACHE_GB": cache},
    "ports": [],
    "volumeInGb": 0,
}
if new == "new":
    body |= {"isServerless": True, "category": "NVIDIA" if device == "gpu" else "CPU"}
json.dump(body, open(path, "w"), indent=1)
PY
}

write_endpoint() { # new|known
    python3 - "$SCRATCH/body" "$1" "$TEMPLATE" "$NAME" "$DEVICE" "$GPUS" "$CPUS" "$VCPUS" "$MIN_CUDA" "$WORKERS_MAX" \
        "$CONCURRENCY" "$IDLE_TIMEOUT" "$EXECUTION_TIMEOUT" "$FLASHBOOT" "$VOLUME" <<'PY'
import json, sys

(path, new, template, name, device, gpus, cpus, vcpus, cuda, most, concurrency, idle, execution, flashboot,
 volume) = sys.argv[1:]
body = {
    "name": name,
    "templateId": template,
    "workersMin": 0,
    "workersMax": int(most),
    "idleTimeout": int(idle),
    "executionTimeoutMs": int(execution) * 1000,
    "flashboot": flashboot == "true",
    # A worker for each so many jobs in the queue: trials are long, so that waiting for a delay is time lost.
    "scalerType": "REQUEST_COUNT",
    "scalerValue": int(concurrency),
}
if device == "gpu":
    body |= {"gpuTypeIds": gpus.split(","), "gpuCount": 1, "minCudaVersion": cuda}
else:
    body |= {"cpuFlavorIds": cpus.split(","), "vcpuCount": int(vcpus)}
if volume:
    body["networkVolumeId"] = volume
if new == "new":
    body["computeType"] = device.upper()
json.dump(body, open(path, "w"), indent=1)
PY
}

# Creates the template or the endpoint, or updates it where there is one of this name; its id lands in $FOUND.
put() { # KIND LIST-PATH WRITER
    if $DRY_RUN; then
        "$3" new
        printf '  would look for %s in GET %s, and PATCH it, or POST %s:\n' "$NAME" "$API/$2" "$API/$1"
        cat "$SCRATCH/body"
        printf '\n'
        return
    fi
    request GET "$2"
    FOUND=$(python3 -c "$FIND" "$SCRATCH/answer" "$NAME" 2>"$SCRATCH/why") || fail "$(tail -n 1 "$SCRATCH/why")"
    if [ -n "$FOUND" ]; then
        "$3" known
        request PATCH "$1/$FOUND" "$SCRATCH/body"
        printf '  updated %s\n' "$FOUND"
    else
        "$3" new
        request POST "$1" "$SCRATCH/body"
        FOUND=$(python3 -c "$TAKE_ID" "$SCRATCH/answer" 2>"$SCRATCH/why") || fail "$(tail -n 1 "$SCRATCH/why") $(said)"
        printf '  created %s\n' "$FOUND"
    fi
}

build() {
    bounded "$BUILD_TIMEOUT" docker build --platform linux/amd64 --build-arg "DEVICE=$DEVICE" \
        --build-arg "DATASETS=$DATASETS" --tag "$IMAGE" .
}

# Prints, inside the container, a request for one epoch on the data set that it was built with.
REQUEST='
import json, os, sys
from pathlib import Path
from seedpod.trial import TrialRequest, TrialSpec
name = sys.argv[1]
manifest = json.loads((Path(os.environ["SEEDPOD_CACHE_DIR"]) / "datasets" / name / "manifest.json").read_text())
params = dict(conv_blocks=1, convs_per_block=1, filters_0=8, kernel_size=3, activation="relu", initializer="he_normal",
    normalization="none", residual=False, pooling="max", global_pooling=False, dense_layers=0, dropout=0.0,
    optimizer="adam", learning_rate=0.003, schedule="constant", warmup=0.0, batch_size=64, label_smoothing=0.0,
    augmentation=0.0, flip=False, epochs=1)
spec = TrialSpec(number=0, dataset=name, fingerprint=manifest["fingerprint"], params=params, seed=1, split_seed=1,
    objectives=("val_accuracy",), max_epochs=1, min_epochs=1, validation_split=0.2, max_parameters=10**7, max_seconds=0.0)
print(json.dumps({"input": TrialRequest(spec, 1, 300.0).to_wire()}))
'

# Reads how that job ended. The SDK prints its answer as a Python literal.
CHECK_JOB='
import ast, sys
text = open(sys.argv[1], errors="replace").read()
answers = [line.partition("Job result: ")[2] for line in text.splitlines() if "Job result: " in line]
try:
    result = ast.literal_eval(answers[-1])["output"]["result"]
    status, value, error = result["status"], result["value"], result["error"]
except (IndexError, ValueError, SyntaxError, KeyError, TypeError):
    sys.exit("the job gave no result: " + " ".join(text.split())[-500:])
if status != "complete" or not isinstance(value, float) or not 0 <= value <= 1:
    sys.exit(f"the trial of the job ended {status} with value {value!r}: {error}")
device = result["environment"].get("device")
print(f"  trained one epoch on {device}: validation accuracy {value:.3f}")
'

# Without a network: what a worker needs must be in the image.
smoke_test() {
    local job="<what the first run prints>"
    CONTAINER=seedpod-smoke-$$
    local run=(docker run --rm --name "$CONTAINER" --network none)
    $DRY_RUN || OUTPUT=$SCRATCH/job
    bounded 120 "${run[@]}" --entrypoint python "$IMAGE" -c "$REQUEST" "${DATASETS%% *}"
    $DRY_RUN || job=$(tail -n 1 "$OUTPUT")
    $DRY_RUN || OUTPUT=$SCRATCH/smoke
    bounded "$SMOKE_TIMEOUT" "${run[@]}" "$IMAGE" --test_input "$job"
    CONTAINER=
    if ! $DRY_RUN; then
        python3 -c "$CHECK_JOB" "$OUTPUT" 2>"$SCRATCH/why" || fail "$(tail -n 1 "$SCRATCH/why")"
    fi
    OUTPUT=
}

read_arguments "$@"
check_arguments
SCRATCH=$(mktemp -d)

step "check tools, engine and key"
if $DRY_RUN; then
    printf '  would look for docker, curl, python3, timeout and RUNPOD_API_KEY, and ask GET %s\n' "$API/endpoints"
else
    check_tools
fi
step "build $IMAGE ($DEVICE, with $DATASETS)"
build
step "train one model in the image"
smoke_test
step "push $IMAGE"
bounded "$BUILD_TIMEOUT" docker push "$IMAGE"
step "template $NAME"
FOUND="<the template's id>"
put templates 'templates?includeEndpointBoundTemplates=true' write_template
TEMPLATE=$FOUND
step "endpoint $NAME"
FOUND="<the endpoint's id>"
put endpoints endpoints write_endpoint

cat <<DONE

Endpoint: $FOUND
Next, with RUNPOD_API_KEY set:
  python optimizer.py dataset=${DATASETS%% *} use_runpod_service=true runpod_service_endpoint=$FOUND \\
      concurrent_workers=$((WORKERS_MAX * CONCURRENCY))
DONE
