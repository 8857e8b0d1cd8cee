"""Workers as Ray actors: anywhere on a cluster, each with the cores and GPUs it was promised.

Ray places them, starts them anew elsewhere when a node is lost (``max_restarts``) and tells of both. Only the task in
hand is handed out again here and not by Ray's ``max_task_retries``: that would wait for the same actor, for which a
smaller cluster may have no place, while others are free.
"""

from __future__ import annotations

import logging
import os
import platform
from contextlib import suppress
from typing import Any

from harness.executor import RESTARTS, Call, Event, Hands, Station, Task
from harness.modelref import missing_extra
from harness.spec import UserError


def connect(address: str | None) -> Any:
    """Ray, connected to the cluster at ``address`` (``auto``: the one of this machine), or to one started here.

    UserError where Ray is not installed or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError(missing_extra("--executor ray", ["ray"], "ray")) from None
    if ray.is_initialized():
        return ray
    try:
        if address is None:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"No Ray cluster answers at {address or 'this machine'} ({reason}); start one with `ray start --head`, or "
            f"leave --address away to have one for this command."
        ) from error
    return ray


class RayCrew:
    """One actor for each worker."""

    def __init__(self, call: Call, hands: Hands, address: str | None) -> None:
        """UserError where the cluster has not what a worker needs."""
        self._ray = ray = connect(address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(node.get("GPU", 0) for node in nodes)
        each = float(gpus > 0) if hands.gpus is None else hands.gpus
        if each > gpus:
            raise UserError(f"--gpus-per-task asks for {each:g}, and the cluster has {gpus:g}; leave it away.")
        fits = [_times(node, hands.cpus, each) for node in nodes]
        if not any(fits):
            raise UserError(
                f"No node of the cluster has {hands.cpus} cores and {each:g} GPUs for a worker (the largest has "
                f"{max(node.get('CPU', 0) for node in nodes):g} cores); ask for less with --cpus-per-task."
            )
        self.size = hands.workers or sum(fits)
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

    def start(self) -> None:
        """Asks for every actor; those that find no place yet come when there is one."""
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
        """Whatever calls have come back."""
        references = list(self._awaited)
        found, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        if not found:
            found, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        return [self._event(reference) for reference in found]

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
        """Kills every actor."""
        for actor in self._actors:
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor)
        self._actors.clear()


class _Actor(Station):
    """A worker where Ray has put it."""

    def ready(self) -> str:
        return f"process {os.getpid()} on {platform.node()}"


def _times(node: dict[str, float], cpus: int, gpus: float) -> int:
    """How many workers a node has room for."""
    room = node.get("CPU", 0) // cpus
    return int(min(room, node.get("GPU", 0) // gpus) if gpus else room)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
