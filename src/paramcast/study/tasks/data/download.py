"""Fetching a file from its public home: verified, and either complete or absent."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ...._files import replacing
from ....errors import TaskError
from ...reading import tell

CHUNK = 1 << 20
TIMEOUT = 30.0


@dataclass(frozen=True)
class Remote:
    """A file on the network and what it must be."""

    url: str  # http or https
    sha256: str  # of the whole file, in hexadecimal
    size: int  # in bytes; no more is ever read

    @property
    def file(self) -> str:
        """The name under which it is kept."""
        return self.url.rsplit("/", 1)[-1]


def download(remote: Remote, folder: Path) -> Path:
    """Fetch a file into a folder, unless it is there.

    The bytes go to a temporary file beside the target, which is renamed once the size and the
    sha256 are right; a failure before that leaves nothing behind.

    Raises:
        TaskError: the address cannot be reached, the transfer broke off, the content is not what
            it must be, or the folder cannot be written.
    """
    target = folder / remote.file
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{remote.file}.lock"):
            if not target.is_file():
                tell(f"downloading {remote.url} ({remote.size / 1e6:.1f} MB) to {folder}")
                with replacing(target) as file:
                    file.writelines(_checked(remote))
    except OSError as error:
        raise TaskError(
            f"{remote.file} cannot be written to {folder} ({error.strerror or error}); "
            "set PARAMCAST_DATA to a folder that holds the data"
        ) from None
    return target


def _checked(remote: Remote) -> Iterator[bytes]:
    """The file's chunks; an error after the last one if together they do not make the file."""
    digest, size = hashlib.sha256(), 0
    try:
        request = urllib.request.Request(remote.url, headers={"User-Agent": "paramcast"})  # noqa: S310 - addresses of ours
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # nosec B310 # noqa: S310
            while chunk := answer.read1(min(CHUNK, remote.size + 1 - size)):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TaskError(f"{remote.url} cannot be downloaded ({reason}); try again later") from None
    if size != remote.size:
        what = f"{size} bytes" if size < remote.size else "more bytes"
        raise TaskError(
            f"{remote.url} gave {what} where {remote.size} were expected; try again later"
        )
    if digest.hexdigest() != remote.sha256:
        raise TaskError(
            f"{remote.url} gave an unexpected file (sha256 {digest.hexdigest()}, needed "
            f"{remote.sha256}); nothing was kept"
        )
