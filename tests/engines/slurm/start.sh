#!/usr/bin/env bash
# A real Slurm on this machine's loopback, for tests: root, Debian's packages, no systemd, no cgroups, no database.
#   start.sh install   install the daemons by apt when they are not there
#   start.sh up DIR    munged, slurmctld and NODES slurmd (default 4, CPUS each), all files in DIR; prints SLURM_CONF
#   start.sh down DIR  end what `up` started there
set -euo pipefail
NODES=${NODES:-4} CPUS=${CPUS:-1} MEM=${MEM:-1500} WAIT=${WAIT:-60}

fail() { echo "start.sh: $*" >&2; exit 1; }

install() {
  command -v slurmctld slurmd sbatch munged >/dev/null && return
  [ "$(id -u)" -eq 0 ] || fail "Slurm is not installed, and only root may install it"
  command -v apt-get >/dev/null || fail "Slurm is not installed, and there is no apt to install it with"
  apt-get update -qq >/dev/null 2>&1 || true
  # the packages start services where they can; this keeps them from it
  local policy=/usr/sbin/policy-rc.d mine=""
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; mine=1; fi
  local code=0
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends \
    munge slurmctld slurmd slurm-client >/dev/null 2>&1 || code=$?
  [ -z "$mine" ] || rm -f $policy
  [ $code -eq 0 ] || fail "apt could not install munge slurmctld slurmd slurm-client"
}

configuration() {
  local dir=$1 host port
  host=$(hostname -s)
  port=$((20000 + $$ % 20000))
  cat <<CONF
ClusterName=grader
SlurmctldHost=$host(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
SlurmctldPort=$port
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdTimeout=60
InactiveLimit=0
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,sched_min_interval=100000,batch_sched_delay=0
NodeName=n[1-$NODES] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + NODES))] CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 DefMemPerCPU=$((MEM / CPUS)) State=UP
CONF
}

up() {
  local dir=$1 i
  mkdir -p "$dir/state" "$dir/munge"
  chmod 755 "$dir"
  chmod 700 "$dir/munge"
  dd if=/dev/urandom of="$dir/munge/munge.key" bs=128 count=1 status=none
  chmod 400 "$dir/munge/munge.key"
  munged --force --key-file="$dir/munge/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/munged.seed"
  configuration "$dir" >"$dir/slurm.conf"
  export SLURM_CONF=$dir/slurm.conf
  slurmctld -f "$SLURM_CONF"
  for i in $(seq 1 "$NODES"); do mkdir -p "$dir/spool-n$i"; slurmd -f "$SLURM_CONF" -N "n$i"; done
  for i in $(seq 1 $((WAIT * 2))); do
    [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -lt "$NODES" ] || { echo "$SLURM_CONF"; return; }
    sleep 0.5
  done
  tail -n 20 "$dir"/*.log >&2
  fail "the nodes are not idle after $WAIT s"
}

down() {
  local dir=$1 file pids="" pid alive
  export SLURM_CONF=$dir/slurm.conf
  if [ -s "$dir/slurmctld.pid" ]; then timeout 10 scancel --state=PENDING,RUNNING --user=root 2>/dev/null || true; sleep 1; fi
  for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munged.pid"; do
    [ ! -s "$file" ] || pids="$pids $(cat "$file")"
  done
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  for _ in $(seq 100); do
    alive=""
    for pid in $pids; do ! kill -0 "$pid" 2>/dev/null || alive="$alive $pid"; done
    [ -n "$alive" ] || break
    sleep 0.1
  done
  for pid in $alive; do kill -9 "$pid" 2>/dev/null || true; done
}

case "${1:-}" in
  install) install ;;
  up) up "$2" ;;
  down) down "$2" ;;
  *) sed -n 2,5p "$0" >&2; exit 2 ;;
esac
