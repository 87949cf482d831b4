#!/usr/bin/env bash
# One run on all workers of a TPU pod, by gcloud. See --help.
set -euo pipefail

usage() {
    cat <<'HELP'
One run on all workers of a TPU pod.

usage: launch/tpu_pod.sh --tpu NAME [--zone ZONE] [--project PROJECT] [--install] [--dry_run] -- TRAIN_ARGUMENTS

  --tpu NAME         the TPU VM, which exists already (gcloud compute tpus tpu-vm create)
  --zone ZONE        where it is; without it, gcloud's own setting
  --project PROJECT  its project; without it, gcloud's own setting
  --dir DIR          the folder of the checkout on the workers (default: vsml)
  --install          first copy this checkout to all workers and install it there
  --dry_run          show the gcloud commands, run nothing

TRAIN_ARGUMENTS are those of `vsml train`. The run directory must be on a file system that all workers share, such as a
mounted bucket or NFS:

  launch/tpu_pod.sh --tpu my-pod --install -- recipes/quickstart.gin POPULATION=64 --run_dir /mnt/shared/quickstart

The same command again resumes the run. Ctrl-C here leaves the workers running; to make them save and stop:

  gcloud compute tpus tpu-vm ssh NAME --worker=all --command='pkill -TERM -f "vsml train"'
HELP
}

die() {
    printf 'tpu_pod.sh: %s\n' "$1" >&2
    exit 2
}

tpu="" dir="vsml" install=false dry_run=false
where=()
while (($#)); do
    case "$1" in
    --help | -h) usage && exit 0 ;;
    --tpu | --zone | --project | --dir)
        [[ $# -ge 2 ]] || die "$1 needs a value"
        case "$1" in
        --tpu) tpu="$2" ;;
        --dir) dir="$2" ;;
        *) where+=("$1=$2") ;;
        esac
        shift 2
        ;;
    --install) install=true && shift ;;
    --dry_run) dry_run=true && shift ;;
    --) shift && break ;;
    *) die "unknown argument $1: --help shows the usage; arguments of the run follow --" ;;
    esac
done
[[ -n "$tpu" ]] || die "--tpu NAME is missing: --help shows the usage"
(($#)) || die "no recipe: arguments of the run follow --"

run() {
    if "$dry_run"; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

on_all_workers() {
    run gcloud compute tpus tpu-vm ssh "$tpu" ${where[@]+"${where[@]}"} --worker=all --command="$1"
}

$dry_run || command -v gcloud >/dev/null || die "gcloud is not installed"
if "$install"; then
    archive="$(mktemp)"
    trap 'rm -f "$archive"' EXIT
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    run git -C "$root" archive --format=tar.gz --output="$archive" HEAD
    run gcloud compute tpus tpu-vm scp "$archive" "$tpu:vsml.tar.gz" ${where[@]+"${where[@]}"} --worker=all
    on_all_workers "mkdir -p $(printf %q "$dir") && tar -xzf vsml.tar.gz -C $(printf %q "$dir") && \
cd $(printf %q "$dir") && python3 -m venv .venv && \
.venv/bin/pip install --quiet -c constraints.txt -e . 'jax[tpu]'"
fi
# On a TPU pod JAX finds the other workers by itself.
on_all_workers "cd $(printf %q "$dir") && .venv/bin/python -m vsml train$(printf ' %q' "$@") --distributed"
