"""A backend whose answers follow from the picture, so that a test knows them: brightness chooses the label."""

import numpy as np

from emo_llama_ros import calibration
from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.estimate import Status
from emo_llama_ros.labels import RAF_DB


class BrightnessBackend:
    """Answers label number `mean brightness // 30`; `statuses` (by brightness // 30) are answered without a label."""

    def __init__(self, labels=RAF_DB, statuses=None, text="The face shows {}.", confidence=0.9, options=None):
        self.labels = labels
        self.statuses = statuses or {}
        self.text = text
        self.confidence = confidence
        self.seen = []
        self.forgotten = []
        self.options = options
        self.loaded = self.closed = False
        self._info = None
        self._calibration = calibration.IDENTITY

    @property
    def info(self):
        return self._info

    def load(self):
        from pathlib import Path

        self.loaded = True
        if self.options and self.options.calibration_file:
            self._calibration = calibration.load(Path(self.options.calibration_file), self.labels)
        model = f"brightness {self.options.model_path}" if self.options else "brightness"
        self._info = ModelInfo("scripted", model, self.labels, calibration=self._calibration.description)

    def label(self, clips):
        return [self._label(clip) for clip in clips]

    def _label(self, clip):
        self.seen.append(clip)
        index = int(np.mean([f.crop[112, 112] for f in clip.faces]) // 30)
        if index in self.statuses:
            return LabelAnswer((), status=self.statuses[index], message="as asked")
        rest = (1 - self.confidence) / (len(self.labels.labels) - 1)
        p = [self.confidence if i == index else rest for i in range(len(self.labels.labels))]
        return LabelAnswer(self._calibration.apply(np.log(p).tolist()), status=Status.OK)

    def explain(self, clip, answer, question="", cancelled=lambda: False):
        yield from self.text.format(self.labels.labels[int(np.argmax(answer.probabilities))])

    def forget(self, face_id):
        self.forgotten.append(face_id)

    def close(self):
        self.closed = True


def brightness_of(label, labels=RAF_DB):
    """Return the grey value that makes the backend answer `label`."""
    return 30 * labels.labels.index(label) + 15
