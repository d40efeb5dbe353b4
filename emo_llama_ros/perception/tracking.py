"""Follow people: give each face an id that stays while the person stays in view.

Faces are assigned to tracks all at once, at the least total cost of distance from where the track was heading, change
of size, and change of colours (head, hair and collar in the crop). An id is random, lives as long as its track, and
says nothing about who somebody is.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from emo_llama_ros.faces.face import Box, Face, FloatArray
from emo_llama_ros.frames import SECOND_NS, RgbImage
from emo_llama_ros.options import Options
from emo_llama_ros.perception.stamps import FrameInterval

HITS_TO_BIRTH = 2
"""A face seen only once may be a false find."""
CANDIDATE_MEMORY_S = 0.5
REPLACES_WHEN_WIDER = 1.5
"""When max_faces are followed, a new face this much wider takes the place of the smallest."""

_REACH, _REACH_PER_S, _REACH_LIMIT = 0.8, 2.0, 2.0
"""How far a face may be from where it was expected, in face widths: at once, and for each second of absence."""
_SIZE_CHANGE = 0.6
"""Largest change of the logarithm of the width."""
_HEADING_S = 0.5
"""A hidden face is expected to go on like before for this long, then to wait."""
_HEADING_WEIGHT, _COLOUR_WEIGHT = 0.5, 0.2
"""Share of the newest observation in the remembered velocity and colours."""
_FORBIDDEN = 1e6
# No vowels, so that no id is a word; no characters that look alike.
_FIRST, _OTHERS = "bcdfghjkmnpqrtvwxz", "23456789bcdfghjkmnpqrtvwxz"
_ID_LENGTH = 5
_ALL_IDS = len(_FIRST) * len(_OTHERS) ** (_ID_LENGTH - 1)


@dataclass(slots=True)
class _Track:
    face_id: str
    stamp_ns: int
    centre: FloatArray  # (2,) pixels
    width: float
    velocity: FloatArray  # (2,) pixels per second
    colours: FloatArray  # square roots of histogram shares
    hits: int = 1
    hidden: bool = False

    @property
    def born(self) -> bool:
        return self.hits >= HITS_TO_BIRTH

    def expected(self, stamp_ns: int) -> FloatArray:
        gap = (stamp_ns - self.stamp_ns) / SECOND_NS
        return self.centre + self.velocity * min(gap, _HEADING_S)

    def seen(self, stamp_ns: int, box: Box, colours: FloatArray) -> None:
        centre = _centre(box)
        gap = (stamp_ns - self.stamp_ns) / SECOND_NS
        if gap > 0:
            self.velocity += _HEADING_WEIGHT * ((centre - self.centre) / gap - self.velocity)
        self.colours += _COLOUR_WEIGHT * (colours - self.colours)
        self.stamp_ns, self.centre, self.width = stamp_ns, centre, box.width
        self.hits += 1
        self.hidden = False


class Tracker:
    """Assigns faces to people; call `update` for every analyzed frame in the order of stamps.

    A person gets an id at the second sighting and keeps it while hidden for less than `track_memory_s`. Where frames
    are further apart than `max_gap_s`, the first sighting has to do, and a track lasts until the next frame. The same
    seed and the same faces give the same ids; seed 0 draws others in every session.
    """

    def __init__(self, options: Options, interval: FrameInterval | None = None) -> None:
        """Make a tracker for frames that come at this `interval`."""
        self._interval = interval or FrameInterval()
        # Imported here, because it takes half a second: only whoever follows people pays, and not at the first frame.
        from scipy.optimize import linear_sum_assignment

        self._solve = linear_sum_assignment
        self._memory_ns = round(options.track_memory_s * SECOND_NS)
        self._candidate_ns = min(self._memory_ns, round(CANDIDATE_MEMORY_S * SECOND_NS))
        self._max_gap_ns = round(options.max_gap_s * SECOND_NS)
        self._max_faces = options.max_faces
        self._ids = _Ids(random.Random(options.seed or secrets.randbits(64)))
        self._tracks: list[_Track] = []
        self._ended: list[str] = []

    def update(self, stamp_ns: int, faces: Sequence[Face]) -> list[tuple[str, Face]]:
        """Return the followed people who are visible in this frame, with their faces, the largest first."""
        self._ended = []
        self._expire(stamp_ns)
        colours = [_colours(face.crop) for face in faces]
        pairs = self._assign(stamp_ns, faces, colours)
        for track in self._tracks:
            track.hidden = True
        for number, track in pairs.items():
            track.seen(stamp_ns, faces[number].box, colours[number])
        for track in [t for t in self._tracks if stamp_ns - t.stamp_ns > self._memory_of(t)]:
            self._end(track)
        for number in sorted(set(range(len(faces))) - pairs.keys(), key=lambda n: -faces[n].box.width):
            begun = self._begin(stamp_ns, faces[number].box, colours[number])
            if begun is not None:
                pairs[number] = begun
        people = [(track.face_id, faces[number]) for number, track in pairs.items() if track.born]
        return sorted(people, key=lambda person: -person[1].box.width)

    def ended(self) -> list[str]:
        """Return the ids whose tracks ended in the last update."""
        return list(self._ended)

    def reset(self) -> None:
        """Forget everybody; ids are not used again."""
        self._tracks.clear()
        self._ended = []

    def _expire(self, stamp_ns: int) -> None:
        """End the tracks that no face of this frame may belong to."""
        longest_gap_ns = max(self._memory_ns, self._interval.gap_ns(self._max_gap_ns))
        for track in list(self._tracks):
            absent = stamp_ns - track.stamp_ns
            # A track from the future belongs to a clock that jumped back; a track that was seen in the last frame
            # was not hidden, unless frames stopped coming.
            if absent < 0 or absent > (self._memory_of(track) if track.hidden else longest_gap_ns):
                self._end(track)

    def _memory_of(self, track: _Track) -> int:
        return self._memory_ns if track.born else self._candidate_ns

    def _end(self, track: _Track) -> None:
        self._tracks.remove(track)
        if track.born:
            self._ended.append(track.face_id)

    def _assign(self, stamp_ns: int, faces: Sequence[Face], colours: Sequence[FloatArray]) -> dict[int, _Track]:
        """Return the track of each face that has one, by the face's number."""
        if not self._tracks or not faces:
            return {}
        costs = np.array(
            [
                [_cost(track, stamp_ns, face.box, colour) for face, colour in zip(faces, colours, strict=True)]
                for track in self._tracks
            ]
        )
        rows, columns = self._solve(costs)
        return {
            int(column): self._tracks[row]
            for row, column in zip(rows, columns, strict=True)
            if costs[row, column] < _FORBIDDEN
        }

    def _begin(self, stamp_ns: int, box: Box, colours: FloatArray) -> _Track | None:
        if len(self._tracks) >= self._max_faces:
            smallest = min(self._tracks, key=lambda track: track.width)
            if box.width < REPLACES_WHEN_WIDER * smallest.width:
                return None
            self._end(smallest)
        nowhere = np.zeros(2, np.float32)
        track = _Track(self._ids.draw(), stamp_ns, _centre(box), box.width, nowhere, colours.copy())
        if self._interval.ns > self._max_gap_ns:
            track.hits = HITS_TO_BIRTH
        self._tracks.append(track)
        return track


class _Ids:
    """Draws ids that look random and do not repeat: equal steps around a circle of all, so none need be remembered."""

    def __init__(self, generator: random.Random) -> None:
        self._number = generator.randrange(_ALL_IDS)
        self._step = next(n for n in iter(lambda: generator.randrange(1, _ALL_IDS), None) if gcd(n, _ALL_IDS) == 1)

    def draw(self) -> str:
        self._number = (self._number + self._step) % _ALL_IDS
        rest, first = divmod(self._number, len(_FIRST))
        letters = [_FIRST[first]]
        for _ in range(_ID_LENGTH - 1):
            rest, letter = divmod(rest, len(_OTHERS))
            letters.append(_OTHERS[letter])
        return "".join(letters)


def _cost(track: _Track, stamp_ns: int, box: Box, colours: FloatArray) -> float:
    absent_s = (stamp_ns - track.stamp_ns) / SECOND_NS
    reach = min(_REACH + _REACH_PER_S * absent_s, _REACH_LIMIT)
    width = max((track.width + box.width) / 2, 1.0)
    distance = float(np.linalg.norm(track.expected(stamp_ns) - _centre(box))) / width
    growth = abs(float(np.log(max(box.width, 1.0) / max(track.width, 1.0))))
    if distance > reach or growth > _SIZE_CHANGE:
        return _FORBIDDEN
    # Hellinger distance in [0, 1]; `colours` are square roots of shares.
    change = float(np.linalg.norm(track.colours - colours)) / np.sqrt(2)
    return distance / reach + growth / _SIZE_CHANGE + 2 * change


def _centre(box: Box) -> FloatArray:
    return np.array([box.x + box.width / 2, box.y + box.height / 2], np.float32)


def _colours(crop: RgbImage) -> FloatArray:
    """Return the square roots of the shares of 8 × 8 × 8 colours in a crop (224, 224, 3)."""
    bins = (crop[::4, ::4] >> 5).reshape(-1, 3).astype(np.intp)
    counts = np.bincount(bins @ np.array([64, 8, 1]), minlength=512)
    return np.sqrt(counts / counts.sum()).astype(np.float32)
