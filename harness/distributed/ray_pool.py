"""Workers as Ray actors: anywhere on a cluster, each with the cores and GPUs it was promised.

Ray places them, starts them anew elsewhere when a node is lost (``max_restarts``) and tells of both. Only the task in
hand is handed out again here and not by Ray's ``max_task_retries``: that would wait for the same actor, for which a
smaller cluster may have no place, while others are free.
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

from harness.distributed.executor import RESTARTS, Call, Event, Hands, Station, Task
from harness.registry.model_ref import missing_extra
from harness.types import PluginError, UserError

KNOCK_SECONDS, IDLE_SECONDS = 5.0, 0.02
HEAD_SECONDS = 45.0
"""Without the head or its own node, after which a command ends: without a head, Ray ends the process after 60."""


def connect(address: str | None) -> bool:
    """Connects to the cluster at ``address`` (``auto``: the one of this machine), or to one started here; says whether
    that was needed.

    UserError where Ray is not installed or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError(missing_extra("--executor ray", ["ray"], "ray")) from None
    if ray.is_initialized():
        return False
    if address and ":" in address and "://" not in address and not _answers(address):
        raise UserError(_silent(address, "nothing listens there"))
    given = {"address": address} if address else {"address": "local", "include_dashboard": False}
    with TemporaryFile() as heard:
        try:
            with _into(heard):
                ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
            heard.seek(0)
            if b"Unauthenticated" in heard.read():  # Ray gives its token to no address that was typed, unless told to
                raise UserError(
                    f"The Ray cluster at {address} asks for another token than it got, or for one at all; set "
                    f"RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is not the cluster's."
                ) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(_silent(address or "this machine", reason)) from error
    return True


@contextmanager
def _into(heard: IO[bytes]) -> Iterator[None]:
    """Lets a file have what is written to stderr: Ray's own threads say there every second why they do not get in."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(heard.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _answers(address: str) -> bool:
    """Whether anything listens there, asked with little patience: Ray itself would try for over a minute."""
    host, _, port = address.rpartition(":")

    async def knock() -> None:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), KNOCK_SECONDS)
        writer.close()

    try:
        asyncio.run(knock())
    except (OSError, ValueError, TimeoutError):
        return False
    return True


def _silent(address: str, reason: str) -> str:
    return (
        f"No Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or leave --address away "
        f"to have one for this command."
    )


class RayCrew:
    """One actor for each worker."""

    def __init__(self, call: Call, hands: Hands, owned: bool) -> None:
        """``owned``: whether the connection (`connect`) ends with the crew. UserError where the cluster has not what a
        worker needs."""
        import ray

        self._ray: Any = ray
        self._owned, self._quiet = owned, ExitStack()
        try:
            self.size, each = _room(hands, [node["Resources"] for node in self._ray.nodes() if node["Alive"]])
        except UserError:
            if owned:
                ray.shutdown()
            raise
        self._actor = ray.remote(_Actor).options(
            num_cpus=hands.cpus,
            num_gpus=each,
            max_restarts=RESTARTS,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": call.environment},
        )
        self._call = call  # an argument, not ray.put: an actor must be startable when the node that made it is lost
        self._actors: list[Any] = []
        self._awaited: dict[Any, tuple[int, str]] = {}
        self._head = str(getattr(ray.get_runtime_context(), "gcs_address", ""))  # ray:// does not know it
        self._knocked = self._heard = time.monotonic()

    def start(self) -> None:
        """Asks for every actor; those that find no place yet come when there is one."""
        if self._owned:
            self._quiet.enter_context(redirect_stdout(sys.stderr))  # Ray prints what its nodes have to say
        self._actors = [self._actor.remote(self._call) for _ in range(self.size)]
        for worker in range(self.size):
            self._greet(worker)

    def _greet(self, worker: int) -> None:
        method = self._actors[worker].ready.options(max_task_retries=-1)
        self._awaited[method.remote()] = worker, "ready"

    def send(self, worker: int, task: Task) -> None:
        """Calls the actor."""
        self._awaited[self._actors[worker].perform.remote(task)] = worker, "done"

    def wait(self, seconds: float) -> list[Event]:
        """Whatever calls have come back. PluginError when the cluster has been silent for `HEAD_SECONDS`."""
        self._knock()
        references = list(self._awaited)
        if not references:  # every worker is idle, or gone
            time.sleep(min(seconds, IDLE_SECONDS))
            return []
        found, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        if not found:
            found, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        return [self._event(reference) for reference in found]

    def _knock(self) -> None:
        now = time.monotonic()
        if not self._head or now - self._knocked < KNOCK_SECONDS:
            return
        self._knocked = now
        if _answers(self._head) and self._attached():
            self._heard = now
        elif now - self._heard > HEAD_SECONDS:
            raise PluginError(
                f"The head of the Ray cluster ({self._head}), or this machine's node of it, has not answered for "
                f"{HEAD_SECONDS:.0f} seconds; what was finished is kept, and the same command goes on from there, on "
                f"another cluster or without --executor."
            )

    def _attached(self) -> bool:
        """Whether the node through which this process speaks to the cluster is alive."""
        own = self._ray.get_runtime_context().get_node_id()
        return any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == own)

    def _event(self, reference: Any) -> Event:
        worker, kind = self._awaited.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if kind == "ready":  # which Ray repeats until it gives the actor up
                return Event("gone", worker, reason=_reason(error))
            self._greet(worker)
            return Event("lost", worker, reason=_reason(error))
        return Event("ready", worker, reason=answer) if kind == "ready" else Event("done", worker, answer)

    def stop(self) -> None:
        """Kills every actor, and leaves the cluster."""
        with self._quiet:
            for actor in self._actors:
                with suppress(Exception):  # the cluster may be gone
                    self._ray.kill(actor)
            self._actors.clear()
            if self._owned:
                self._ray.shutdown()


class _Actor(Station):
    """A worker where Ray has put it."""

    def ready(self) -> str:
        return f"process {os.getpid()} on {platform.node()}"


def _room(hands: Hands, nodes: list[dict[str, float]]) -> tuple[int, float]:
    """How many workers there are to be, and the GPUs of each; UserError where no node has room for one."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    each = float(gpus > 0) if hands.gpus is None else hands.gpus
    if each > gpus:
        raise UserError(f"--gpus-per-task asks for {each:g}, and the cluster has {gpus:g}; leave it away.")
    fits = 0
    for node in nodes:
        cores = node.get("CPU", 0) // hands.cpus
        fits += int(min(cores, node.get("GPU", 0) // each) if each else cores)
    if not fits:
        raise UserError(
            f"No node of the cluster has {hands.cpus} cores and {each:g} GPUs for a worker (the largest has "
            f"{max(node.get('CPU', 0) for node in nodes):g} cores); ask for less with --cpus-per-task."
        )
    return hands.workers or fits, each


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
