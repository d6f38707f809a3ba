"""What a header has to be before it is decoded: the keys of its maps are text, and it is not nested deeply.

A decoder hashes keys. A file could hold thousands of numbers or lists with one hash, which take quadratic time; the hash of
text depends on a secret of the process. This check reads each byte at most once and hashes nothing.
"""

from __future__ import annotations

from benchmarks.bitstream import blueprint
from benchmarks.errors import BitstreamError

MAX_NESTING = 4 * blueprint.MAX_DEPTH  # of lists and maps in the whole header: a module in a module takes three
# What follows a first byte. An atom: so many bytes. The others: so many bytes of a length, then so many bytes, values or pairs.
_ATOMS = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4}
_ATOMS |= {0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}  # a byte more, for the type
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_PLAIN, _LIST, _MAP = range(3)


def _kinds() -> list[tuple[int, int, int, bool]]:
    """By first byte: (kind, bytes of a length, what the first byte itself says of the length, is it text?)."""
    kinds = [(_PLAIN, 0, 0, False)] * 256
    for first in range(16):
        kinds[0x80 + first], kinds[0x90 + first] = (_MAP, 0, first, False), (_LIST, 0, first, False)
    for first in range(32):
        kinds[0xA0 + first] = (_PLAIN, 0, first, True)
    for first, size in _ATOMS.items():
        kinds[first] = (_PLAIN, 0, size, False)
    for sizes, kind, more, text in (
        (_TEXTS, _PLAIN, 0, True),
        (_BYTES, _PLAIN, 0, False),
        (_EXTENSIONS, _PLAIN, 1, False),
        (_LISTS, _LIST, 0, False),
        (_MAPS, _MAP, 0, False),
    ):
        for first, size in sizes.items():
            kinds[first] = (kind, size, more, text)
    return kinds


_KINDS = _kinds()


def check_keys(packed: bytes) -> None:
    """Raise BitstreamError for a key that is not text, or for a deep nest; the decoder says whether the rest is well formed."""
    at, end, kinds = 0, len(packed), _KINDS
    outer: list[tuple[bool, int]] = []
    keyed, left = False, 1  # in a map? how many keys and values, or values, are missing
    while at < end:
        kind, size, length, text = kinds[packed[at]]
        at += 1
        if keyed and not left & 1 and not text:
            raise BitstreamError("the header has a map with a key that is not text, which no file may have")
        left -= 1
        if size:
            length += int.from_bytes(packed[at : at + size], "big")
            at += size
        if kind == _PLAIN:
            at += length
        elif length:
            if len(outer) >= MAX_NESTING:
                msg = f"the header is nested more than {MAX_NESTING} deep: the file is damaged or hostile"
                raise BitstreamError(msg)
            outer.append((keyed, left))
            keyed, left = kind == _MAP, length * kind
        while not left and outer:
            keyed, left = outer.pop()
        if not left:
            return
