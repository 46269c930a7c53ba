"""What a parquet file says of its pages, read before anything of it is unpacked.

A page may unpack to a thousand times its size, or hold one value that every row repeats; the reader
allocates what a page's own header says, whatever the footer said. And pyarrow (26) ends the process
where Python asks it for the columns of a damaged footer. So both are read here.

A file ends in its footer, the footer's length in 4 bytes, and "PAR1"; a page is a header and then
so many packed bytes. Footer and headers are Thrift structs in the compact protocol.

Source: https://github.com/apache/parquet-format, parquet.thrift; and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"PAR1"
MOST_FOOTER = 4 * 2**20
MOST_HEADER = 256 * 2**10
MOST_PAGES = 100_000
DEEPEST = 16
TRUE, FALSE, BYTE, I16, I32, I64 = range(1, 7)
DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(7, 13)

Struct = dict[int, tuple[int, Any]]
"""By field: its kind and its value."""


class Sizes(NamedTuple):
    """What a file claims: bytes of all its rows, and of the largest page of some columns."""

    rows: int
    page: int


def sizes(file: BinaryIO, columns: tuple[str, ...]) -> Sizes:
    """The sizes that a parquet file claims.

    Args:
        file: the open file.
        columns: whose pages count, by their paths in the schema.

    Raises:
        ValueError: the footer or a page's header cannot be read, or a column lies outside the file.
    """
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(MOST_FOOTER, end - 8):
        raise ValueError("it does not end as one")
    file.seek(end - 8 - length)
    footer = _Reader(file.read(length)).struct()
    total, largest, pages = 0, 0, 0
    for group in _all(footer, 4, STRUCT):
        total += _one(group, 2, I64)
        for chunk in _all(group, 1, STRUCT):
            if 1 in chunk:
                raise ValueError("a column lies in another file")
            about = _one(chunk, 3, STRUCT)
            name = b".".join(_all(about, 3, BINARY)).decode()
            if name in columns:
                start, stop = _place(about, name, end)
                for size in _pages(file, start, stop):
                    largest, pages = max(largest, size), pages + 1
                    if pages > MOST_PAGES:
                        raise ValueError(f"it has more than {MOST_PAGES} pages")
    return Sizes(total, largest)


def _place(about: Struct, name: str, end: int) -> tuple[int, int]:
    """Where a column's pages begin and end; a dictionary comes first."""
    start = _one(about, 9, I64)
    if 11 in about and 0 < _one(about, 11, I64) < start:
        start = _one(about, 11, I64)
    stop = start + _one(about, 7, I64)
    if not 0 < start <= stop <= end:
        raise ValueError(f"column {name} lies outside it")
    return start, stop


def _pages(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """The size of each page, packed or not, whichever is larger."""
    while start < stop:
        file.seek(start)
        reader = _Reader(file.read(min(MOST_HEADER, stop - start)))
        header = reader.struct()
        unpacked, packed = _one(header, 2, I32), _one(header, 3, I32)
        if unpacked < 0 or packed < 0:
            raise ValueError("a page has a size below 0")
        yield max(unpacked, packed)
        start += reader.at + packed


def _one(struct: Struct, field: int, kind: int) -> Any:
    found, value = struct.get(field, (0, None))
    if found != kind:
        raise ValueError(f"a description lacks its field {field}")
    return value


def _all(struct: Struct, field: int, kind: int) -> list[Any]:
    of, values = _one(struct, field, LIST)
    if of != kind and values:
        raise ValueError(f"the field {field} of a description holds something else")
    return list(values)


class _Reader:
    """Reads structs of the compact protocol; no more than the bytes that it is given."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def struct(self, depth: int = 0) -> Struct:
        if depth > DEEPEST:
            raise ValueError("a description is nested too deeply")
        found: Struct = {}
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            if field in found:  # or one reader believes the first, another one the second
                raise ValueError("a description says something twice")
            kind = head & 15
            found[field] = kind, self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == BYTE:
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind in (DOUBLE, BINARY):
            return self._bytes(8 if kind == DOUBLE else self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return head & 15, self._values([head & 15], count, depth)
        if kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return self._values([kinds >> 4, kinds & 15], count, depth)
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"a description has a value of the unknown kind {kind}")

    def _values(self, kinds: list[int], count: int, depth: int) -> list[Any]:
        if count > len(self.content):  # each takes a byte
            raise ValueError("a description breaks off")
        # inside a list a boolean is a byte
        return [
            self._byte() if kind in (TRUE, FALSE) else self._value(kind, depth + 1)
            for _ in range(count)
            for kind in kinds
        ]

    def _bytes(self, length: int) -> bytes:
        if self.at + length > len(self.content):
            raise ValueError("a description breaks off")
        self.at += length
        return self.content[self.at - length : self.at]

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a description has a number without end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
