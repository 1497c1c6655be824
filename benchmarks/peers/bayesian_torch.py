"""bayesian-torch: its layers return (outputs, KL), or the outputs alone where they are asked to."""

from __future__ import annotations

import numpy as np
import torch
from bayesian_torch import layers as bayesian_layers
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.serve import Step, channels_first, inverse_softplus, serve, steps, threads

PACKAGES = ("torch", "bayesian-torch")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.y = task, torch.from_numpy(arrays["y"])
        self.x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(arrays["x"], -1, 1)))
        self.steps = [(step, _layer(task["variant"], step)) for step in channels_first(steps(arrays))]
        self.layers = [layer for _, layer in self.steps if layer]
        parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def kl(self) -> float:
        with torch.inference_mode():
            return float(sum(layer.kl_loss() for layer in self.layers))

    def outputs(self, draws: int) -> np.ndarray:
        return self._draws(self.x[:1], draws)[:, 0]

    def run(self) -> None:
        if self.task["work"] == "predict":
            self._draws(self.x, self.task["samples"])
        else:
            self._train()

    def _draws(self, x: torch.Tensor, draws: int) -> np.ndarray:
        with torch.inference_mode():
            return torch.stack([self._outputs(x) for _ in range(draws)]).numpy()

    def _outputs(self, x: torch.Tensor) -> torch.Tensor:
        for step, layer in self.steps:
            if layer:
                x = layer(x, return_kl=False)
                x = torch.relu(x) if step.relu else x
            else:
                x = F.max_pool2d(x, 2) if step.kind == "pooling" else x.flatten(1)
        return x

    def _outputs_and_kl(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros(())
        for layer in self.layers:
            x, kl = layer(x)
            total = total + kl
            x = torch.relu(x) if layer is not self.layers[-1] else x
        return x, total

    def _train(self) -> None:
        for _ in range(self.task["epochs"]):
            for chosen in torch.randperm(len(self.x)).split(self.task["batch"]):
                self.optimizer.zero_grad()
                outputs, kl = self._outputs_and_kl(self.x[chosen])
                loss = self._surprise(outputs, self.y[chosen]) + kl / len(self.x)
                loss.backward()
                self.optimizer.step()

    def _surprise(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.task["kind"] == "classes":
            return F.cross_entropy(outputs, y.long())
        return F.mse_loss(outputs, y) / 2 + np.log(2 * np.pi) / 2


def _layer(variant: str, step: Step) -> torch.nn.Module | None:
    """None: a step without weights."""
    if not step.part:
        return None
    *size, channels, units = step.part["kernel_loc"].shape
    if size:
        padding = size[0] // 2 if step.padding == "same" else 0
        layer = getattr(bayesian_layers, f"Conv2d{variant}")(channels, units, size[0], padding=padding)
        mean, rho = layer.mu_kernel, layer.rho_kernel
    else:
        layer = getattr(bayesian_layers, f"Linear{variant}")(channels, units)
        mean, rho = layer.mu_weight, layer.rho_weight
    with torch.no_grad():
        mean.copy_(_units_first(step.part["kernel_loc"]))
        rho.copy_(_units_first(inverse_softplus(step.part["kernel_scale"])))
        layer.mu_bias.copy_(torch.from_numpy(step.part["bias_loc"]))
        layer.rho_bias.copy_(torch.from_numpy(inverse_softplus(step.part["bias_scale"])))
    return layer


def _units_first(kernel: np.ndarray) -> torch.Tensor:
    """[D, U] -> [U, D]; [H, W, C, F] -> [F, C, H, W]."""
    return torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())


if __name__ == "__main__":
    torch.set_num_threads(threads())
    serve(Net, PACKAGES)
