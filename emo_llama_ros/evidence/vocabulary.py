"""The words: which phrase means which action unit, strength, certainty and trend.

Unit numbers and names are those of the Facial Action Coding System (Ekman, Friesen, Hager, 2002). `TYPICAL` follows
its EMFACS table of prototypical combinations.
"""

from __future__ import annotations

from dataclasses import dataclass

from emo_llama_ros.evidence.facts import Trend


@dataclass(frozen=True, slots=True)
class Unit:
    """An action unit: its FACS name, and the plain words said for it."""

    name: str
    subject: str
    state: str
    plural: bool = True

    @property
    def phrase(self) -> str:
        """Subject and state, for example "lip corners raised"."""
        return f"{self.subject} {self.state}"


UNITS: dict[int, Unit] = {
    1: Unit("inner brow raiser", "inner eyebrows", "raised"),
    2: Unit("outer brow raiser", "outer eyebrows", "raised"),
    4: Unit("brow lowerer", "eyebrows", "lowered"),
    5: Unit("upper lid raiser", "eyes", "widened"),
    6: Unit("cheek raiser", "cheeks", "raised"),
    7: Unit("lid tightener", "eyelids", "tightened"),
    9: Unit("nose wrinkler", "nose", "wrinkled", plural=False),
    10: Unit("upper lip raiser", "upper lip", "raised", plural=False),
    12: Unit("lip corner puller", "lip corners", "raised"),
    14: Unit("dimpler", "lip corners", "tucked in"),
    15: Unit("lip corner depressor", "lip corners", "lowered"),
    16: Unit("lower lip depressor", "lower lip", "lowered", plural=False),
    17: Unit("chin raiser", "chin", "pushed up", plural=False),
    20: Unit("lip stretcher", "lips", "stretched"),
    23: Unit("lip tightener", "lips", "tightened"),
    24: Unit("lip pressor", "lips", "pressed together"),
    25: Unit("lips part", "lips", "parted"),
    26: Unit("jaw drop", "jaw", "dropped", plural=False),
    27: Unit("mouth stretch", "mouth", "stretched open", plural=False),
    43: Unit("eyes closed", "eyes", "closed"),
}
"""What can be said about a face and understood of it; what is measured is `action_units.MEASURED`."""

TYPICAL: dict[str, frozenset[int]] = {
    "happiness": frozenset({6, 12, 25}),
    "sadness": frozenset({1, 4, 15, 17}),
    "surprise": frozenset({1, 2, 5, 25, 26, 27}),
    "fear": frozenset({1, 2, 4, 5, 20, 25, 26, 27}),
    "anger": frozenset({4, 5, 7, 10, 17, 23, 24}),
    "disgust": frozenset({9, 10, 15, 16, 17, 25}),
    "contempt": frozenset({12, 14}),
    "anxiety": frozenset({1, 4, 7, 20, 24}),
    "helplessness": frozenset({1, 4, 15, 43}),
    "disappointment": frozenset({1, 4, 15, 17, 24}),
    "neutral": frozenset(),
}
"""Units that speak for a label. The last three compound labels have no EMFACS entry: theirs are our own choice, after
the nearest prototypes (fear, sadness, sadness with pressed lips)."""

STRENGTH = {"slightly": (0.0, 0.35), "clearly": (0.35, 0.7), "strongly": (0.7, 1.0)}
"""Adverb → band of intensity."""
CERTAINTY = {"clearly": (0.8, 1.0), "probably": (0.5, 0.8), "possibly": (0.0, 0.5)}
"""Adverb → band of probability."""
TREND = {Trend.RISING: "growing stronger", Trend.FALLING: "fading"}
"""What is said of a trend; nothing is said of a steady one."""
SECOND_READING = 0.15
"""A runner-up with at least this probability is named."""

_UP = "rais(?:ed|es?|ing)|lift(?:ed|s|ing)|(?:pull|draw|turn|mov|push)\\w* up(?:wards?)?|upturned|rising"
_DOWN = "lower(?:ed|s|ing)|(?:pull|draw|turn|mov)\\w* down(?:wards?)?|downturned|droop(?:ing|s|ed)?|depressed"
_OPEN = "open(?:ed|s|ing)?"
_BROWS = "(?:eye)?brows?"
_LIDS = "(?:eye ?)?lids"
_CORNERS = "(?:lip|mouth) corners|corners of (?:the|her|his|their) (?:mouth|lips)"
MEANINGS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    (f"inner {_BROWS}|inner corners of (?:the|her|his|their) {_BROWS}", _UP, (1,)),
    (f"outer {_BROWS}", _UP, (2,)),
    (_BROWS, f"{_UP}|arched|high", (1, 2)),
    (
        f"{_BROWS}|forehead",
        f"{_DOWN}|furrow(?:ed|s|ing)?|knit(?:ted)?|(?:draw|pull|knit)\\w* together|contracted",
        (4,),
    ),
    ("", "frown(?:s|ed|ing)?", (4,)),
    ("eyes", "wid(?:e open|e|ened|ens?|ening)|opened wide", (5,)),
    (f"upper {_LIDS}", _UP, (5,)),
    ("cheeks?", _UP, (6,)),
    (f"(?:lower )?{_LIDS}", "tight(?:ened|en|ens|ening)?|tensed|raised", (7,)),
    ("eyes", "narrow(?:ed|s|ing)?|squint(?:ed|s|ing)?", (7,)),
    ("nose", "wrinkl(?:ed|es?|ing)|scrunch(?:ed|es|ing)?|crinkled", (9,)),
    ("upper lip", f"{_UP}|curl(?:ed|s|ing)?", (10,)),
    (_CORNERS, _UP, (12,)),
    ("", "smil(?:e|es|ed|ing)|grin(?:s|ned|ning)?", (12,)),
    (_CORNERS, "tuck(?:ed|s)? in|tighten(?:ed|s)|dimpled", (14,)),
    ("", "smirk(?:s|ed|ing)?", (14,)),
    (_CORNERS, _DOWN, (15,)),
    ("lower lip", f"{_DOWN}|(?:pull|press|depress)\\w* down", (16,)),
    ("chin", _UP, (17,)),
    ("lips|mouth", "stretch(?:ed|es|ing)?(?: sideways| horizontally)?", (20,)),
    ("lips", "tight(?:ened|en|ens|ening)?|tensed", (23,)),
    ("lips", "press(?:ed|es|ing)?(?: together)?|compressed", (24,)),
    ("lips", f"part(?:ed|s|ing)?|apart|{_OPEN}", (25,)),
    ("jaw", f"drop(?:ped|s|ping)?|slack|{_OPEN}|lower(?:ed|s|ing)", (26,)),
    ("mouth", _OPEN, (25, 26, 27)),
    ("mouth", f"stretch(?:ed|es|ing)? open|wide(?:ly)? {_OPEN}|{_OPEN} wide(?:ly)?", (27,)),
    ("eyes", "clos(?:ed|es|ing)|shut(?:s|ting)?", (43,)),
)
"""(subject, state, units): regular expressions of words, and the units of which any one makes them true. An empty
subject stands for a state that needs none ("smiling")."""

UNMEASURED = (
    "brow|eyebrow|forehead|eye|eyelid|lid|lash|pupil|gaze|glance|blink|wink|cheek|nose|nostril|mouth|lip|teeth|tooth|"
    "tongue|jaw|chin|throat|neck|head|hair|skin|tear|sweat|blush|wrinkle|dimple|crease|posture|shoulder|hand|gesture"
)
"""Parts and signs of a person, a regular expression. A sentence that names one in words that `MEANINGS` does not know
says more than was measured."""

STRENGTH_WORDS = {
    "slightly": "slight(?:ly)?|faint(?:ly)?|weakly|a little|subtl[ey]",
    "clearly": "clear(?:ly)?|moderate(?:ly)?|noticeabl[ey]",
    "strongly": "strong(?:ly)?|very|broad(?:ly)?|marked(?:ly)?|intense(?:ly)?",
}
CERTAINTY_WORDS = {
    "weaker": "weaker|second|alternative|hints? of|traces? of|some",
    "possibly": "possibl[ey]|perhaps|may|might|uncertain(?:ly)?",
    "probably": "probabl[ey]|likely",
    "clearly": "clear(?:ly)?|definitely|certainly",
}
TREND_WORDS = {
    Trend.RISING: r"growing(?: stronger)?|grows? stronger|(?:becom\w+|gett?\w*) stronger|increas\w+|intensif\w+|"
    r"strengthen\w+",
    Trend.FALLING: r"fad(?:es|ed|ing)|weaken\w+|decreas\w+|eas(?:es|ed|ing)|relax\w*|subsid\w+|(?:grow|becom|gett?)\w* "
    r"weaker",
    Trend.STEADY: "stead(?:y|ily)|constant(?:ly)?",
}
