"""JAX: a scan over steps, mapped over runs and compiled as a whole; gradients by hand or by autodiff and optax."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers import numpy_peer
from benchmarks.peers.work import BETA, BETA1, BETA2, EPS, Result, Work

jax.config.update("jax_enable_x64", True)

# ---- objectives: (parameters, batch, l2) -> value; batch: the selected rows of the data ----------------------------------


def quadratic(x: Any, batch: Any, l2: float) -> Any:
    center, matrix = batch
    e = x[0] - center
    return 0.5 * (e @ (matrix @ e))


def logistic(w: Any, batch: Any, l2: float) -> Any:
    return jnp.mean(jax.nn.softplus(-(batch[0] @ w[0]))) + l2 / 2 * (w[0] @ w[0])


def mlp(w: Any, batch: Any, l2: float) -> Any:
    X, Y = batch
    W1, c1, W2, c2 = w
    z = jnp.tanh(X @ W1.T + c1) @ W2.T + c2
    f = jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.sum(z * Y, axis=1))
    return f + l2 / 2 * sum(jnp.vdot(part, part) for part in w)


VALUES = {"quadratic": quadratic, "logistic": logistic, "mlp": mlp}

# ---- rules: (initial state, step) of a run with learning rate lr -----------------------------------------------------


def optax_rule(name: str, lr: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    rule = optax.adam(lr, BETA1, BETA2, EPS) if name == "adam" else optax.sgd(lr, momentum=BETA)

    def step(t: Any, x: Any, g: Any, state: Any) -> Any:
        updates, state = rule.update(g, state, x)
        return optax.apply_updates(x, updates), state

    return rule.init, step


def own_rule(name: str, lr: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    rule, arrays = numpy_peer.RULES[name]

    def step(t: Any, x: Any, g: Any, state: Any) -> Any:
        x, state = zip(*(rule(jnp, *part, t + 1.0, lr) for part in zip(x, g, state, strict=True)), strict=True)
        return x, state

    return lambda x: tuple((jnp.zeros_like(part),) * arrays for part in x), step


def sweep(work: Work, how: str) -> Callable[[], Result]:
    """All runs at once; `how` is "hand" (gradient and rule by hand) or "autodiff" (with optax)."""
    value = VALUES[work.problem.name]
    by_hand = functools.partial(numpy_peer.ORACLES[work.problem.name], jnp)
    oracle, rule = (by_hand, own_rule) if how == "hand" else (jax.value_and_grad(value), optax_rule)
    # runs of a seed share its batch: mapped over seeds, then over learning rates
    lead = (len(work.seeds), len(work.rates))

    def whole(x: Any, lr: Any, samples: Any, data: Any) -> Any:
        def points(oracle: Any, x: Any, rows: Any) -> Any:
            if rows is None:
                return jax.vmap(oracle, (0, None, None))(x, data, work.l2)

            def of_seed(x: Any, rows: Any) -> Any:
                batch = tuple(part[rows] for part in data)
                return jax.vmap(oracle, (0, None, None))(x, batch, work.l2)

            flat = jax.vmap(of_seed)(jax.tree.map(lambda part: part.reshape(*lead, *part.shape[1:]), x), rows)
            return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), flat)

        def step(carry: Any, step_in: Any) -> Any:
            x, state = carry
            t, rows = step_in
            f, g = points(oracle, x, rows)
            x, state = jax.vmap(lambda lr, x, g, s: rule(work.rule, lr)[1](t, x, g, s))(lr, x, g, state)
            return (x, state), f

        first = None if samples is None else points(value, x, None)
        state = jax.vmap(lambda lr, x: rule(work.rule, lr)[0](x))(lr, x)
        (x, _), values = jax.lax.scan(step, (x, state), (jnp.arange(work.steps), samples))
        return values, x, first, points(value, x, None)

    arguments = (
        tuple(map(jnp.asarray, work.parts(work.x0))),
        jnp.asarray(work.lr),
        None if work.samples is None else jnp.asarray(work.samples),
        tuple(map(jnp.asarray, work.data)),
    )

    compiled = jax.jit(whole)

    def run() -> Result:
        values, x, *_ = jax.block_until_ready(compiled(*arguments))
        return Result(np.asarray(values), work.joined([np.asarray(part) for part in x]))

    return run


def step_of(rule: str, x: np.ndarray, g: np.ndarray, lr: float) -> Callable[[int], Any]:
    """A function that takes a number of jitted optax steps with donated buffers, and returns the last iterate."""
    init, update = optax_rule(rule, lr)

    def step(x: Any, state: Any, g: Any) -> Any:
        return update(0, x, g, state)

    compiled = jax.jit(step, donate_argnums=(0, 1))
    # copies, because donated buffers are overwritten, and NumPy arrays may be shared
    latest: list[Any] = [jnp.array(x, copy=True), jax.jit(init)(jnp.asarray(x)), jnp.array(g, copy=True)]

    def run(count: int) -> Any:
        x, state, g = latest
        for _ in range(count):
            x, state = compiled(x, state, g)
        latest[0], latest[1] = jax.block_until_ready((x, state))
        return latest[0]

    return run
