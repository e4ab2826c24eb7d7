"""Headless Chromium without a driver: pages opened, pressed, measured and photographed through its own pipe.

`browser()` is a context manager.  It speaks the DevTools protocol on two pipes, so it opens no port and needs no package.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-quic --no-first-run --hide-scrollbars"
    " --disable-dev-shm-usage --remote-debugging-pipe about:blank"
)
PATIENCE = 60.0
"""Seconds for one answer: a busy machine starts slowly."""
LETTERS = {"Enter": "\r", "Space": " "}

LAUNCH = """
import os, sys
from fcntl import F_DUPFD, fcntl
ends = [fcntl(int(end), F_DUPFD, 10) for end in sys.argv[1:3]]  # neither of them is 3 or 4
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads the protocol from descriptor 3 and writes it to 4; not every shell can move larger ones there."""


def chromium() -> str | None:
    """Where it is installed, if it is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page.  `complaints` holds what it said in its console, `asked` every address that it asked for."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._left, self._count = read, write, b"", 0
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._events: list[str] = []
        self._session = ""
        page = next(one for one in self._send("Target.getTargets")["targetInfos"] if one["type"] == "page")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")
        self._send("Performance.enable", timeDomain="threadTicks")

    def open(self, address: str) -> float:
        """Seconds until the page is loaded and its scripts have run."""
        self._events.clear()
        begin = time.perf_counter()
        self._send("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._events:
            self._take(self._next())
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.perf_counter() - begin

    def worked(self) -> float:
        """Seconds that the page's thread has worked since it was opened, however busy the machine is with other things."""
        found = {one["name"]: one["value"] for one in self._send("Performance.getMetrics")["metrics"]}
        return float(found["TaskDuration"])

    def js(self, code: str) -> Any:
        """What an expression is, as plain values; of a promise what it ends in.  Raises RuntimeError for one that throws."""
        found = self._send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", str(found["exceptionDetails"])))
        return found["result"].get("value")

    def screen(self, width: int, height: int, dark: bool = False, phone: bool = False, scale: float = 1) -> None:
        """Of so many CSS pixels."""
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )  # fmt: skip
        media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._send("Emulation.setEmulatedMedia", features=media)

    def hover(self, selector: str) -> None:
        self._mouse("mouseMoved", self._middle(selector))

    def click(self, selector: str) -> None:
        at = self._middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._mouse(kind, at)

    def press(self, key: str) -> None:
        """A key by its name, such as `Enter` or `ArrowRight`."""
        text = {"text": LETTERS[key]} if key in LETTERS else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text)
        self._send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def type(self, text: str) -> None:
        self._send("Input.insertText", text=text)

    def photograph(self, path: Path, whole: bool = False) -> None:
        """A PNG of the screen, or of the whole page."""
        shot = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _middle(self, selector: str) -> tuple[float, float]:
        where = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return where[0], where[1]

    def _mouse(self, kind: str, at: tuple[float, float]) -> None:
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self._send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **pressed)

    def _send(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        os.write(self._write, json.dumps({**message, **({"sessionId": self._session} if self._session else {})}).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._take(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            if not select.select([self._read], [], [], PATIENCE)[0]:
                raise TimeoutError(f"Chromium said nothing for {PATIENCE:.0f} s")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _take(self, event: dict[str, Any]) -> None:
        name, said = event.get("method", ""), event.get("params", {})
        self._events.append(name)
        if name == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif name == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Raises FileNotFoundError where there is no Chromium."""
    binary = chromium()
    if binary is None:
        raise FileNotFoundError(f"there is no Chromium: none of {', '.join(NAMES)} is on the path")
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        own = [sys.executable, "-S", "-c", LAUNCH, str(to_read), str(from_write)]
        command = [*own, binary, f"--user-data-dir={profile}", *FLAGS.split()]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, pass_fds=(to_read, from_write), **quiet)  # type: ignore[call-overload]
        os.close(to_read)
        os.close(from_write)
        try:
            yield Browser(from_read, to_write)
        finally:
            process.terminate()
            process.wait()
            os.close(from_read)
            os.close(to_write)
