"""What the `format` string of a CompressedImage says about the pixels; what kind of file it is, the payload says.

compressed_image_transport writes "SOURCE; KIND compressed TARGET", for example "bgr8; png compressed bgr8"; everybody
else writes "jpeg", "JPEG", "image/jpeg", "jpg", or nothing.

TARGET is the memory order of the pixels that were given to OpenCV's encoder, which takes every image for BGR. So
"compressed bgr8", what the publisher of compressed_image_transport writes for every colour image, names an ordinary
file whose red is red in any viewer, whatever SOURCE was. "compressed rgb8" names one whose red and blue are exchanged
in the file: compressed_image_transport's subscriber swaps them back, and so does this package. A driver that writes
"compressed rgb8" over an ordinary file looks wrong in all of ROS; it must write "jpeg" or "compressed bgr8". Without a
TARGET a file is an ordinary one.
"""

from __future__ import annotations

from dataclasses import dataclass

from emo_llama_ros.images.layouts import BAYER, is_depth, video_codec


@dataclass(frozen=True, slots=True)
class CompressedFormat:
    """A parsed `format`."""

    source: str
    """Encoding of the image that was compressed, "" when not said."""
    holds_rgb: bool
    """The file holds red where others hold blue, as compressed_image_transport understands "compressed rgb8"."""
    mosaic: str | None
    """OpenCV's name of the conversion of a Bayer image that was stored as it is, for files of one channel."""
    depth: bool
    """Distances, not light."""
    codec: str
    """Video codec, "" when it is none."""


def parse_format(text: str) -> CompressedFormat:
    """Return what a `format` string says; case and blanks do not matter."""
    source, separator, rest = (part.strip() for part in text.casefold().partition(";"))
    rest = " ".join(rest.split())
    target = rest.partition("compressed")[2].strip("; ")
    mosaic = None
    if source.startswith("bayer_") and not target.startswith("mono"):
        mosaic = BAYER.get(source.removeprefix("bayer_").rstrip("0123456789"))
    return CompressedFormat(
        source=source if separator else "",
        holds_rgb="compressed rgb" in rest,
        mosaic=mosaic,
        depth=is_depth(source) or "compresseddepth" in rest or "rvl" in rest.split(),
        codec=video_codec(text),
    )
