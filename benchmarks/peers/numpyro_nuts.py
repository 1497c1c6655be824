"""NumPyro's NUTS on the net of `benchmarks.methods`: python -m benchmarks.peers.numpyro_nuts ARRAYS.npz RESULT.npz.

The same model: 8-50-1, tanh, all weights ~ Normal(0, 1), noise softplus(rho) + 1e-4 with rho ~ Normal(rho_0, 3), in
standardised units of y. The arrays are x [N, 8], y [N] standardised, rho_0, chains, warmup, draws, depth, accept. The
result holds what the draws predict for the first rows, [C, T, 50], and the seconds with and without compiling.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np


def main(arrays: str, result: str) -> None:
    """Samples twice: the first run compiles, the second has other keys."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.distributions import Normal
    from numpyro.infer import MCMC, NUTS

    given = dict(np.load(arrays))
    x, y = jnp.asarray(given["x"], jnp.float32), jnp.asarray(given["y"], jnp.float32)

    def net(w: dict, x: jnp.ndarray) -> jnp.ndarray:
        return (jnp.tanh(x @ w["kernel_0"] + w["bias_0"]) @ w["kernel_1"] + w["bias_1"])[:, 0]

    def model() -> None:
        shapes = {"kernel_0": (x.shape[1], 50), "bias_0": (50,), "kernel_1": (50, 1), "bias_1": (1,)}
        w = {name: numpyro.sample(name, Normal(0, 1).expand(shape).to_event()) for name, shape in shapes.items()}
        rho = numpyro.sample("rho", Normal(float(given["rho_0"]), 3.0))
        numpyro.sample("y", Normal(net(w, x), jax.nn.softplus(rho) + 1e-4).to_event(), obs=y)

    kernel = NUTS(model, max_tree_depth=int(given["depth"]), target_accept_prob=float(given["accept"]))
    numbers = {"num_warmup": int(given["warmup"]), "num_samples": int(given["draws"])}
    sampler = MCMC(kernel, **numbers, num_chains=int(given["chains"]), chain_method="vectorized", progress_bar=False)
    seconds = []
    for key in (0, 1):
        begin = time.perf_counter()
        sampler.run(jax.random.PRNGKey(key))
        drawn = jax.tree.map(np.asarray, sampler.get_samples(group_by_chain=True))
        seconds.append(time.perf_counter() - begin)
    weights = {name: drawn[name] for name in ("kernel_0", "bias_0", "kernel_1", "bias_1")}
    predictions = jax.vmap(jax.vmap(lambda w: net(w, x[:50])))(weights)
    np.savez(result, predictions=np.asarray(predictions), seconds=np.asarray(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
