"""bayesian-torch: its layers return (outputs, KL), or the outputs alone where they are asked to."""

from __future__ import annotations

import numpy as np
import torch
from bayesian_torch import layers as bayesian_layers
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.serve import inverse_softplus, layers, serve, threads

PACKAGES = ("torch", "bayesian-torch")


class Net:
    def __init__(self, task: dict, arrays: dict):
        self.task, self.x, self.y = task, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
        self.layers = [_layer(task["variant"], part) for part in layers(arrays)]
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
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x, return_kl=False))
        return self.layers[-1](x, return_kl=False)

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


def _layer(variant: str, part: dict) -> torch.nn.Module:
    layer = getattr(bayesian_layers, variant)(*part["kernel_loc"].shape)
    with torch.no_grad():
        layer.mu_weight.copy_(torch.from_numpy(part["kernel_loc"].T))
        layer.rho_weight.copy_(torch.from_numpy(inverse_softplus(part["kernel_scale"].T)))
        layer.mu_bias.copy_(torch.from_numpy(part["bias_loc"]))
        layer.rho_bias.copy_(torch.from_numpy(inverse_softplus(part["bias_scale"])))
    return layer


if __name__ == "__main__":
    torch.set_num_threads(threads())
    serve(Net, PACKAGES)
