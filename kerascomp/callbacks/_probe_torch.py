"""The gradient probe on torch."""

from typing import Any

import numpy as np
import torch

from kerascomp.callbacks import _probe


class BackendProbe(_probe.QueueProbe):
    """Notes rows as tensors, without waiting for the device."""

    method = "apply"

    def _replacement(self, original: Any) -> Any:
        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            if len(grads):
                self._note(self._torch_row(grads, trainable_variables))
            return original(grads, trainable_variables)

        return apply

    @torch.no_grad()
    def _torch_row(self, gradients: Any, variables: Any) -> torch.Tensor:
        scale = self._loss_scale()
        device = next(g.device for g in gradients if g is not None)
        missing = torch.tensor(_probe.NO_GRADIENT, device=device)
        return torch.stack(
            self._row(gradients, variables, lambda g: _norm(g, scale), missing)
        )

    def _fetch(self, rows: list) -> np.ndarray:
        return torch.stack(rows).cpu().numpy()


# On a CPU, `vector_norm` adds up in one float32 and loses 1e-3 of 3e7
# elements. `dot` is as fast, and exact enough in pieces.
_PIECE = 2**18


def _norm(gradient: torch.Tensor, scale: Any) -> torch.Tensor:
    gradient = gradient.detach().float()
    if scale is not None:
        # First: a scaled gradient's square may overflow where its own not.
        gradient = gradient / scale
    if gradient.device.type != "cpu":
        return torch.linalg.vector_norm(gradient)
    pieces = gradient.reshape(-1).split(_PIECE)
    return torch.stack([torch.dot(p, p) for p in pieces]).sum().sqrt()
