"""The gradient probe on torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kerascomp.callbacks import _probe


class BackendProbe(_probe.QueueProbe):
    """Notes rows as tensors, without waiting for the device."""

    method = "apply"

    def attach(self) -> None:
        self._previous: list = []
        self._device: Any = None
        super().attach()

    def _replacement(self, original: Any) -> Any:
        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            if not len(grads):
                return original(grads, trainable_variables)
            if not (self._is_due or self._keeps_gradients()):
                self._note(None)
                return original(grads, trainable_variables)
            with torch.no_grad():
                call = self._arrange(grads, trainable_variables)
                blocks = self._rows_before(call) if self._is_due else []
                old = self._copies(call)
            result = original(grads, trainable_variables)
            with torch.no_grad():
                if blocks and _probe.UPDATE in self.layout:
                    new = [_probe.native(v) for v in call.variables]
                    rows = lambda: self._rows_after(old, new)[0]
                    blocks.append(self._at(_probe.UPDATE, rows))
                self._note(torch.cat(blocks) if blocks else None)
            return result

        return apply

    def _arrange(self, gradients: Any, variables: Any) -> _probe.Call:
        call = self._call(gradients, variables)
        call.weights = [_probe.native(v) for v in call.variables]
        self._device = call.weights[0].device
        call.previous, self._previous = self._previous, []
        if self._keeps_gradients():
            # Nobody writes into gradients: the next step makes new ones.
            self._previous = [
                torch.zeros_like(w) if g is None else g
                for g, w in zip(call.dense, call.weights, strict=True)
            ]
        return call

    def _keeps_gradients(self) -> bool:
        return _probe.PRODUCT in self.layout and self._keeps()

    def _copies(self, call: _probe.Call) -> list:
        period = self.periods.get(_probe.UPDATE)
        if period and self._is_step(period):
            return [w.detach().clone() for w in call.weights]
        return []

    def _is_step(self, period: int, ahead: int = 0) -> bool:
        return (self._seen + ahead) % period == 0

    def _if(self, due: Any, compute: Callable[[], list], count: int) -> list:
        if due is None or due:
            return compute()
        return [self._stack([0.0] * len(self.names))] * count

    def _stack(self, scalars: list) -> torch.Tensor:
        kind = {"dtype": torch.float32, "device": self._device}
        return torch.stack([torch.as_tensor(s, **kind) for s in scalars])

    def _when(self, condition: Any, compute: Callable[[], Any]) -> torch.Tensor:
        if condition:
            return compute()
        return self._stack([_probe.NO_GRADIENT] * len(self.names))

    def _unscaled(self, gradient: torch.Tensor, scale: Any) -> torch.Tensor:
        gradient = gradient.detach().float()
        return gradient if scale is None else gradient / scale

    def _norm(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().float()
        if tensor.device.type != "cpu":
            return torch.linalg.vector_norm(tensor)
        pieces = tensor.reshape(-1).split(_PIECE)
        return torch.stack([torch.dot(p, p) for p in pieces]).sum().sqrt()

    def _fetch(self, rows: list) -> np.ndarray:
        return torch.stack(rows).cpu().numpy()


# On a CPU, `vector_norm` adds up in one float32 and loses 1e-3 of 3e7
# elements. `dot` is as fast, and exact enough in pieces.
_PIECE = 2**16
