"""What a face's movements add to what its picture says: one linear layer, fitted on the votes for held-out faces.

On faces that the network learned from, its logits are surer than on others, and movements would seem to add nothing; so
the layer is fitted where the network is as it will be (stacking, Wolpert 1992).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import GroupKFold
from torch import Tensor, nn

from emo_llama_ros.faces.blendshapes import MOVEMENTS
from emo_llama_ros.labels import FERPLUS

FloatArray = npt.NDArray[np.float32]

FOLDS = 5
_FARTHEST = 3.0
"""Standard deviations beyond which a movement counts no more."""


class MovementLayer(nn.Module):
    """Logits (N, 8) to add to those of the picture, from movements (N, 32); 0 for a face whose movements are NaN."""

    mean: Tensor
    deviation: Tensor
    weights: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.register_buffer("weights", weights)

    def forward(self, movements: Tensor) -> Tensor:
        """Return (N, 8), order of labels.FERPLUS, of movements (N, 32), order of blendshapes.MOVEMENTS."""
        return _standard(movements, self.mean, self.deviation) @ self.weights


def no_movements() -> MovementLayer:
    """Return a layer that adds nothing."""
    count = len(MOVEMENTS)
    return MovementLayer(torch.zeros(count), torch.ones(count), torch.zeros(count, len(FERPLUS.labels)))


def fit_movements(logits: Tensor, movements: FloatArray, shares: FloatArray, decay: float) -> MovementLayer:
    """Return the layer that, beside `logits`, explains the votes best.

    `logits` (N, 8) of held-out faces, `movements` (N, 32) with NaN where they are not known, `shares` (N, 8) of the
    votes. Minimized is the mean cross-entropy plus `decay` times the squared weights, over the layer, the logits' scale
    and a constant per display. Scale and constants are left to the operating points.
    """
    known = torch.from_numpy(np.isfinite(movements).all(1))
    if int(known.sum()) < 2:  # of fewer there is no deviation
        return no_movements()
    raw, target = torch.from_numpy(movements).double(), torch.from_numpy(shares).double()
    mean, deviation = raw[known].mean(0), raw[known].std(0) + 1e-3
    base = logits.double()
    seen = _standard(raw, mean, deviation)
    weights = torch.zeros(len(MOVEMENTS), len(FERPLUS.labels), dtype=torch.float64, requires_grad=True)
    constants = torch.zeros(len(FERPLUS.labels), dtype=torch.float64, requires_grad=True)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, constants, scale], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        predicted = (scale * base + seen @ weights + constants).log_softmax(1)
        value = -(target * predicted).sum(1).mean() + decay * (weights**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return MovementLayer(mean.float(), deviation.float(), (weights / scale).float())


def held_out_logits(
    logits: Tensor,
    movements: FloatArray,
    shares: FloatArray,
    decay: float,
    groups: npt.NDArray[np.int32],
) -> Tensor:
    """Return logits (N, 8) with movements; each face's layer is fitted, as in `fit_movements`, on other groups' faces.

    Faces whose shares are NaN fit nothing.
    """
    made, voted = logits.clone(), np.isfinite(shares[:, 0])
    for fitted, others in GroupKFold(min(FOLDS, len(np.unique(groups)))).split(movements, groups=groups):
        fitted = fitted[voted[fitted]]
        layer = fit_movements(logits[fitted], movements[fitted], shares[fitted], decay)
        made[others] += layer(torch.from_numpy(movements[others]))
    return made


def _standard(movements: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    moved = ((movements - mean) / deviation).clamp(-_FARTHEST, _FARTHEST)
    # Not isnan(moved): whether clamping keeps NaN depends on the runtime that runs the exported network.
    return torch.where(torch.isnan(movements), torch.zeros_like(moved), moved)
