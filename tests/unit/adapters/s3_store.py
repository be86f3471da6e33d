"""A real S3 server (moto's) on loopback, and its bad days."""

import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET, PREFIX = "adapters", "styles"


class S3Store:
    """Objects under one prefix of a bucket; a test sets what goes wrong."""

    def __init__(self) -> None:
        self.hangs = False  # accepts, and says nothing
        self.cuts_at: int | None = None  # closes the connection after so many bytes of an object
        self.objects: list[str] = []  # paths of the files of which bytes were sent
        self.over = threading.Event()
        self._answer = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{PREFIX}"

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.hangs:
            self.over.wait(60)
        answer = self._answer(environment, start_response)
        path = environment["PATH_INFO"]
        if environment["REQUEST_METHOD"] != "GET" or not path.endswith(".safetensors"):
            return answer
        self.objects.append(path)
        return answer if self.cuts_at is None else [b"".join(answer)[: self.cuts_at]]

    def put(self, name: str, content: bytes) -> None:
        client = boto3.client("s3", endpoint_url=self.address)
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=content)

    def delete(self, name: str) -> None:
        boto3.client("s3", endpoint_url=self.address).delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@contextmanager
def serve_bucket() -> Iterator[S3Store]:
    """An empty bucket; the credentials and the region are the environment's."""
    store = S3Store()
    thread = threading.Thread(target=store.server.serve_forever, daemon=True)
    thread.start()
    try:
        # moto keeps what any server of the process was given
        urllib.request.urlopen(f"{store.address}/moto-api/reset", data=b"", timeout=10).close()
        boto3.client("s3", endpoint_url=store.address).create_bucket(Bucket=BUCKET)
        yield store
    finally:
        store.stop()
        thread.join(10)
