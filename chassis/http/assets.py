"""Files that browsers load: read once, and named by their content."""

from __future__ import annotations

from importlib.resources import files
from mimetypes import guess_type
from typing import NamedTuple

from flask import Response, request
from werkzeug.exceptions import NotFound

from chassis.once import once
from chassis.security import fingerprint


class Asset(NamedTuple):
    """A file, its type and its ETag."""

    content: bytes
    media_type: str
    etag: str


class Assets:
    """The files of one folder in a package; all answers share one copy in memory.

    Args:
        package: The package, which is looked up on first use.
        folder: Name of the folder in it.
        caching: Cache-Control of each file; by default caches ask each time.
    """

    def __init__(self, package: str, folder: str, *, caching: str = "public, no-cache") -> None:
        self._package = package
        self._folder = folder
        self._caching = caching
        # Names of no file are not remembered, so the files bound the memory.
        self._read = once(self._find)

    def respond(self, name: str) -> Response:
        """Answer with a file, or with 304 to a caller who has it.

        Raises:
            NotFound: there is no such file.
        """
        asset = self._read(name)
        response = Response(asset.content, mimetype=asset.media_type)
        return unless_known(response, asset.etag, caching=self._caching)

    def _find(self, name: str) -> Asset:
        folder = files(self._package) / self._folder
        found = {each.name: each for each in folder.iterdir() if each.is_file()}
        if name not in found:
            raise NotFound
        content = found[name].read_bytes()
        media_type = guess_type(name)[0] or "application/octet-stream"
        return Asset(content, media_type, name_content(content))


def unless_known(response: Response, etag: str, *, caching: str = "public, no-cache") -> Response:
    """Turn an answer into 304 for a caller who has it; by default caches ask each time."""
    response.headers["Cache-Control"] = caching
    response.set_etag(etag)
    response.make_conditional(request)
    return response


def name_content(content: bytes) -> str:
    """Return a name for a content, the same in all processes."""
    return fingerprint(content)[:32]
