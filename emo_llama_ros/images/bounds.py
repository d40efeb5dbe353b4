"""How large an image may be, told from its header before any of its payload is copied or decoded."""

from __future__ import annotations

from emo_llama_ros.errors import BadImage

LONGEST_SHAPE = 32
"""Length of an image in widths. The face detector searches long images in square tiles, of which this allows 40."""
SPARE_BYTES = 4 << 20
"""What an image may hold beside its pixels: padding, colour profiles, previews."""
BYTES_PER_PIXEL = 9
"""Of a compressed image at most: 16-bit RGBA that could not be compressed, and what a file format adds to it."""


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise BadImage for an image without pixels, with too many of them, or too long for its width."""
    if width < 1 or height < 1:
        raise BadImage(f"The {name} has no pixels.")
    if width * height > max_pixels:
        raise BadImage(f"The {name} has more than the allowed {max_pixels / 1e6:g} megapixels.")
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise BadImage(f"The {name} is more than {LONGEST_SHAPE} times as long as it is wide.")


def check_compressed_bytes(name: str, width: int, height: int, size: int) -> None:
    """Raise BadImage for a compressed payload of more bytes than its pixels can need."""
    if size > BYTES_PER_PIXEL * width * height + SPARE_BYTES:
        raise BadImage(f"The {name} has a payload of {size / 1e6:.0f} MB, far more than its pixels need.")
