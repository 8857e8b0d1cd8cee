"""Several requests at a time, within a budget. What is under way when one fails is waited for and kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event

from harness.registry.remote import Arrived
from harness.system.budget import Budget
from harness.types import PluginError, UserError

Send = Callable[[list[int], Event], tuple[Arrived, int]]
"""(positions of texts, set when no further attempt is to be made) -> the answer and the attempts that it took."""


def in_parallel(
    batches: Iterable[list[int]],
    most_tokens: Callable[[list[int]], int],
    send: Send,
    workers: int,
    budget: Budget,
    price: float,
    label: str,
) -> Generator[Arrived, None, None]:
    """Yields the answers to all batches as they arrive.

    Args:
        batches: Positions of the texts of each request.
        most_tokens: The most tokens that a batch can take.
        send: Called in a thread.
        workers: Requests at a time.
        budget: Each request reserves from it. A batch that is too large for what is left is sent in halves.
        price: US dollars per million tokens.
        label: Of the model, for messages.

    Raises:
        UserError: From ``send``, after the answers that were under way.
        PluginError: Likewise; or the budget is used up.
    """
    work = _Requests(deque(batches), most_tokens, send, budget, price, label)
    with ThreadPoolExecutor(workers, "endpoint") as pool:
        try:
            while work.submit(pool, workers):
                yield from work.finished()
        finally:
            work.end()
    if work.failure is not None:
        raise work.failure


@dataclass(slots=True)
class _Requests:
    """Those that wait and those under way."""

    waiting: deque[list[int]]
    most_tokens: Callable[[list[int]], int]
    send: Send
    budget: Budget
    price: float
    label: str
    running: dict[Future[tuple[Arrived, int]], int] = field(default_factory=dict)
    """What is under way -> the tokens that are reserved for it."""
    failure: UserError | PluginError | KeyboardInterrupt | None = None
    stop: Event = field(default_factory=Event)

    def submit(self, pool: ThreadPoolExecutor, workers: int) -> bool:
        """Starts as many as there are threads, unless one has failed. False if nothing is under way."""
        while self.waiting and self.failure is None and len(self.running) < workers:
            batch = self.waiting.popleft()
            tokens = self.most_tokens(batch)
            if self.budget.reserve(tokens, self.price):
                self.running[pool.submit(self.send, batch, self.stop)] = tokens
            elif self.running:  # when these are answered, what they reserved in vain is free again
                self.waiting.appendleft(batch)
                break
            elif len(batch) > 1:
                self.waiting.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
            else:
                self.failure = self.budget.used_up(self.label)
        return bool(self.running)

    def finished(self) -> Iterator[Arrived]:
        """The answers to requests that have ended, of which there is one at least."""
        try:
            ended = wait(self.running, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt as interrupt:  # what is under way has to be paid for, so it is kept
            self.failure = interrupt
            self.stop.set()
            return
        for done in ended:
            tokens = self.running.pop(done)
            try:
                arrived, attempts = done.result()
            except (UserError, PluginError) as error:
                self.budget.settle(tokens, 0, self.price)
                self.failure = self.failure or error
                self.stop.set()
                continue
            self.budget.settle(tokens, arrived.tokens, self.price, requests=attempts)
            yield arrived

    def end(self) -> None:
        """Starts nothing any more, and frees what is reserved."""
        self.stop.set()
        for future, tokens in self.running.items():
            future.cancel()
            self.budget.settle(tokens, 0, self.price)
