"""blitz: its layer draws all weights in every call, and adds up the densities of the draw, also in prediction."""

from __future__ import annotations

import numpy as np
import torch
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianLinear
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.serve import inverse_softplus, layers, serve, threads

PACKAGES = ("torch", "blitz-bayesian-pytorch")
KL_DRAWS = 50  # its KL is log q(w) - log p(w) of the weights drawn last


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
        self.net = _network(layers(arrays))
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


def _network(weights: list[dict]) -> torch.nn.Module:
    modules: list[torch.nn.Module] = []
    for part in weights:
        modules += [_layer(part), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def _layer(part: dict) -> torch.nn.Module:
    layer = BayesianLinear(*part["kernel_loc"].shape, prior_dist=torch.distributions.Normal(0.0, 1.0))
    with torch.no_grad():  # the samplers share this memory
        layer.weight_mu.copy_(torch.from_numpy(part["kernel_loc"].T))
        layer.weight_rho.copy_(torch.from_numpy(inverse_softplus(part["kernel_scale"].T)))
        layer.bias_mu.copy_(torch.from_numpy(part["bias_loc"]))
        layer.bias_rho.copy_(torch.from_numpy(inverse_softplus(part["bias_scale"])))
    return layer


if __name__ == "__main__":
    torch.set_num_threads(threads())
    serve(Net, PACKAGES)
