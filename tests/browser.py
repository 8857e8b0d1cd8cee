"""Headless Chromium through its own pipe (the DevTools protocol): nothing to install but the browser."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class Browser:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._pending = b""
        self._count = 0
        self._session = ""
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._read()).get("id") != self._count:
            self._events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            got = os.read(self._back, 1 << 20)
            assert got, "the browser has gone"
            self._pending += got
        message, _, self._pending = self._pending.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, file: Path, width: int = 1280, height: int = 900, scheme: str = "light", query: str = "") -> float:
        """Opens a file, with a ``query`` behind its address; seconds until everything is drawn."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.media(scheme)
        self._events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=file.as_uri() + query)
        self.until("document.documentElement?.dataset.charts === 'ready'")
        return time.monotonic() - began

    def media(self, scheme: str = "light", kind: str = "") -> None:
        """Light or dark, on the screen or (``print``) on paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def run(self, script: str) -> Any:
        """Value of an expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} is never true; {self.trouble()}"
            time.sleep(0.02)

    def press(self, key: str, code: int = 0) -> None:
        """A key, where the focus is."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def trouble(self) -> list[str]:
        """What the console has said since the page was opened, and every exception."""
        self.run("0")
        return [json.dumps(e["params"])[:600] for e in self._events if e.get("method") in TROUBLE]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        self.run("0")
        sent = [e for e in self._events if e.get("method") == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        else:
            shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


def _pipes() -> Iterator[int]:
    for _ in range(2):
        yield from os.pipe()


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser, closed at the end."""
    assert CHROMIUM
    to_read, to_write, back_read, back_write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in _pipes())
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    # the browser reads its orders from descriptor 3 and answers on 4
    shell = f'exec 3<&{to_read} 4>&{back_write}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", CHROMIUM, *flags, "about:blank"],
        pass_fds=(to_read, back_write),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(back_write)
    try:
        yield Browser(to_write, back_read)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(to_write)
        os.close(back_read)
