"""The frames of an MP3 file. A file without a Xing frame does not state its length, and libsndfile only estimates it.

The estimate comes from the first bit rate, so a file of variable bit rate would lose its end. Here the frames are
counted, and a frame that states their number is put in front of the others.
"""

import struct
from dataclasses import dataclass
from mmap import mmap

Bytes = bytes | mmap

# Bit rates in kbit/s by the four bits of a frame's header, for MPEG 1 layers 1, 2, 3, and for MPEG 2 and 2.5.
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44_100, 48_000, 32_000)
# A Xing frame may count itself, and the estimate is rounded.
_FRAMES_SLACK = 2
# Place of "VBRI" in a frame, and of the number of frames after it.
_VBRI, _VBRI_FRAMES = 36, 14
# Tags that may follow the last frame. What else follows it is a frame that was cut off.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


@dataclass(frozen=True)
class Frames:
    """The audio frames of an MP3 file.

    Attributes:
        count: number of complete frames; a Xing or VBRI frame is not counted.
        samples: samples of each frame and channel.
        start: place of the first frame in the file; it may be a Xing or VBRI frame.
        audio: place of the first frame that is counted.
        stated: the number of frames that a Xing or VBRI frame states, or None.
        place: place of that number in the file, if a Xing frame states it; else None.
        whole: whether the frames follow one another without a gap, and the last one is complete.
    """

    count: int
    samples: int
    start: int
    audio: int
    stated: int | None
    place: int | None
    whole: bool

    @property
    def is_truncated(self) -> bool:
        """Whether frames are missing that the file states."""
        return self.stated is not None and self.count < self.stated - _FRAMES_SLACK

    def misses(self, samples: int) -> bool:
        """Whether a length of ``samples`` samples is not that of the frames."""
        if self.place is not None and self.stated is not None:
            return self.count > self.stated + _FRAMES_SLACK
        return abs(self.count * self.samples - samples) > _FRAMES_SLACK * self.samples

    def head(self, data: Bytes) -> bytes:
        """The file from ``start`` to ``audio`` with the right number of frames: with a Xing frame, if it had none."""
        if self.place is not None:
            head = bytearray(data[self.start : self.audio])
            head[self.place - self.start : self.place - self.start + 4] = struct.pack(">I", self.count)
            return bytes(head)
        header = bytearray(data[self.audio : self.audio + 4])
        # Without a checksum, and with a bit rate whose frame has room for the number.
        header[1] |= 1
        for rate in range(1, 15):
            header[2] = rate << 4 | header[2] & 0x0C
            size = _size(header, 0)
            place = _xing(header)
            if size is not None and size >= place + 12:
                return (
                    bytes(header)
                    + bytes(place - 4)
                    + struct.pack(">4sII", b"Info", 1, self.count)
                    + bytes(size - place - 12)
                )
        raise ValueError("no bit rate has room for a Xing frame")


def count_frames(data: Bytes) -> Frames | None:
    """Count the frames of an MP3 file. None if it has none, or frames of a free bit rate, whose size is not stated."""
    start = _next(data, _after_tags(data, 0), None)
    if start is None:
        return None
    kind = _kind(data, start)
    samples = 384 if kind[1] == 1 else 1152 if kind[0] == 1 or kind[1] == 2 else 576
    stated, place, audio = _stated(data, start)
    count, whole, length = 0, True, len(data)
    # Sizes are kept by the bytes of the header: a recording of a night has millions of frames.
    sizes: dict[bytes, int] = {}
    position: int | None = audio
    while position is not None:
        end = position
        while end < length:
            header = data[end : end + 4]
            size = sizes.get(header)
            if size is None:
                found = _size(header, 0) if _kind(header, 0) == kind else None
                if found is None:
                    break
                size = sizes[header] = found
            if end + size > length:
                break
            end += size
            count += 1
        if end >= length:
            break
        # A tag, the start of another file that was appended, or damaged data.
        tag = _is_tag(data, end)
        position = _next(data, _after_tags(data, end) + (not tag), kind)
        whole = whole and (tag or (position is None and not _is_audio(data, end, kind)))
    return Frames(count, samples, start, audio, stated, place, whole)


def _after_tags(data: Bytes, place: int) -> int:
    """Place after the ID3v2 tags at ``place``."""
    while data[place : place + 3] == b"ID3":
        size = 0
        for byte in data[place + 6 : place + 10]:
            size = size << 7 | byte & 0x7F
        place += 10 + size
    return place


def _kind(data: Bytes | bytearray, place: int) -> tuple[int, int, int, int]:
    """MPEG version (1, 2 or 3 for 2.5), layer, sample rate and number of channels of a header; zeros if it is none."""
    header = data[place : place + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0, 0, 0, 0
    version, layer, hertz = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3), header[2] >> 2 & 3
    if version == 1 or layer == 4 or hertz == 3 or header[2] >> 4 == 15:
        return 0, 0, 0, 0
    number = {3: 1, 2: 2, 0: 3}[version]
    return number, layer, _HERTZ[hertz] >> (number - 1), 1 if header[3] >> 6 == 3 else 2


def _size(data: Bytes | bytearray, place: int) -> int | None:
    """Bytes of the frame whose header is at ``place``; None if it is no header, or of a free bit rate."""
    number, layer, hertz, _ = _kind(data, place)
    if not number:
        return None
    bits, padding = data[place + 2] >> 4, data[place + 2] >> 1 & 1
    rate = 1000 * _RATES[min(number, 2), layer][bits]
    if not rate:
        return None
    if layer == 1:
        return (12 * rate // hertz + padding) * 4
    return (72 if layer == 3 and number > 1 else 144) * rate // hertz + padding


def _next(data: Bytes, place: int, kind: tuple[int, int, int, int] | None) -> int | None:
    """The next frame that another frame of its kind, or the end of the file, follows."""
    while (place := data.find(b"\xff", place)) >= 0:
        found, size = _kind(data, place), _size(data, place)
        if size is not None and (kind is None or found == kind):
            after = place + size
            if after == len(data) or _kind(data, after) == found or (after < len(data) and _is_tag(data, after)):
                return place
        place += 1
    return None


def _is_tag(data: Bytes, place: int) -> bool:
    """Whether tags, or nothing but zeros, follow at ``place``."""
    rest = data[place : place + 64]
    return rest.startswith(_TAGS) or not rest.strip(b"\0")


def _is_audio(data: Bytes, place: int, kind: tuple[int, int, int, int]) -> bool:
    """Whether a frame begins at ``place``, which then is cut off."""
    rest = data[place : place + 4]
    return _kind(data, place) == kind or (len(rest) < 4 and rest.startswith(b"\xff"))


def _xing(header: Bytes | bytearray) -> int:
    """Place of "Xing" in a frame with this header."""
    number, _, _, channels = _kind(header, 0)
    return 4 + ((17 if channels == 1 else 32) if number == 1 else 9 if channels == 1 else 17)


def _stated(data: Bytes, start: int) -> tuple[int | None, int | None, int]:
    """The number of frames that the first frame states, the place of that number, and the place of the next frame."""
    size = _size(data, start) or 0
    place = start + _xing(data[start : start + 4])
    if data[place : place + 4] in (b"Xing", b"Info"):
        if data[place + 7] & 1:
            return int.from_bytes(data[place + 8 : place + 12], "big"), place + 8, start + size
        return None, None, start + size
    place = start + _VBRI
    if data[place : place + 4] == b"VBRI":
        number = data[place + _VBRI_FRAMES : place + _VBRI_FRAMES + 4]
        return int.from_bytes(number, "big"), None, start + size
    return None, None, start
