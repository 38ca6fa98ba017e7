#!/usr/bin/env bash
# What tpu_vm.sh and tpu_pod.sh do on each host of a TPU: install | start COMMAND | logs | last | status | stop | end.
# The supervisor is systemd: it restarts the command after failures and reboots, but not when it ended well, was stopped,
# or ended with status 2, a user's mistake. After ten failures in six hours it gives up, so that a bug costs no more.
# BUCKET=name makes that bucket the folder bucket/, by Cloud Storage FUSE, which all hosts share and which outlives them.
# TPU="queued-resources NAME --zone=ZONE" (or "tpu-vm ...") has this host delete that resource, itself with it, when the
# run has ended for good, as the service account of the host may; DIRECTORY/hosts, if given, gets its last lines before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/host.sh
# shellcheck source=launch/dry_run.sh
source launch/dry_run.sh

# A Python that environment.sh knows; the images of TPUs may have an older one, and uv brings another.
find_python() {
  local version
  for version in 3.12 3.13 3.11; do
    if "python$version" -c "import ensurepip, venv" 2> /dev/null; then
      echo "python$version"
      return
    fi
  done
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  python3 -m uv python install --quiet 3.12
  python3 -m uv python find 3.12
}

install() {
  [ -z "${BUCKET-}" ] || command -v gcsfuse > /dev/null || install_package gcsfuse "gcsfuse-$(codename)"
  if [ -n "${TPU-}" ]; then
    command -v gcloud > /dev/null || install_package google-cloud-cli cloud-sdk
    resource describe > /dev/null ||
      fail "the service account of $(hostname) may not see its TPU: give it the role roles/tpu.admin, or leave out --delete-at-end." 1
  fi
  PYTHON=$(find_python)
  export PYTHON EXTRAS=${EXTRAS-tpu}
  # shellcheck source=launch/environment.sh
  source launch/environment.sh
}

codename() {
  . /etc/os-release && echo "$VERSION_CODENAME"
}

# A package of one of Google's repositories.
install_package() {
  local key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  curl --silent --show-error --fail "$packages/doc/apt-key.gpg" | sudo tee "$key" > /dev/null
  echo "deb [signed-by=$key] $packages $2 main" | sudo tee "/etc/apt/sources.list.d/$1.list"
  sudo apt-get update --quiet
  sudo apt-get install --quiet --yes "$1"
}

# Describes or deletes what this host is a part of.
resource() {
  local action=$1 words
  shift
  read -r -a words <<< "$TPU"
  gcloud compute tpus "${words[0]}" "$action" "${words[@]:1}" --quiet "$@"
}

# Orbax renames folders when a checkpoint is complete, and hosts must see at once what another has written.
bucket_unit() {
  cat <<END
[Unit]
Description=The bucket of t5like
Wants=network-online.target
After=network-online.target

[Service]
User=$(id -un)
ExecStartPre=-/bin/fusermount -u -z $PWD/bucket
ExecStart=$(command -v gcsfuse) --foreground --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 \
  $BUCKET $PWD/bucket
Restart=always
RestartSec=5
END
}

unit() {
  cat <<END
[Unit]
Description=t5like train
Wants=network-online.target
After=network-online.target
${BUCKET:+Requires=t5like-bucket.service
After=t5like-bucket.service}
${TPU:+OnFailure=t5like-end.service}
StartLimitIntervalSec=6h
StartLimitBurst=10

[Service]
User=$(id -un)
WorkingDirectory=$PWD
# Hosts that come back after a preemption come one after the other. One that waits in vain ends with status 75, and waits
# anew.
Environment=T5LIKE_START_SECONDS=1800
ExecStart=/bin/bash $PWD/build/train.sh
${TPU:+ExecStopPost=+/bin/bash $PWD/launch/host.sh ended}
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=${RESTART_SECONDS:-20}
KillMode=mixed
TimeoutStopSec=15min
LimitMEMLOCK=infinity
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
END
}

# Started when the run has finished, or is not tried again; what it cannot do it does a minute later.
end_unit() {
  cat <<END
[Unit]
Description=The end of t5like's TPU
StartLimitIntervalSec=0

[Service]
Type=oneshot
User=$(id -un)
WorkingDirectory=$PWD
ExecStart=/bin/bash $PWD/build/end.sh
Restart=on-failure
RestartSec=60
END
}

# What the supervisor runs. Without the bucket it fails, and is tried again.
program() {
  quote export "PATH=$PWD/.venv/bin:$PATH" PYTHONUNBUFFERED=1
  [ -z "${BUCKET-}" ] || echo 'timeout 60 bash -c "until mountpoint --quiet bucket; do sleep 1; done" || exit 1'
  echo "exec $(quote "$@")"
}

start() {
  [ $# -gt 0 ] || fail "start needs the command to run."
  mkdir -p build
  program "$@" > build/train.sh
  unit > build/t5like.service
  if [ -n "${BUCKET-}" ]; then
    mkdir -p bucket
    bucket_unit > build/t5like-bucket.service
  fi
  rm -f build/t5like-end.service
  if [ -n "${TPU-}" ]; then
    quote export "PATH=$PATH" "TPU=$TPU" "DIRECTORY=${DIRECTORY-}" > build/end.sh
    echo "exec bash launch/host.sh end" >> build/end.sh
    end_unit > build/t5like-end.service
  fi
  sudo cp build/t5like*.service /etc/systemd/system/
  sudo systemctl daemon-reload
  sudo systemctl reset-failed t5like 2> /dev/null || true
  sudo systemctl enable --quiet t5like
  [ -z "${BUCKET-}" ] || sudo systemctl restart t5like-bucket
  sudo systemctl restart t5like
  echo "$(hostname): started"
}

# One word of the run for people and for `tpu_pod.sh keep`.
status() {
  local active result code
  active=$(systemctl show t5like --property=ActiveState --value)
  result=$(systemctl show t5like --property=Result --value)
  code=$(systemctl show t5like --property=ExecMainStatus --value)
  case $active-$result-$code in
    active-* | activating-* | deactivating-* | reloading-*) echo "$(hostname): running" ;;
    inactive-success-0) [ -f build/train.sh ] && echo "$(hostname): finished" || echo "$(hostname): not started" ;;
    *-2) echo "$(hostname): refused, exit status 2" ;;
    *-15 | *-130 | *-143) echo "$(hostname): stopped" ;;
    *) echo "$(hostname): failed, $result, exit status $code" ;;
  esac
}

last() {
  sudo journalctl --unit=t5like --lines=50 --output=cat --no-pager
}

# Told by the supervisor, as root, whenever the run has ended; one that failed for good is OnFailure's.
ended() {
  [ "${EXIT_STATUS-}" != 0 ] || systemctl start --no-block t5like-end
}

# Keeps the last lines, since they go with the host, then deletes it and all others of the resource. Whoever watches the
# run has a minute to see how it ended, and other hosts to write what they have; a run that goes on is left alone.
end() {
  local file
  sleep 60
  case $(status) in
    *finished* | *refused* | *failed*) ;;
    *) return ;;
  esac
  file=${DIRECTORY:+$DIRECTORY/hosts/$(hostname).log}
  case $file in
    "") ;;
    gs://*) last | gcloud storage cp - "$file" || true ;;
    /mnt/*) { mkdir -p "${file%/*}" && last > "$file"; } || true ;;
  esac
  case $TPU in
    queued-resources*) resource delete --force ;;
    *) resource delete ;;
  esac
}

case ${1-} in
  install) install ;;
  start) shift && start "$@" ;;
  logs) exec sudo journalctl --unit=t5like --follow --lines=100 --output=cat ;;
  last | status | ended | end) "$1" ;;
  stop)
    sudo systemctl disable --quiet --now t5like
    status
    ;;
  *) fail "say one of install, start, logs, last, status, stop, end." ;;
esac
