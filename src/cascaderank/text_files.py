"""Text files that users write: UTF-8, with or without a byte-order mark."""

import os
from pathlib import Path

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""First bytes of a UTF-8 file that Windows programs write; not a part of the text."""


def other_encoding(start: bytes) -> str:
    """Return the encoding of a file that is not UTF-8, as far as its first bytes show it.

    Args:
        start: first bytes of the file, such as its first line.

    Returns:
        ``"UTF-16"`` or ``"UTF-32"`` if the bytes begin with a byte-order mark of one of both, or if
        every second byte is zero, as in UTF-16 text of ASCII characters; else an empty string.

    Examples:
        >>> other_encoding("q1 0 d1 1".encode("utf-16")), other_encoding(b"q1 0 d1 1")
        ('UTF-16', '')
    """
    if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    halves = (start[0:64:2], start[1:64:2])
    return "UTF-16" if sorted(any(half) + all(half) for half in halves) == [0, 2] else ""


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Return the text of a UTF-8 file without its byte-order mark, with ``\n`` as line ends.

    Args:
        path: file to read.

    Raises:
        OSError: if the file cannot be read.
        UnicodeError: if the file is not UTF-8; the message names the encoding or the line.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "options.toml"
        ...     _ = file.write_bytes(b"\xef\xbb\xbflabel = 'click'\r\n")
        ...     read_text(file)
        "label = 'click'\n"
    """
    content = Path(path).read_bytes()
    if encoding := other_encoding(content[:64]):
        raise UnicodeError(f"expected UTF-8 text, found {encoding}; convert the file to UTF-8")
    content = content.removeprefix(BYTE_ORDER_MARK)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnicodeError(
            f"line {line}: expected UTF-8 text, found the byte 0x{content[error.start]:02x}; "
            "convert the file to UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
