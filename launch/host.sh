#!/usr/bin/env bash
# What tpu_vm.sh and tpu_pod.sh do on each host of a TPU: install | start COMMAND | logs | last | status | stop.
# The supervisor is systemd: it restarts the command after failures and reboots, but not when it ended well, was stopped,
# or ended with status 2, a user's mistake. After ten failures in six hours it gives up, so that a bug costs no more.
# BUCKET=name makes that bucket the folder bucket/, by Cloud Storage FUSE, which all hosts share and which outlives them.
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
  [ -z "${BUCKET-}" ] || command -v gcsfuse > /dev/null || install_gcsfuse
  PYTHON=$(find_python)
  export PYTHON EXTRAS=${EXTRAS-tpu}
  # shellcheck source=launch/environment.sh
  source launch/environment.sh
}

install_gcsfuse() {
  mkdir -p build
  local key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  curl --silent --show-error --fail "$packages/doc/apt-key.gpg" | sudo tee "$key" > /dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(. /etc/os-release && echo "$VERSION_CODENAME") main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list
  sudo apt-get update --quiet
  sudo apt-get install --quiet --yes gcsfuse
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
StartLimitIntervalSec=6h
StartLimitBurst=10

[Service]
User=$(id -un)
WorkingDirectory=$PWD
# Hosts that come back after a preemption come one after the other, and those that wait in vain would end with status 2.
Environment=T5LIKE_START_SECONDS=1800
ExecStart=/bin/bash $PWD/build/train.sh
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

case ${1-} in
  install) install ;;
  start) shift && start "$@" ;;
  logs) exec sudo journalctl --unit=t5like --follow --lines=100 --output=cat ;;
  last) sudo journalctl --unit=t5like --lines=50 --output=cat --no-pager ;;
  status) status ;;
  stop)
    sudo systemctl disable --quiet --now t5like
    status
    ;;
  *) fail "say one of install, start, logs, last, status, stop." ;;
esac
