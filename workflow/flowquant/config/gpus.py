"""How many GPUs Snakemake's jobs share on this machine, and whether that is enough for them."""

from __future__ import annotations

from typing import Any

from flowquant.config.run import Run
from flowquant.runtime import gpus
from flowquant.runtime.errors import UserError


def share_gpus(workflow: Any, run: Run) -> None:
    """Tell Snakemake of this machine's GPUs, unless ``--resources`` or a profile says how many.

    Without any, jobs that would use one use the CPU, one at a time. Jobs of a cluster are its own
    scheduler's, and another workflow that uses this one says itself what its jobs share.

    Raises:
        UserError: if jobs are to use more GPUs together than there are. Snakemake would lower what
            they ask for without a word.
    """
    on_cluster = workflow.resource_settings.nodes is not None
    ours = workflow.is_main_process and workflow.modifier.is_main_snakefile()
    if on_cluster or not ours or not run.gpus:
        return
    found, said = gpus.count(), workflow.global_resources.get("gpu")
    # Earlier versions of Snakemake have the number itself, or None.
    said = getattr(said, "value", said)
    if said is None:
        workflow.register_resource("gpu", max(found, 1))
    allowed = found if said is None else min(found, said)
    if not found:
        return
    asked = [(f"key `{key}`", devices) for key, devices in run.devices()]
    for where, devices in [*asked, *_by_hand(workflow)]:
        if devices > allowed:
            raise UserError(
                where,
                found=str(devices),
                expected=f"at most {allowed}, the GPUs "
                + ("of this machine" if allowed == found else f"of `--resources gpu={allowed}`"),
                remedy="Set it to that, which makes nothing stale, or run where there are more.",
            )


def _by_hand(workflow: Any) -> list[tuple[str, int]]:
    """GPUs that the command line asks for itself: where it does, and how many a job."""
    found = []
    for rule, resources in workflow.resource_settings.overwrite_resources.items():
        value = getattr(resources.get("gpu"), "value", resources.get("gpu"))
        if isinstance(value, int):
            found.append((f"`--set-resources {rule}:gpu`", value))
    return found
