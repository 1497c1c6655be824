"""blitz: its layer draws all weights in every call, and adds up the densities of the draw, also in prediction."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianConv2d, BayesianLinear
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.serve import Step, channels_first, inverse_softplus, serve, steps, threads

PACKAGES = ("torch", "blitz-bayesian-pytorch")
KL_DRAWS = 50  # its KL is log q(w) - log p(w) of the weights drawn last


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.y = task, torch.from_numpy(arrays["y"])
        self.x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(arrays["x"], -1, 1)))
        self.net = torch.nn.Sequential(*itertools.chain.from_iterable(map(_modules, channels_first(steps(arrays)))))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)

    def kl(self) -> float:
        with torch.inference_mode():
            return float(np.mean([self._kl_of_a_draw() for _ in range(KL_DRAWS)]))

    def _kl_of_a_draw(self) -> float:
        self.net(self.x[:1])
        return float(kl_divergence_from_nn(self.net))

    def outputs(self, draws: int) -> np.ndarray:
        return self._draws(self.x[:1], draws)[:, 0]

    def run(self) -> None:
        if self.task["work"] == "predict":
            self._draws(self.x, self.task["samples"])
        else:
            self._train()

    def _draws(self, x: torch.Tensor, draws: int) -> np.ndarray:
        with torch.inference_mode():
            return torch.stack([self.net(x) for _ in range(draws)]).numpy()

    def _train(self) -> None:
        for _ in range(self.task["epochs"]):
            for chosen in torch.randperm(len(self.x)).split(self.task["batch"]):
                self.optimizer.zero_grad()
                surprise = self._surprise(self.net(self.x[chosen]), self.y[chosen])
                loss = surprise + kl_divergence_from_nn(self.net) / len(self.x)
                loss.backward()
                self.optimizer.step()

    def _surprise(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.task["kind"] == "classes":
            return F.cross_entropy(outputs, y.long())
        return F.mse_loss(outputs, y) / 2 + np.log(2 * np.pi) / 2


def _modules(step: Step) -> list[torch.nn.Module]:
    if step.kind == "pooling":
        return [torch.nn.MaxPool2d(2)]
    if step.kind == "flatten":
        return [torch.nn.Flatten()]
    return [_layer(step), torch.nn.ReLU()] if step.relu else [_layer(step)]


def _layer(step: Step) -> torch.nn.Module:
    prior = torch.distributions.Normal(0.0, 1.0)
    *size, channels, units = step.part["kernel_loc"].shape
    if size:
        padding = size[0] // 2 if step.padding == "same" else 0
        layer = BayesianConv2d(channels, units, tuple(size), padding=padding, prior_dist=prior)
    else:
        layer = BayesianLinear(channels, units, prior_dist=prior)
    with torch.no_grad():  # the samplers share this memory
        layer.weight_mu.copy_(_units_first(step.part["kernel_loc"]))
        layer.weight_rho.copy_(_units_first(inverse_softplus(step.part["kernel_scale"])))
        layer.bias_mu.copy_(torch.from_numpy(step.part["bias_loc"]))
        layer.bias_rho.copy_(torch.from_numpy(inverse_softplus(step.part["bias_scale"])))
    return layer


def _units_first(kernel: np.ndarray) -> torch.Tensor:
    """[D, U] -> [U, D]; [H, W, C, F] -> [F, C, H, W]."""
    return torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())


if __name__ == "__main__":
    torch.set_num_threads(threads())
    serve(Net, PACKAGES)
