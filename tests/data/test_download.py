"""Broken URLs and what a network does to a download: one message each, and nothing kept."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowquant.data.download import download, shown
from flowquant.runtime.errors import UserError


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer as the path asks for."""
        match self.path.strip("/").partition("?")[0]:
            case "whole":
                self.answer(200, b"content", {"Content-Length": "7"})
            case "cut":
                self.answer(200, b"content", {"Content-Length": "100"})
            case "odd":
                self.answer(200, b"content", {"Content-Length": "many"})
            case "loop":
                self.answer(302, b"", {"Location": "/loop"})
            case "elsewhere":
                self.answer(302, b"", {"Location": "file:///etc/passwd"})
            case "silence":
                self.close_connection = True
            case "nonsense":
                self.wfile.write(b"no HTTP at all\r\n\r\n")
            case code:
                self.answer(int(code), b"", {})

    def answer(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.mark.parametrize("path", ["whole", "odd", "whole?key=secret"])
def test_what_arrives_is_kept(path: str, server: str, tmp_path: Path) -> None:
    download(("http://127.0.0.1:9/x", f"http://{server}/{path}"), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"


BROKEN = {
    "http://HERE/404": "404 Not Found",
    "http://HERE/500": "500 Internal Server Error",
    "http://HERE/loop": "302 .*infinite loop",
    "http://HERE/elsewhere": "302 .*not allowed",
    "http://HERE/cut": "cut off after 7 of 100 bytes",
    "http://HERE/silence": "closed connection without response",
    "http://HERE/nonsense": "no HTTP at all",
    "https://HERE/whole": "SSL",
    "http://127.0.0.1:9/x": "refused",
    "http://127.0.0.1:port/x": "port",
    "http://no.such.host.invalid/x": "",
    "http://[::1/x": "IPv6",
    "http://a..b/x": "label",
    "http:///x": "no host",
    "http://HERE/ü": "ascii",
    "http://HERE/a b": "",
    "no-scheme/x": "unknown url type",
    "gopher://127.0.0.1/x": "unknown url type",
    "file:///no/such/file": "No such file",
    "file://else.where/x": "",
}


@pytest.mark.parametrize("url", BROKEN)
def test_broken_urls(url: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        download((url.replace("HERE", server),), tmp_path / "file")
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/file: found no such file, and no answer from ")
    assert "\n" not in said
    reason = said.partition(" (")[2].partition("); expected")[0]
    assert reason
    assert re.search(BROKEN[url], reason), reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_a_url_of_no_file(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{path}: found a (device|folder)"):
        download((f"file://{path}",), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["http://me:secret@HERE/404", "http://HERE/404?key=secret", "https://me:secret@[::1/x"]
)
def test_no_message_shows_what_is_secret(
    url: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as error:
        download((url.replace("HERE", server),), tmp_path / "file")
    assert "secret" not in str(error.value) + "".join(capsys.readouterr())


def test_a_url_for_people() -> None:
    assert shown("https://me:word@host:8/a/b?c=d") == "https://host:8/a/b"
    assert shown("file:///a/b") == "file:///a/b"
