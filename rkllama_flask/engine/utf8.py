"""Bytes in, whole characters out."""

import codecs


class Utf8Decoder:
    """Holds back the beginning of a character until the rest of it comes; invalid bytes become U+FFFD."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, data: bytes) -> str:
        return self._decode(data)

    def finish(self) -> str:
        """What is left: nothing, or U+FFFD for a character that stayed incomplete."""
        return self._decode(b"", True)
