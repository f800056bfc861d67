"""Reads Flickr8k's captions.txt: a line `image,caption` for each caption.

The file may also be CSV as pandas and spreadsheets write it, with other names, further columns or another delimiter.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hw_common.data.dataset_files import decode_text

MAX_NAME = 255  # characters of a file name; the limit of most file systems
_DELIMITERS = ",\t;|"
_IMAGE_COLUMN = re.compile(r"image|img|file|path|photo|picture|name")
# Columns such as caption_id and comment_number do not hold the caption itself.
_CAPTION_COLUMN = re.compile(r"(caption|comment|description|sentence|text)(?!.*(id|num|number|index|count)$)")


@dataclass(frozen=True)
class _Columns:
    """The columns of a table: their names, and the indices of image and caption."""

    names: Sequence[str] = ("image", "caption")
    image: int = 0
    caption: int = 1
    delimiter: str = ","
    has_header: bool = False

    def split(self, fields: Sequence[str]) -> tuple[str, str]:
        """The image's name and the caption of a record; raises ValueError if it has other columns.

        A caption in the last column may contain delimiters although it is not quoted.
        """
        is_last = self.caption == len(self.names) - 1
        name = fields[self.image].strip() if len(fields) > self.image else ""
        fits = len(fields) >= len(self.names) if is_last else len(fields) == len(self.names)
        if not fits or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"is not {self.delimiter.join(self.names)[:100]}")
        return name, self.delimiter.join(fields[self.caption :]) if is_last else fields[self.caption]


def read(content: bytes) -> list[tuple[str, str]]:
    """Returns the image's name and the caption of each record.

    Raises:
        ValueError: the file is damaged; the message names the line.
    """
    lines = list(io.StringIO(decode_text(content), newline=None))
    columns = _read_header(next(filter(str.strip, lines), ""))
    rows = []
    for number, fields in _records(lines, columns.delimiter)[columns.has_header :]:
        try:
            rows.append(columns.split(fields))
        except ValueError as error:
            raise ValueError(f"line {number} {error}") from None
    return rows


def _read_header(line: str) -> _Columns:
    """Returns the columns that the first line names; image and caption if it is not a header."""
    for delimiter in _DELIMITERS:
        names = [name.strip().lower() for name in line.replace('"', "").rstrip(f"{delimiter}\n").split(delimiter)]
        images = [index for index, name in enumerate(names) if _IMAGE_COLUMN.search(name)]
        captions = [index for index, name in enumerate(names) if _CAPTION_COLUMN.search(name) and [index] != images]
        if images and captions and not any("." in name for name in names):  # the name of an image file has a dot
            return _Columns(names, images[0], captions[-1], delimiter, has_header=True)
    return _Columns()


def _records(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Returns the number of the first line and the fields of each record that is not blank.

    If the lines are not CSV throughout, each line is a record, and a quotation mark inside a caption is part of it.
    """
    reader, number = csv.reader(lines, delimiter=delimiter, strict=True), 1
    records = []
    try:
        for fields in reader:
            records.append((number, fields))
            number = reader.line_num + 1
    except csv.Error:
        records = []
    records = _without_blank(records)
    if len({len(fields) for _, fields in records}) == 1:
        return records
    return _without_blank([(number, _split_line(number, line, delimiter)) for number, line in enumerate(lines, 1)])


def _without_blank(records: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    return [(number, fields) for number, fields in records if any(field.strip() for field in fields)]


def _split_line(number: int, line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"line {number}: {error}") from None
