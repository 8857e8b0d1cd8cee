"""Several requests at a time, within a budget. What is under way when one fails is waited for and kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
    waiting, running = deque(batches), dict[Future[tuple[Arrived, int]], int]()
    failure: UserError | PluginError | KeyboardInterrupt | None = None
    stop = Event()
    with ThreadPoolExecutor(workers, "endpoint") as pool:
        try:
            while True:
                while waiting and failure is None and len(running) < workers:
                    batch = waiting.popleft()
                    tokens = most_tokens(batch)
                    if budget.reserve(tokens, price):
                        running[pool.submit(send, batch, stop)] = tokens
                    elif running:  # when these are answered, what they reserved in vain is free again
                        waiting.appendleft(batch)
                        break
                    elif len(batch) > 1:
                        waiting.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
                    else:
                        failure = budget.used_up(label)
                if not running:
                    break
                try:
                    finished = wait(running, return_when=FIRST_COMPLETED).done
                except KeyboardInterrupt as interrupt:  # what is under way has to be paid for, so it is kept
                    failure = interrupt
                    stop.set()
                    continue
                for done in finished:
                    tokens = running.pop(done)
                    try:
                        arrived, attempts = done.result()
                    except (UserError, PluginError) as error:
                        budget.settle(tokens, 0, price)
                        failure = failure or error
                        stop.set()
                        continue
                    budget.settle(tokens, arrived.tokens, price, requests=attempts)
                    yield arrived
        finally:
            stop.set()
            for future, tokens in running.items():
                future.cancel()
                budget.settle(tokens, 0, price)
    if failure is not None:
        raise failure
