"""A Slurm cluster of several nodes on one machine, with daemons, keys and ports of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "unshare")
GPU_NODES = ("gpu1", "gpu2", "gpu3")
NODES = (*GPU_NODES, "cpu1")

# Nodes have more CPUs than the machine (config_overrides), so that the rules' own threads fit, and
# GPUs that are not there. A job over its memory is killed, one of partition `urgent` sends others
# back to the queue, and they wait there for `cred_expire` seconds. No accounting.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
MinJobAge=3600
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes={gpu_nodes} PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={gpu_nodes} PriorityTier=2 MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=cpu1 MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=16 RealMemory=64000{gpus}"
)
# A node is a PID namespace: when its first process is killed, so are all others, as by a power cut.
POWERED = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def missing() -> str | None:
    """Why there can be no cluster here, if so."""
    for name in PROGRAMS:
        if shutil.which(name, path=_path()) is None:
            return f"no {name}: apt-get install slurm-wlm munge"
    if subprocess.run([*POWERED, "true"], capture_output=True, check=False).returncode:
        return "starting Slurm's daemons, each node in a PID namespace, takes root"
    return None


# What is shown of a job, as squeue names it.
FIELDS = (
    *("JobID", "Name", "Comment", "Partition", "State", "RestartCnt", "NodeList", "Reason"),
    *("MinMemory", "TimeLimit", "NumCPUs", "tres-per-job", "tres-per-node"),
)


@dataclass
class Job:
    """What Slurm knows of a job, and what it was asked to give it."""

    number: str
    run: str
    comment: str
    partition: str
    state: str
    restarts: str
    node: str
    reason: str
    memory: str
    runtime: str
    cpus: str
    gpus: str
    gres: str

    def __str__(self) -> str:
        asked = f"{self.cpus} CPUs, {self.memory}, {self.gpus} {self.gres}".replace("N/A", "")
        where = f"{self.partition:6} {self.node or '-':4} put back {self.restarts}"
        return (
            f"{self.number:>3} {self.run.partition('_')[0]:7} {self.rule:13} {where} times, "
            f"{self.state:9} {self.reason:16} asked for {asked}"
        )

    @property
    def rule(self) -> str:
        return self.comment.removeprefix("rule_").partition("_wildcards_")[0]


@dataclass
class Cluster:
    """A running cluster; commands reach it by ``environment``."""

    folder: Path
    environment: dict[str, str]
    nodes: dict[str, subprocess.Popen[bytes]]

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    def wait(self, until: Callable[[], bool], seconds: float = 120) -> None:
        """Until Slurm's answers say so."""
        end = time.monotonic() + seconds
        while True:
            with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
                if until():
                    return
            if time.monotonic() > end:
                logs = [f"{log}:\n{log.read_text()}" for log in self.folder.glob("*.log")]
                raise TimeoutError("\n".join(["waited in vain", *logs]))
            time.sleep(0.3)

    def jobs(self) -> list[Job]:
        """All jobs there have been."""
        columns = ",".join(f"{name}:120" for name in FIELDS)
        rows = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "-O", columns)
        return [
            Job(*(row[start : start + 120].strip() for start in range(0, 120 * len(FIELDS), 120)))
            for row in rows.splitlines()
        ]

    def power_off(self, node: str) -> None:
        """A node goes away with all that runs on it, and Slurm need not wait for its answers."""
        _kill(self.nodes[node])
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power cut")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster with the partitions ``gpu``, ``urgent`` (which preempts it) and ``cpu``."""
    # Not pytest's folder: a socket's path must be short, and munge wants all folders passable.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o711)
        environment = _configure(folder)

        def start(
            name: str, *command: str, end: Callable[[subprocess.Popen[bytes]], None] = _end
        ) -> subprocess.Popen[bytes]:
            log = daemons.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            daemons.callback(end, process)
            return process

        files = ("key", "pid", "log", "seed")
        options = [f"--{kind}-file={folder}/munge.{kind}" for kind in files]
        start("munged", "munged", "--foreground", f"--socket={folder}/munge.socket", *options)
        start("slurmctld", "slurmctld", "-D", "-i")
        nodes = {
            name: start(name, *POWERED, "slurmd", "-D", "-N", name, end=_kill) for name in NODES
        }
        found = Cluster(folder, environment, nodes)
        idle = ("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        found.wait(lambda: set(found.ask(*idle).split()) == set(NODES))
        yield found


def _path() -> str:
    """Where programs are; daemons lie in folders that a user's PATH may lack."""
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def _configure(folder: Path) -> dict[str, str]:
    """Write the cluster's files; the environment in which Slurm's commands find it."""
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(1 + len(NODES))
    rows = [
        NODE.format(name=name, host=host, port=port, gpus=" Gres=gpu:2" * (name in GPU_NODES))
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    content = CONFIGURATION.format(
        folder=folder,
        host=host,
        ports=ports,
        nodes="\n".join(rows),
        gpu_nodes=",".join(GPU_NODES),
    )
    (folder / "slurm.conf").write_text(content)
    (folder / "gres.conf").write_text(
        f"NodeName={','.join(GPU_NODES)} Name=gpu File={folder}/gpu[0-1]\n"
    )
    for gpu in range(2):
        os.mknod(folder / f"gpu{gpu}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    # Snakemake's plugin takes SLURM_CONF, as all of SLURM_*, from the srun that it calls in a job.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    real = shutil.which("srun", path=_path())
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
    srun.chmod(0o755)
    path = f"{srun.parent}{os.pathsep}{_path()}"
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
    return outer | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
