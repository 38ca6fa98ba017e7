"""Buckets on this machine for tests: gcp-storage-emulator and moto's server, which can be slow, refuse and vanish.

Of Google's two interfaces the emulator has the JSON one, which TensorStore speaks; the XML one, which obstore speaks,
is here over the emulator's storage: reading, writing, deletion, listing, copies, and writes on condition.
"""

import functools
import http.server
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

import boto3
import gcp_storage_emulator.handlers.objects as objects
import pytest
import werkzeug.serving
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler, Router
from gcp_storage_emulator.storage import Storage
from moto.server import DomainDispatcherApplication, create_backend_app

VARIABLES = {
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "T5LIKE_STORAGE_SECONDS": "2",
}


class Weather:
    """Seconds before each answer, and which requests are refused with 503, by method and path."""

    def __init__(self) -> None:
        self.delay, self.refuses = 0.0, lambda method, path: False
        self.refused = 0
        self.gone = False
        self.lock = threading.Lock()
        self.parts: dict[str, dict[int, bytes]] = {}

    def permits(self, method: str, path: str) -> bool:
        time.sleep(self.delay)
        refused = self.refuses(method, path)
        self.refused += refused
        return not refused


class Google(RequestHandler):
    """The emulator with the XML interface."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def __init__(self, weather: Weather, storage: Storage, *arguments: Any):
        self.weather = weather
        super().__init__(storage, *arguments)

    def _answer(self) -> None:
        method = self.command
        if self.weather.gone:  # of connections that were open before
            self.close_connection = True
            return
        if not self.weather.permits(method, self.path):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(503, b"busy")
            return
        with self.weather.lock:  # the emulator answers one request at a time
            self._carry_out(method, urllib.parse.urlparse(self.path))

    def _carry_out(self, method: str, url: urllib.parse.ParseResult) -> None:
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        match = query.get("ifGenerationMatch")
        named = re.fullmatch(r"/(?:upload/)?storage/v1/b/([^/]+)/o/?(.*)", url.path)
        if named is None:
            self._xml(method, *map(urllib.parse.unquote, f"{url.path[1:]}/".split("/", 1)), query)
        elif match and match != self._generation(named[1], urllib.parse.unquote(named[2]) or query.get("name", "")):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(412, b"conditionNotMet")
        elif query.get("alt") == "media" and method == "GET":  # the emulator's own answer has no generation
            self._xml(method, named[1], urllib.parse.unquote(named[2]), {})
        else:
            Router(self).handle(method)

    def _generation(self, bucket: str, name: str) -> str:
        return self.storage.objects.get(bucket, {}).get(name, {"generation": "0"})["generation"]

    do_HEAD = do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _xml(self, method: str, bucket: str, name: str, query: dict[str, str]) -> None:
        name, there = name.removesuffix("/"), self.storage.objects.get(bucket, {})
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if bucket not in self.storage.buckets:
            self._send(404, b"NoSuchBucket")
        elif method == "GET" and not name:
            self._send(200, _listing(there, query).encode())
        elif "uploads" in query or "uploadId" in query:
            self._multipart(method, bucket, name, query, content)
        elif method == "PUT":
            match = self.headers.get("x-goog-if-generation-match")
            if match and match != self._generation(bucket, name):
                self._send(412, b"PreconditionFailed")
                return
            if source := self.headers.get("x-goog-copy-source"):
                content = self.storage.get_file(*urllib.parse.unquote(source).split("/", 1))
            self._create(bucket, name, content)
            self._send(200, b"")
        elif name not in there:
            self._send(404, b"NoSuchKey")
        elif method == "DELETE":
            self.storage.delete_file(bucket, name)
            self._send(204, b"")
        else:
            self._send(200, self.storage.get_file(bucket, name), self._generation(bucket, name))

    def _create(self, bucket: str, name: str, content: bytes) -> None:
        made = objects._make_object_resource("", bucket, name, "application/octet-stream", str(len(content)))
        self.storage.create_file(bucket, name, content, objects._checksums(content, made))

    def _multipart(self, method: str, bucket: str, name: str, query: dict[str, str], content: bytes) -> None:
        """An object in parts, which is there when they are joined; `name` is the upload's id too."""
        parts = self.weather.parts.setdefault(name, {})
        if method == "PUT":
            parts[int(query["partNumber"])] = content
        elif method == "POST" and "uploadId" in query:
            self._create(bucket, name, b"".join(parts[number] for number in sorted(parts)))
        if method == "DELETE" or ("uploadId" in query and method == "POST"):
            del self.weather.parts[name]
        kind = "CompleteMultipartUploadResult" if "uploadId" in query else "InitiateMultipartUploadResult"
        fields = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{escape(name)}</UploadId><ETag>1</ETag>"
        self._send(200, b"" if method == "PUT" else f"<{kind}>{fields}</{kind}>".encode())

    def _send(self, status: int, content: bytes, generation: str = "") -> None:
        whole, bounds = len(content), self.headers.get("Range", "").removeprefix("bytes=")
        if generation and bounds:
            start, _, stop = bounds.partition("-")
            status, content = 206, content[int(start) : int(stop or whole) + 1]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(content) - 1}/{whole}")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.send_header("x-goog-generation", generation or "1")
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 18:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _listing(there: dict[str, Any], query: dict[str, str]) -> str:
    prefix, delimiter, folders, files = query.get("prefix", ""), query.get("delimiter"), set(), []
    for name, one in sorted(there.items()):
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and delimiter and delimiter in rest:
            folders.add(prefix + rest.split(delimiter)[0] + delimiter)
        elif name.startswith(prefix):
            files.append(
                f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-27T18:00:00.000Z</LastModified>"
                f'<ETag>"1"</ETag><Size>{one["size"]}</Size></Contents>'
            )
    found = (f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders))
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(files)}{''.join(found)}</ListBucketResult>"


class Server:
    """A bucket named `bucket` behind a stand-in: its scheme, its weather, and how it vanishes and comes back."""

    def __init__(self, scheme: str):
        self.scheme, self.weather = scheme, Weather()
        self._made = _google(self.weather) if scheme == "gs" else _amazon(self.weather)
        self._port = 0
        self.appear()

    @property
    def variable(self) -> tuple[str, str]:
        """The variable that leads clients here."""
        name = "STORAGE_EMULATOR_HOST" if self.scheme == "gs" else "AWS_ENDPOINT_URL"
        return name, f"http://127.0.0.1:{self._port}"

    def appear(self) -> None:
        self._server, self.weather.gone = self._made(self._port), False
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def vanish(self) -> None:
        self.weather.gone = True
        self._server.shutdown()
        self._server.server_close()


def _google(weather: Weather) -> Callable[[int], http.server.HTTPServer]:
    storage = Storage(use_memory_fs=True)
    create_bucket("bucket", storage)

    def make(port: int) -> http.server.HTTPServer:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Google, weather, storage))

    return make


def _amazon(weather: Weather) -> Callable[[int], Any]:
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environment: dict[str, Any], start: Any) -> Any:
        if not weather.permits(environment["REQUEST_METHOD"], environment["PATH_INFO"]):
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return moto(environment, start)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    return lambda port: werkzeug.serving.make_server("127.0.0.1", port, application, threaded=True)


def serve(scheme: str, variables: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, with the variables by which everything in this process finds it."""
    server = Server(scheme)
    name, value = server.variable
    for each in (VARIABLES | {name: value} | ({"TENSORSTORE_GCS_HTTP_URL": value} if scheme == "gs" else {})).items():
        variables.setenv(*each)
    if scheme == "s3":
        boto3.client("s3", endpoint_url=value).create_bucket(Bucket="bucket")
    yield server
    server.vanish()
