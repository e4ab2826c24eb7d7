"""What the hub refuses: one line that says what to do.  The hub is a server of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from prunesweep.models.checkpoints import local_folder

REFUSED = {"gone/model": (401, "RepoNotFound"), "locked/model": (403, "GatedRepo"), "broken/model": (500, "")}


class Hub(BaseHTTPRequestHandler):
    """Says that a gated model is there, as the real one does, and refuses its files."""

    def do_GET(self) -> None:
        name, _, rest = self.path.removeprefix("/api/models/").partition("/revision")
        status, code = REFUSED.get(name, (200, ""))
        if name == "gated/model" and rest:
            status, code = 403, "GatedRepo"
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    do_HEAD = do_GET  # noqa: N815 (the name that http.server asks for)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone/model", "check the name, log in with hf auth login if it is private or gated"),
        ("locked/model", "log in with hf auth login"),
        ("gated/model", "it is gated: accept its terms on its page there and log in with hf auth login"),
        ("broken/model", r"Internal Server Error\); set model.checkpoint to a folder"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_way_out(hub: None, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        local_folder(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)
    assert "set model.checkpoint to a folder" in str(error.value)
