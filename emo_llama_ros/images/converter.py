"""Who turns image messages into pixels: the built-in converter, or cv_bridge where a robot has it.

Either gives the same pixels, and either raises BadImage, never anything else, whatever a message holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.frames import Frame, RawFrame
from emo_llama_ros.images.cv_bridge import load_cv_bridge
from emo_llama_ros.images.decode import Decode, decode
from emo_llama_ros.images.samples import SampleRange
from emo_llama_ros.options import Options


@dataclass(frozen=True, slots=True)
class Converter:
    """Who turns the image messages of one camera into pixels, and why it was chosen (one sentence for the diagnostics).

    It remembers how bright the camera's 16-bit images get, so every camera needs a converter of its own.
    """

    name: str
    reason: str
    max_megapixels: float
    convert: Decode = decode
    sample_range: SampleRange = field(default_factory=SampleRange)

    def decode(self, frame: RawFrame) -> Frame:
        """Return `frame` with its pixels as RGB uint8 (H, W, 3); raise BadImage where there are none."""
        return self.convert(frame, self.max_megapixels, self.sample_range)


def make_converter(options: Options) -> Converter:
    """Return the converter that the option `image_converter` asks for.

    'auto' takes cv_bridge where it is installed and healthy. Raises MissingDependency when 'cv_bridge' is demanded and
    is not there or fails its self-test.
    """
    limit = options.max_image_megapixels
    if options.image_converter == "builtin":
        return Converter("builtin", "The parameter image_converter asks for the built-in converter.", limit)
    try:
        convert, reason = load_cv_bridge()
    except MissingDependency as error:
        if options.image_converter == "cv_bridge":
            raise MissingDependency(
                f"image_converter is cv_bridge, which cannot be used: {error} Repair it, or set "
                "image_converter to auto."
            ) from None
        return Converter("builtin", f"The built-in converter is used: {error}", limit)
    return Converter("cv_bridge", reason, limit, convert)
