"""A real browser without a window, driven over pipes, for tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
_LOADED = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")


class Browser:
    """One tab.

    Attributes:
        complaints: What the page wrote to the console, errors that it raised, and what its policy refused.
    """

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._session, self._number, self._rest = "", 0, b""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Returns the answer to a command of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._next()).get("id") != self._number:
            if answer.get("method") in _COMPLAINTS:
                self.complaints.append(json.dumps(answer["params"]))
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers.fileno(), 1 << 20)
            assert piece, "the browser ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path) -> None:
        """Opens a file and waits until it is there."""
        self.call("Page.navigate", url=page.as_uri())
        self.js(_LOADED)

    def js(self, code: str) -> Any:
        """Returns the value of an expression, awaited."""
        asked = {"expression": code, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def resize(self, width: int) -> None:
        """Makes the window so wide (px); below 600, it is a telephone's."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)

    def violations(self, where: str = "document") -> list[str]:
        """Returns what of the page, or of what a selector in quotes finds, breaks a rule of axe-core.

        Each comes with the first place.
        """
        script = distribution("axe-playwright-python").locate_file("axe_playwright_python/axe.min.js")
        self.call("Runtime.evaluate", expression=Path(str(script)).read_text("utf-8"))
        rules = "{resultTypes: ['violations']}"
        found = self.js(f"axe.run({where}, {rules}).then(found => found.violations)")
        return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:300]}" for each in found]

    def press(self, key: str, text: str = "") -> None:
        """Presses a key, as a person without a mouse does."""
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": {"Enter": 13, "Tab": 9}.get(key, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Runs a browser whose profile lies in a folder."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # The browser reads from 3 and writes to 4.
    script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = ["bash", "-c", script, str(PROGRAM), *_FLAGS, f"--user-data-dir={folder}"]
    with subprocess.Popen(words, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        tab = Browser(ours_out, ours_in)
        try:
            yield tab
            tab.call("Browser.close")
        finally:
            process.terminate()
            tab._commands.close()
            tab._answers.close()
