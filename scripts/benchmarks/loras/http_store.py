"""A real HTTP server on loopback with LoRA files, and its bad days."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class HttpStore:
    """Serves a folder; what goes wrong is set from outside, at any time."""

    def __init__(self, folder: Path) -> None:
        self.hangs = False  # accepts, and says nothing
        self.cuts_at: int | None = None  # closes the connection after so many bytes of a file
        self.pause_s = 0.0  # between pieces of a file
        self.bodies: list[str] = []  # of files, by path, that were asked for
        self.finished: list[str] = []  # those that were sent to the end
        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self, directory=str(folder)))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class Handler(SimpleHTTPRequestHandler):
    """One request to an `HttpStore`."""

    def __init__(self, store: HttpStore, *arguments: Any, **options: Any) -> None:
        self.store = store
        super().__init__(*arguments, **options)

    def do_HEAD(self) -> None:
        """Answer, or hang."""
        if self.store.hangs:
            self.store.over.wait(60)
        super().do_HEAD()

    def do_GET(self) -> None:
        """Answer, or hang."""
        if self.store.hangs:
            self.store.over.wait(60)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file in small pieces, as badly as is wanted."""
        if not self.path.endswith(".safetensors"):
            return super().copyfile(source, outputfile)
        self.store.bodies.append(self.path)
        sent = 0
        try:
            while piece := source.read(4096):
                if self.store.cuts_at is not None and sent + len(piece) > self.store.cuts_at:
                    outputfile.write(piece[: self.store.cuts_at - sent])
                    outputfile.flush()
                    self.connection.close()
                    return
                outputfile.write(piece)
                sent += len(piece)
                if self.store.pause_s:
                    outputfile.flush()
                    time.sleep(self.store.pause_s)
            self.store.finished.append(self.path)
        except OSError:  # the client has enough
            pass

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[HttpStore]:
    """Serve within the block, on a free port."""
    store = HttpStore(folder)
    thread = threading.Thread(target=store.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.over.set()
        store.server.shutdown()
        store.server.server_close()
        thread.join(10)
