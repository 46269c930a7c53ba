"""How large the pages of a parquet column are, before any of them is unpacked.

What a file says of itself in its footer need not be true, and a page may unpack to a thousand times
its size, or hold one value that each row repeats. The reader allocates what a page's own header
says; so these headers are read first. A page is a header (a Thrift struct in the compact protocol,
whose fields 2 and 3 are the unpacked and the packed size) and then so many packed bytes.

Source: https://github.com/apache/parquet-format, parquet.thrift; and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_HEADER = 256 * 2**10
MOST_PAGES = 100_000
DEEPEST = 16
TRUE, FALSE, BYTE, INTS, DOUBLE, BINARY = 1, 2, 3, (4, 5, 6), 7, 8
LIST, SET, MAP, STRUCT = 9, 10, 11, 12


def largest_page(file: BinaryIO, metadata: Any, columns: tuple[str, ...]) -> int:
    """Bytes of the largest page, packed or not, of some columns of a parquet file.

    Args:
        file: the open file.
        metadata: its pyarrow.parquet.FileMetaData.
        columns: their paths in the schema.

    Raises:
        ValueError: a column lies outside the file, or a page's header cannot be read.
    """
    size, largest, pages = file.seek(0, 2), 0, 0
    for chunk in _chunks(metadata, columns):
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
            start = chunk.dictionary_page_offset
        end = start + chunk.total_compressed_size
        if not 0 < start <= end <= size:
            raise ValueError(f"column {chunk.path_in_schema} lies outside it")
        while start < end:
            file.seek(start)
            header = _Header(file.read(min(MOST_HEADER, end - start)))
            unpacked, packed = header.sizes()
            largest, pages = max(largest, unpacked, packed), pages + 1
            if pages > MOST_PAGES:
                raise ValueError(f"it has more than {MOST_PAGES} pages")
            start += header.at + packed
    return largest


def _chunks(metadata: Any, columns: tuple[str, ...]) -> Iterator[Any]:
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            if group.column(j).path_in_schema in columns:
                yield group.column(j)


class _Header:
    """A reader of the compact protocol that keeps two numbers and skips the rest."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def sizes(self) -> tuple[int, int]:
        """The unpacked and the packed size of the page; `at` is then behind the header."""
        found: dict[int, int] = {}
        for field, kind in self._fields():
            if kind in INTS:
                found[field] = self._zigzag()
            else:
                self._skip(kind, 1)
        unpacked, packed = found.get(2, -1), found.get(3, -1)
        if unpacked < 0 or packed < 0:
            raise ValueError("a page does not say how large it is")
        return unpacked, packed

    def _fields(self) -> Iterator[tuple[int, int]]:
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            yield field, head & 15

    def _byte(self) -> int:
        if self.at >= len(self.content):
            raise ValueError("the header of a page breaks off")
        self.at += 1
        return self.content[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("the header of a page has a number without end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int, *, inside: bool = False) -> None:
        """Pass a value; a boolean takes a byte only inside a list or map."""
        if depth > DEEPEST:
            raise ValueError("the header of a page is nested too deeply")
        if kind in (TRUE, FALSE, BYTE):
            self.at += 1 if inside or kind == BYTE else 0
        elif kind in INTS:
            self._varint()
        elif kind in (DOUBLE, BINARY):
            length = 8 if kind == DOUBLE else self._varint()
            self.at += length
        elif kind in (LIST, SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            self._skip_each([head & 15], count, depth)
        elif kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._skip_each([kinds >> 4, kinds & 15], count, depth)
        elif kind == STRUCT:
            for _, each in self._fields():
                self._skip(each, depth + 1)
        else:
            raise ValueError(f"the header of a page has a value of the unknown kind {kind}")

    def _skip_each(self, kinds: list[int], count: int, depth: int) -> None:
        if count > len(self.content):  # each takes a byte
            raise ValueError("the header of a page breaks off")
        for _ in range(count):
            for kind in kinds:
                self._skip(kind, depth + 1, inside=True)
