"""A browser for tests: Chromium driven over its DevTools pipe. No port, no driver program, no library.

The protocol is JSON messages that end in a zero byte, on file descriptors 3 (to the browser) and 4 (from it).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-pipe",
]
_DEADLINE_S = 30.0


class Browser:
    """One page of one headless browser. Console errors and requests of the page are collected as they happen."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd, self._read_fd = write_fd, read_fd
        self._buffer = b""
        self._next_id = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._loaded: set[str] = set()

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> Any:
        """Send one command and return its result; raises AssertionError with the browser's words when it fails."""
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, path: Path, *, width: int = 1280, height: int = 800, dark: bool = False, fragment: str = "") -> None:
        """Load a file and wait until it has loaded. Collected requests and problems start anew."""
        self.resize(width, height)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._navigate("about:blank")  # a change of only the fragment would not load the page again
        self.requests, self.problems = [], []
        self._navigate(path.as_uri() + fragment)

    def _navigate(self, address: str) -> None:
        """Go there and wait for the load event of exactly this load, not of one before it."""
        loader = self.call("Page.navigate", url=address)["loaderId"]
        deadline = time.monotonic() + _DEADLINE_S
        while loader not in self._loaded:
            assert time.monotonic() < deadline, f"{address} did not load"
            self._receive()

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def js(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, expression: str, is_right: Callable[[Any], bool] = bool) -> Any:
        """Evaluate until the value is right; raises AssertionError with the last value at the deadline."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            value = self.js(expression)
            if is_right(value):
                return value
            assert time.monotonic() < deadline, f"{expression} stayed {value!r}"

    def mouse(self, kind: str, x: float, y: float, *, clicks: int = 0) -> None:
        button = "left" if clicks else "none"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=clicks, clickCount=clicks)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start, clicks=1)
        self.mouse("mouseMoved", (start[0] + end[0]) / 2, end[1], clicks=1)
        self.mouse("mouseMoved", *end, clicks=1)
        self.mouse("mouseReleased", *end, clicks=1)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read_fd], [], [], _DEADLINE_S)
            assert ready, f"the browser said nothing for {_DEADLINE_S:g} s"
            chunk = os.read(self._read_fd, 1 << 16)
            assert chunk, "the browser has gone"
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"])[:600])


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a headless Chromium with a fresh profile; leaving ends its process group and removes the profile."""
    profile = tempfile.mkdtemp(prefix="aftershock-browser-")
    to_browser, from_page = os.pipe(), os.pipe()
    # The shell gives the pipes the numbers that the browser expects, and becomes the browser.
    shell = f'exec "$@" 3<&{to_browser[0]} 4>&{from_page[1]}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, "sh", CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_browser[0], from_page[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser[0])
    os.close(from_page[1])
    try:
        page = Browser(to_browser[1], from_page[0])
        page.attach()
        yield page
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_browser[1])
        os.close(from_page[0])
        shutil.rmtree(profile, ignore_errors=True)
