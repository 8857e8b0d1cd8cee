"""A worker pool of Ray actors on a cluster, each with reserved cores and GPUs.

Ray places the actors and restarts them elsewhere when a node is lost (``max_restarts``). Running tasks are retried by
`harness.distributed.executor`, not by Ray's ``max_task_retries``, which would wait for the same actor to be restarted
while others are idle.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from tempfile import TemporaryFile
from typing import IO, Any

from harness.distributed.executor import MAX_RESTARTS, Resources, TaskRunner, WorkerEvent, WorkerSpec, WorkerTask
from harness.registry.model_ref import missing_extra
from harness.types import PluginError, UserError

PROBE_SECONDS, IDLE_SECONDS = 5.0, 0.02
HEAD_TIMEOUT = 45.0
"""Seconds without the head or the own node before the run is aborted; Ray itself kills the process after 60."""


def connect(address: str | None) -> bool:
    """Connect to a Ray cluster.

    Args:
        address: of the cluster; ``auto`` for the one of this machine, None to start one for this process.

    Returns:
        Whether the connection was opened here; False if the process was connected already.

    Raises:
        UserError: Ray is not installed or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError(missing_extra("--executor ray", ["ray"], "ray")) from None
    if ray.is_initialized():
        return False
    if address and ":" in address and "://" not in address and not _answers(address):
        raise UserError(_no_cluster(address, "connection refused or timed out"))
    given = {"address": address} if address else {"address": "local", "include_dashboard": False}
    with TemporaryFile() as captured:
        try:
            with _stderr_to(captured):
                ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
            captured.seek(0)
            if b"Unauthenticated" in captured.read():  # for an explicit address Ray needs RAY_AUTH_MODE
                raise UserError(
                    f"The Ray cluster at {address} rejected the authentication token, or requires one; set "
                    f"RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN if ~/.ray/auth_token is not the cluster's token."
                ) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(_no_cluster(address or "this machine", reason)) from error
    return True


@contextmanager
def _stderr_to(file: IO[bytes]) -> Iterator[None]:
    """Redirect stderr to a file: Ray's native threads log every failed connection attempt there."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _answers(address: str) -> bool:
    """TCP probe with a short timeout; Ray itself would try for over a minute."""
    host, _, port = address.rpartition(":")

    async def probe() -> None:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PROBE_SECONDS)
        writer.close()

    try:
        asyncio.run(probe())
    except (OSError, ValueError, TimeoutError):
        return False
    return True


def _no_cluster(address: str, reason: str) -> str:
    return (
        f"No Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or omit --address to "
        f"start one for this command."
    )


class RayPool:
    """One Ray actor per worker."""

    def __init__(self, spec: WorkerSpec, resources: Resources, owned: bool) -> None:
        """Create the pool without starting it.

        Args:
            spec: how to create a worker.
            resources: requested workers, cores and GPUs.
            owned: whether `stop` closes the connection to the cluster, as returned by `connect`.

        Raises:
            UserError: no node of the cluster has the requested resources.
        """
        import ray

        self._ray: Any = ray
        self._owned, self._quiet = owned, ExitStack()
        try:
            self.size, each = _capacity(resources, [node["Resources"] for node in self._ray.nodes() if node["Alive"]])
        except UserError:
            if owned:
                ray.shutdown()
            raise
        self._actor = ray.remote(_Actor).options(
            num_cpus=resources.cpus,
            num_gpus=each,
            max_restarts=MAX_RESTARTS,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": spec.environment},
        )
        self._spec = spec  # passed by value, not ray.put: actors must restart after the node that created it is lost
        self._actors: list[Any] = []
        self._pending: dict[Any, tuple[int, str]] = {}
        self._head = str(getattr(ray.get_runtime_context(), "gcs_address", ""))  # ray:// does not know it
        self._probed = self._answered = time.monotonic()

    def start(self) -> None:
        """Request all actors; Ray starts each one when its resources are free."""
        if self._owned:
            self._quiet.enter_context(redirect_stdout(sys.stderr))  # Ray prints the output of its nodes
        self._actors = [self._actor.remote(self._spec) for _ in range(self.size)]
        for worker in range(self.size):
            self._await_ready(worker)

    def _await_ready(self, worker: int) -> None:
        method = self._actors[worker].ready.options(max_task_retries=-1)
        self._pending[method.remote()] = worker, "ready"

    def send(self, worker: int, task: WorkerTask) -> None:
        """Call the actor."""
        self._pending[self._actors[worker].perform.remote(task)] = worker, "done"

    def wait(self, seconds: float) -> list[WorkerEvent]:
        """Return the events of finished calls. PluginError if the cluster has not answered for `HEAD_TIMEOUT`."""
        self._check_cluster()
        references = list(self._pending)
        if not references:  # all workers are idle or dead
            time.sleep(min(seconds, IDLE_SECONDS))
            return []
        found, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        if not found:
            found, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        return [self._event(reference) for reference in found]

    def _check_cluster(self) -> None:
        now = time.monotonic()
        if not self._head or now - self._probed < PROBE_SECONDS:
            return
        self._probed = now
        if _answers(self._head) and self._attached():
            self._answered = now
        elif now - self._answered > HEAD_TIMEOUT:
            raise PluginError(
                f"The head of the Ray cluster ({self._head}), or this machine's node of it, has not answered for "
                f"{HEAD_TIMEOUT:.0f} seconds; finished work is kept, and the same command resumes on another cluster "
                f"or without --executor."
            )

    def _attached(self) -> bool:
        """Whether the node that connects this process to the cluster is alive."""
        own = self._ray.get_runtime_context().get_node_id()
        return any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == own)

    def _event(self, reference: Any) -> WorkerEvent:
        worker, kind = self._pending.pop(reference)
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if kind == "ready":  # Ray retries `ready` until it gives the actor up
                return WorkerEvent("dead", worker, reason=_reason(error))
            self._await_ready(worker)
            return WorkerEvent("lost", worker, reason=_reason(error))
        return WorkerEvent("ready", worker, reason=value) if kind == "ready" else WorkerEvent("done", worker, value)

    def stop(self) -> None:
        """Kill all actors and disconnect if the connection is owned."""
        with self._quiet:
            for actor in self._actors:
                with suppress(Exception):  # the cluster may have stopped
                    self._ray.kill(actor)
            self._actors.clear()
            if self._owned:
                self._ray.shutdown()


class _Actor(TaskRunner):
    """A task runner in a Ray actor."""

    def ready(self) -> str:
        return f"process {os.getpid()} on {platform.node()}"


def _capacity(resources: Resources, nodes: list[dict[str, float]]) -> tuple[int, float]:
    """Number of workers and GPUs per worker. UserError if no node has the resources for one worker."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    each = float(gpus > 0) if resources.gpus is None else resources.gpus
    if each > gpus:
        raise UserError(f"--gpus-per-task asks for {each:g}, but the cluster has {gpus:g}; omit it.")
    fits = 0
    for node in nodes:
        cores = node.get("CPU", 0) // resources.cpus
        fits += int(min(cores, node.get("GPU", 0) // each) if each else cores)
    if not fits:
        raise UserError(
            f"No node of the cluster has {resources.cpus} cores and {each:g} GPUs for a worker (the largest has "
            f"{max(node.get('CPU', 0) for node in nodes):g} cores); ask for less with --cpus-per-task."
        )
    return resources.workers or fits, each


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
