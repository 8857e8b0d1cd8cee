"""POST requests with JSON to one address, with retries and limits. The only module of the plug-ins that connects.

The key is in the header of a request to the given address and nowhere else: redirects are not followed, and in what a
server says, which ends up in messages, the key is replaced by asterisks. No error has another one as its cause, because
tracebacks are stored and the words of the HTTP library may quote the server.
"""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NamedTuple

import httpx2

from harness.download.http import RETRY_STATUSES, USER_AGENT, brief
from harness.storage.safe_load import JSON_BYTES, parse_json
from harness.system.log import note
from harness.types import ModelError, PluginError

ATTEMPTS = 6
"""Attempts of a request before it fails."""
RETRY_DELAY = 1.0
"""Seconds before the second attempt; doubled for each further one, and up to half of it added at random."""
LONGEST_WAIT = 600.0
"""Most seconds that a server may ask to wait; it is asked again in a later run."""
ERROR_BYTES = 1 << 16
"""Bytes that are read of an answer that reports an error."""
SAME_COMMAND = "what has arrived is stored: run the same command again to continue"
RETRIED = (*RETRY_STATUSES, 529)


class _Temporary(Exception):
    """An attempt failed, and another may not; the message is a clause. ``wait``: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Answer(NamedTuple):
    """What a request gave, and how many attempts it took."""

    content: Any
    attempts: int


class Client:
    """Sends requests of several threads to one endpoint. When one has to wait, the others wait, too."""

    def __init__(self, url: str, key_name: str, key: str, timeout: float) -> None:
        """Connects on the first request.

        Args:
            url: Address of the endpoint, without credentials.
            key_name: Name of the variable that the key is from, for messages.
            key: Sent as a bearer token; empty for none.
            timeout: Seconds that an answer may take.
        """
        self.url, self.timeout = url, timeout
        self._key_name, self._key = key_name, key
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(headers=headers, timeout=timeout, follow_redirects=False, verify=_certificates())
        self._lock, self._not_before, self._answered = threading.Lock(), 0.0, False
        self._waits, self._rounds = 0, 0  # in all; in a row, without an answer between them

    def post(self, body: Mapping[str, Any], limit: int, stop: threading.Event) -> Answer:
        """The answer to a request, as JSON.

        Args:
            body: What is sent.
            limit: Most bytes of the answer.
            stop: When set, no further attempt is made.

        Raises:
            ModelError: The endpoint, the model or the key is not what it should be: the user has to do something.
            PluginError: Anything else that retries did not help against.
        """
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        attempt = 0
        while True:
            self._pause(stop)
            if stop.is_set():
                raise PluginError(f"{self.url}: not asked, as another request has failed.")
            attempt, waits = attempt + 1, self._waits
            try:
                content = self._attempt(data, min(limit, JSON_BYTES))
                self._answered, self._rounds = True, 0
                return Answer(content, attempt)
            except _Temporary as error:
                self._back_off(error, attempt, waits, stop)

    def _back_off(self, error: _Temporary, attempt: int, waits: int, stop: threading.Event) -> None:
        """Makes all threads wait after a failed attempt; PluginError if there is to be no other.

        What was under way when another attempt failed belongs to the same round. So a server that is down ends the work
        after as many rounds as there are attempts, with any number of threads.
        """
        with self._lock:
            now = time.monotonic()
            if waits == self._waits and self._rounds < ATTEMPTS:
                self._waits, self._rounds = waits + 1, self._rounds + 1
            times = max(attempt, self._rounds)
            usual = RETRY_DELAY * 2 ** (times - 1) * (1 + random.random() / 2)
            delay = usual if error.wait is None else error.wait
            if times < ATTEMPTS and delay <= LONGEST_WAIT:
                self._not_before = max(self._not_before, now + delay)
        if times >= ATTEMPTS or stop.is_set():
            told = f", {times} times in a row" if times > 1 else ""
            raise PluginError(f"{self.url}: {error}{told}; {SAME_COMMAND}.") from None
        if delay > LONGEST_WAIT:
            raise PluginError(
                f"{self.url}: {error}, and asks to wait {delay:,.0f} seconds; {SAME_COMMAND} then."
            ) from None
        note("retry", url=self.url, reason=str(error), seconds=round(delay, 1))

    def _pause(self, stop: threading.Event) -> None:
        """Waits until requests may be sent again; returns at once when ``stop`` is set."""
        while (left := self._not_before - time.monotonic()) > 0 and not stop.is_set():
            stop.wait(left)

    def _attempt(self, data: bytes, limit: int) -> Any:
        deadline = time.monotonic() + self.timeout
        try:
            with self._http.stream(
                "POST", self.url, content=data, headers={"Content-Type": "application/json"}
            ) as response:
                if not response.is_success:
                    raise self._refusal(response, self._read(response, ERROR_BYTES, deadline, cut=True))
                content = self._read(response, limit, deadline)
        except httpx2.TimeoutException:
            raise _Temporary(f"no answer within {self.timeout:g} seconds") from None
        except httpx2.ConnectError as error:
            reason = f"it cannot be reached ({self._told(str(error))})"
            if self._answered:
                raise _Temporary(reason) from None
            raise ModelError(f"{self.url}: {reason}; check the base URL and that the server runs.") from None
        except httpx2.TransportError as error:
            raise _Temporary(f"the connection broke ({self._told(str(error) or type(error).__name__)})") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PluginError(f"{self.url}: the answer cannot be read ({self._told(str(error))}).") from None
        try:
            return parse_json(content, nan=True)
        except ValueError as error:
            start = self._told(content[:ERROR_BYTES].decode("utf-8", "replace"))[:80]
            raise PluginError(f"{self.url}: the answer is not JSON ({self._told(str(error))}): {start!r}.") from None

    def _read(self, response: httpx2.Response, limit: int, deadline: float, *, cut: bool = False) -> bytes:
        """The body, if it is at most ``limit`` bytes and comes in time; with ``cut`` its first bytes."""
        parts, size = list[bytes](), 0
        stated = response.headers.get("Content-Length", "")
        if not cut and stated.isdecimal() and int(stated[:20]) > limit:
            raise self._too_large(limit)
        for part in response.iter_bytes():
            parts.append(part)
            if (size := size + len(part)) > limit:
                if cut:
                    break
                raise self._too_large(limit)
            if time.monotonic() > deadline:
                raise _Temporary(f"no complete answer within {self.timeout:g} seconds")
        return b"".join(parts)[:limit]

    def _too_large(self, limit: int) -> PluginError:
        return PluginError(f"{self.url}: the answer is larger than {limit:,} bytes, which no such request needs.")

    def _refusal(self, response: httpx2.Response, body: bytes) -> Exception:
        """The error for an answer whose status is not a success."""
        code, said = response.status_code, self._said(body)
        answer = f"the server answers {code} {self._told(response.reason_phrase)}".rstrip() + (
            f" ({said})" if said else ""
        )
        if response.is_redirect:
            to = self._told(response.headers.get("Location", "").partition("?")[0])
            return ModelError(
                f"{self.url}: the server redirects to {to}; texts and keys are sent to the given address alone: if the "
                f"other one is right, give it as the base URL."
            )
        if code in (401, 403):
            what = f"it refuses the key in {self._key_name}" if self._key else "it wants a key"
            name = self._key_name or "a variable named with key_env"
            return ModelError(f"{self.url}: {what}: {answer}; set the environment variable {name}.")
        if code == 402 or "insufficient_quota" in said:
            return ModelError(f"{self.url}: the account has nothing left to spend: {answer}; {SAME_COMMAND} later.")
        if code in (404, 405):
            return ModelError(
                f"{self.url}: {answer}; check the name of the model and the base URL, which ends in /v1 for most "
                f"servers."
            )
        if code in RETRIED or code >= 500:
            return _Temporary(answer, _retry_after(response.headers.get("Retry-After", "")))
        return PluginError(
            f"{self.url}: {answer}; if a text or a request is too long, give max_chars=N or a smaller batch_size=N."
        )

    def _said(self, body: bytes) -> str:
        """The server's own words in an answer that reports an error; empty for a page of HTML."""
        try:
            content = parse_json(body)
        except ValueError:
            text = body.decode("utf-8", "replace")
            return "" if "<" in text else self._told(text)
        error = content.get("error", content) if isinstance(content, dict) else content
        if isinstance(error, dict):
            words = [error.get(name) for name in ("code", "message", "detail", "error")]
            error = ": ".join(str(word) for word in words if isinstance(word, str) and word)
        return self._told(str(error or ""))

    def _told(self, text: str) -> str:
        """Foreign text for a message: on one line, short, and without the key."""
        return brief(text.replace(self._key, "***") if self._key else text)


@cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates, read once."""
    return httpx2.create_ssl_context()


def _retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or the time until a date; None if it says neither."""
    text = text.strip()[:64]
    try:
        return max(0.0, float(text)) if text.replace(".", "", 1).isdecimal() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(text: str) -> float:
    moment = parsedate_to_datetime(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
