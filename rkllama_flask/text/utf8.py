"""Bytes in, whole characters out."""

import codecs

_incremental_decoder = codecs.getincrementaldecoder("utf-8")  # looked up here: a look-up can import


class Utf8Decoder:
    """Holds back the beginning of a character until the rest of it comes; invalid bytes become U+FFFD. Never raises."""

    def __init__(self) -> None:
        self._decode = _incremental_decoder("replace").decode

    def feed(self, data: bytes) -> str:
        """The characters that are whole now."""
        return self._decode(data)

    def finish(self) -> str:
        """What is left: nothing, or U+FFFD for a character that stayed incomplete."""
        return self._decode(b"", True)
