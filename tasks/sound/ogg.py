"""The pages of an Ogg file: whether all of them are there.

libsndfile takes the last page that it finds for the end of the stream, so a truncated file seems whole.
"""

from tasks.sound.mp3 import Bytes

_HEADER = 27
_FIRST, _LAST = 2, 4
# The start of the first packet of each kind of audio.
_AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")


def why_not_whole(data: Bytes) -> str:
    """What is missing in an Ogg file, in a few words; "" if every page is there.

    libsndfile reads only the first of several audio streams that follow one another, so this is reported too.
    """
    numbers: dict[int, int] = {}
    ended: set[int] = set()
    place = 0
    while data[place : place + 4] == b"OggS":
        table = data[place + _HEADER : place + _HEADER + data[place + 26]] if place + _HEADER <= len(data) else b""
        end = place + _HEADER + len(table) + sum(table)
        if place + _HEADER > len(data) or len(table) < data[place + 26] or end > len(data):
            return "is truncated: its last page is cut off"
        flags, serial = data[place + 5], int.from_bytes(data[place + 14 : place + 18], "little")
        number = int.from_bytes(data[place + 18 : place + 22], "little")
        if flags & _FIRST:
            if data[place + _HEADER + len(table) : end].startswith(_AUDIO):
                if ended:
                    return "holds several streams one after the other, of which only the first can be read"
                numbers[serial] = number
        elif serial in numbers:
            if number != numbers[serial] + 1:
                return f"is damaged: the pages between {numbers[serial]} and {number} are missing"
            numbers[serial] = number
        if flags & _LAST and serial in numbers:
            ended.add(serial)
        place = end
    if numbers.keys() - ended:
        return "is truncated: the stream ends without its last page"
    return ""
