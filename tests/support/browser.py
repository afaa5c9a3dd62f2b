"""A headless Chromium for tests and benchmarks, driven over the DevTools protocol on a pipe.

No web driver and no socket: Chromium reads commands from file descriptor 3 and answers on 4, each
message ended by a zero byte (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
KEY_CODES = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
# Puts the two inherited pipe ends where Chromium looks for them.
_LAUNCH = """
import os, sys
read, write = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
a, b = os.dup2(read, 30), os.dup2(write, 31)
os.dup2(a, 3), os.dup2(b, 4)
os.closerange(5, 64)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class PageError(AssertionError):
    """Something went wrong inside the page."""


class Browser:
    """One Chromium process."""

    def __init__(self, program: str, profile: str) -> None:
        their_read, self._out = os.pipe()
        self._in, their_write = os.pipe()
        words = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(their_read), str(their_write), *words],
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_read)
        os.close(their_write)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def close(self) -> None:
        """Ends the process and all it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        session: str = "",
        wait: float = 30,
    ) -> dict[str, Any]:
        """Sends a command and returns its result; raises `PageError` where it is refused."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + wait
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._events.append(answer)

    def take_events(self) -> list[dict[str, Any]]:
        """What was announced since the last call of this."""
        events, self._events = self._events, []
        return events

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise PageError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise PageError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Page:
    """One tab: opens a URL, runs JavaScript, notes every error."""

    def __init__(self, browser: Browser, *, width: int = 1400, height: int = 900) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = browser.call(
            "Target.attachToTarget", {"targetId": self._target, "flatten": True}
        )["sessionId"]
        self.errors: list[str] = []
        """Console errors, uncaught exceptions and blocked or failed loads."""
        self.requests: list[str] = []
        """URLs that the page asked for, `data:` left out."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A DevTools command to this tab."""
        result = self._browser.call(method, params, session=self._session)
        for event in self._browser.take_events():
            if event.get("sessionId") == self._session:
                self._note(event["method"], event["params"])
        return result

    def resize(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Sets the window's size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def colours(self, scheme: str) -> None:
        """Pretends that the system prefers "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, url: str, *, ready: str = "document.readyState === 'complete'") -> None:
        """Goes to a URL and waits until the expression `ready` is true."""
        self.call("Page.navigate", {"url": url})
        self.wait(f"location.href !== 'about:blank' && ({ready})")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, condition: str, *, seconds: float = 20) -> None:
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise PageError(f"never true: {condition}; errors: {self.errors}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Types one key where the focus is."""
        more = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": KEY_CODES[key]}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, **more})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": key})

    def move(self, x: float, y: float) -> None:
        """Moves the pointer, CSS pixels from the window's top left."""
        self.call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def screenshot(self, path: Path, *, whole: bool = False, kind: str = "png") -> None:
        """Saves what is seen, or with `whole` the page to its end."""
        options = {"format": kind, "captureBeyondViewport": whole}
        if whole:
            box = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {**box, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", options)["data"]))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            said = details.get("exception", {}).get("description", "")
            self.errors.append(f"{details['text']} {said}".strip())
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(item.get("value")) for item in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {params['message']}")
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)


def find_browser() -> str | None:
    """The program to start, None where no Chromium is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Starts a Chromium with a profile of its own, and ends it.

    Raises:
        FileNotFoundError: None is installed.
    """
    program = find_browser()
    if program is None:
        raise FileNotFoundError(f"no Chromium: looked for {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the whole session."""
    if find_browser() is None:
        pytest.skip(f"needs Chromium to look at the report: none of {', '.join(NAMES)} is there")
    with open_browser() as started:
        yield started


def main() -> None:
    """Takes a picture of a page: `python tests/support/browser.py PAGE PICTURE [--dark]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", help="a URL or a file")
    parser.add_argument("picture", type=Path, help="*.png or *.webp to write")
    parser.add_argument("--size", default="1280x900", help="window, CSS pixels")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--run", default="", help="JavaScript to run first")
    args = parser.parse_args()
    url = args.page if "://" in args.page else Path(args.page).resolve().as_uri()
    width, height = map(int, args.size.split("x"))
    with open_browser() as started, Page(started, width=width, height=height) as page:
        page.colours("dark" if args.dark else "light")
        page.open(url)
        page.run(args.run)
        time.sleep(1)  # thumbnails are painted when they come into view
        page.screenshot(args.picture, kind=args.picture.suffix[1:])


if __name__ == "__main__":
    main()
