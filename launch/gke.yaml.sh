#!/usr/bin/env bash
# A JobSet of one or more TPU slices for Google Kubernetes Engine: prints its manifest, or hands it to kubectl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/gke.yaml.sh
# shellcheck source=launch/flags.sh
source launch/flags.sh

usage() {
  cat <<END
bash launch/gke.yaml.sh ACTION --name NAME [--namespace default] [--dry-run] [CONFIG [its flags]]
  manifest CONFIG  prints what \`apply\` applies
  apply CONFIG     --image IMAGE (from launch/Dockerfile) --accelerator tpu-v5-lite-podslice --topology 4x4
                   [--slices 1] [--chips-per-host 4] [--service-account NAME] [--spot]
                   [--max-restarts 10] (100 with --spot, as each preemption counts) [--unchecked]
                   [--bucket NAME], which is the folder bucket/ of each pod: --train.directory bucket/runs/base
  status           the JobSet and its pods
  logs             follows the first host of the first slice
  delete           the JobSet; node pools without autoscaling go on costing money
END
}

FLAGS="--name, --namespace, --image, --accelerator, --topology, --slices, --chips-per-host, --service-account, --bucket"
FLAGS="$FLAGS, --spot, --max-restarts, --unchecked, --dry-run"
ACTIONS="manifest, apply, status, logs, delete"
action="" name="" namespace=default image="" accelerator="" topology="" slices=1 chips_per_host=4
service_account="" bucket="" spot="" max_restarts="" unchecked="" directory=""

# A string of YAML.
text() {
  printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

manifest() {
  local word
  cat <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(text "$name")
  namespace: $(text "$namespace")
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  # A pod that is lost or fails takes all of them back to the last checkpoint, so many times, as does one that waited for
  # others in vain (status 75); status 2, a user's mistake, ends the JobSet at once.
  failurePolicy:
    maxRestarts: $max_restarts
    rules:
      - name: mistake
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: slice
      replicas: $slices
      template:
        spec:
          completions: $hosts
          parallelism: $hosts
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: train
                  operator: In
                  values: [2]
          template:
END
  [ -z "$bucket" ] || cat <<END
            metadata:
              annotations:
                gke-gcsfuse/volumes: "true"
END
  cat <<END
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 600
END
  [ -z "$bucket" ] || cat <<END
              volumes:
                - name: bucket
                  csi:
                    driver: gcsfuse.csi.storage.gke.io
                    volumeAttributes:
                      bucketName: $(text "$bucket")
                      mountOptions: implicit-dirs,rename-dir-limit=200000,metadata-cache:ttl-secs:0
END
  [ -z "$service_account" ] || echo "              serviceAccountName: $(text "$service_account")"
  cat <<END
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $(text "$accelerator")
                cloud.google.com/gke-tpu-topology: $(text "$topology")
END
  [ -z "$spot" ] || echo '                cloud.google.com/gke-spot: "true"'
  cat <<END
              containers:
                - name: train
                  image: $(text "$image")
                  env: # images may take long to come, and nodes longer
                    - name: T5LIKE_START_SECONDS
                      value: "1800"
                  ports:
                    - containerPort: 8471
                    - containerPort: 8080
END
  [ -z "$bucket" ] || cat <<END
                  volumeMounts:
                    - name: bucket
                      mountPath: /t5like/bucket
END
  cat <<END
                  resources:
                    requests:
                      google.com/tpu: $chips
                    limits:
                      google.com/tpu: $chips
                  command: [t5like, train]
                  args:
END
  for word in "$config" ${overrides[@]+"${overrides[@]}"}; do
    echo "                    - $(text "$word")"
  done
}

# Hosts of a slice and chips of a host, from the topology.
divide() {
  case $topology in
    *[!0-9x]* | x* | *x | *xx*) fail "--topology $topology is none: write chips along each axis, such as 4x4 or 4x4x8." ;;
  esac
  case $slices$chips_per_host$max_restarts in
    *[!0-9]*) fail "--slices, --chips-per-host and --max-restarts are numbers, not $slices, $chips_per_host and $max_restarts." ;;
  esac
  local all=$((${topology//x/*}))
  chips=$((all < chips_per_host ? all : chips_per_host))
  [ "$slices" -gt 0 ] && [ "$chips" -gt 0 ] || fail "a slice has at least one chip, and there is at least one slice."
  hosts=$((all / chips))
  [ $((hosts * chips)) = "$all" ] ||
    fail "$topology has $all chips, which hosts of $chips do not divide: give the machine type's --chips-per-host."
}

parse "$@"
[ -n "$max_restarts" ] || max_restarts=$([ -n "$spot" ] && echo 100 || echo 10)
need name "a name for the JobSet"
pods=jobset.sigs.k8s.io/jobset-name=$name
case $action in
  manifest | apply)
    need image "what was built from launch/Dockerfile and pushed"
    need accelerator "the label of the node pool, such as tpu-v5-lite-podslice"
    need topology "that of the node pool, such as 4x4"
    [ -n "${config-}" ] || fail "$action needs a CONFIG at the end, such as configs/t5_1_1_base.py."
    divide
    ;;
esac
case $action in
  manifest) manifest ;;
  apply)
    case $accelerator in
      tpu-v4-* | tpu-v5-lite-podslice | tpu-v5p-* | tpu-v6e-* | tpu7x) check_config "$accelerator:$topology" "$slices" ;;
      *) check_config ;;
    esac
    require_kept
    [ -z "$dry_run" ] || manifest | sed 's/^/# /'
    run kubectl apply --filename=- <<< "$(manifest)"
    ;;
  status)
    run kubectl get jobset "$name" --namespace="$namespace"
    run kubectl get pods --namespace="$namespace" --selector="$pods"
    ;;
  logs)
    run kubectl logs --namespace="$namespace" --follow --tail=100 \
      --selector="$pods,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) run kubectl delete jobset "$name" --namespace="$namespace" ;;
esac
