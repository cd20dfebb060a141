"""Compare a GPU with the CPU: equal curves, speed, and the size from which the GPU is faster.

python -m benchmarks.gpu results            # minutes, on a machine with a GPU; then: optbench report results
python -m benchmarks.gpu results --quick    # small sizes, to test that everything runs

There are four sections, each stored in the results folder when it is complete (`COLUMNS`; shown by `reports.sections.gpu`):

curves   values along runs of every problem, in both precisions, compared with the CPU in float64 within a measured
         envelope, see `envelope`.
steps    the update of Adam and of momentum, fused and plain, compared with a copy on the device.
sweeps   the sweeps of benchmarks/peers, 100 runs each, on the GPU, on one core of the CPU and by JAX on the same GPU; and
         the peak of the memory pool.
sizes    seconds of one step of 100 runs of every problem, for growing sizes until the GPU is clearly faster.

All measurements take the backends as parameters, so that tests can simulate devices. The script has not been run on a GPU
yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.common import calls_within, seconds_of, stepper
from optbench.compile.rules import compiled
from optbench.core.backend import Backend, get_backend
from optbench.core.errors import BackendError, InputError, StoreError
from optbench.core.registry import PROBLEMS
from optbench.core.specs import parse_spec
from optbench.core.types import Array
from optbench.optimizer import At, FirstOrder, Optimizer, make_recipe
from optbench.problem import Problem, make_problem
from optbench.results.environment import environment
from optbench.results.store import Store
from optbench.runner.loop import Loop, init_state

Row = dict[str, Any]
OPTIMIZERS_SHOWN = ("gradient_descent", "momentum", "adam", "lbfgs", "newton")
BATCH = 16  # samples per mini-batch, for the curves with mini-batches
COPIES = 8  # perturbed runs, which measure the effect of rounding
MAX_NEWTON = 100  # parameters; with more, Hessians take most of the time on the CPU
FACTOR = 16.0  # width of the envelope relative to the measured effect, see `envelope`

# long form, one row per number: Arrow type and meaning by name
COLUMNS = {
    "measurement": ("string", "name of the run of the script: its begin, UTC, and a random part"),
    "created": ("string", "when the section ended, UTC"),
    "machine": ("string", "GPU"),
    "processor": ("string", "CPU that it is compared with"),
    "section": ("string", "curves, steps, sweeps or sizes"),
    "case": ("string", "what was computed: problem and method, rule, sweep, or problem"),
    "precision": ("string", "float64 or float32"),
    "size": ("int64", "size of an array, or of the case; null if there is one size only"),
    "contender": ("string", "who computed it: gpu, gpu fused, cpu, copy, jax on gpu"),
    "quantity": ("string", "what was measured, with its unit"),
    "repeat": ("int64", "number of the repeat, from 0"),
    "value": ("double", "the number; null if it could not be measured, or the event did not happen"),
    "note": ("string", "why there is no value, or what the size counts; else empty"),
}


# ---- curves ----------------------------------------------------------------------------------------------------------


def trajectory(
    problem: Problem,
    optimizer: Optimizer,
    seeds: Sequence[int],
    steps: int,
    *,
    batch: int | None = None,
    copies: int = 1,
    jitter: float = 0.0,
) -> np.ndarray:
    """Values at every iterate of `copies` runs from each seed's start, shape (T + 1, S, copies).

    All iterates of all copies except the first are perturbed: each coordinate is multiplied by 1 + jitter or 1 - jitter at
    random. Values stay on the device until the end.
    """
    backend, rng = problem.backend, np.random.default_rng(0)
    shape = (len(seeds), copies, problem.dim)

    def perturbed(x: Array) -> Array:
        if not jitter:
            return x
        signs = rng.choice([-1.0, 1.0], size=shape)
        signs[:, 0] = 0.0
        return x * backend.asarray(1 + jitter * signs.reshape(-1, problem.dim))

    loop = Loop(problem, optimizer, tuple(seeds), steps, batch, len(seeds) * copies)
    starts = backend.xp.broadcast_to(problem.starts(seeds)[:, None, :], shape)
    x = perturbed(backend.xp.asarray(backend.xp.reshape(starts, (-1, problem.dim)), copy=True))
    state = init_state(optimizer, x, backend)
    values = []
    with np.errstate(all="ignore"):
        for t in range(steps + 1):
            at = loop.evaluate(t, x)
            values.append(at.f[:, 0])
            if t < steps:
                x, state = optimizer.step(t + 1, at, state)
                x = perturbed(x)
    host: np.ndarray = backend.to_host(backend.xp.stack(values)).astype(float)
    return host.reshape(steps + 1, *shape[:2])


def envelope(values: np.ndarray, eps: float) -> np.ndarray:
    """Largest deviation by rounding, from `trajectory` with jitter `eps`: (T + 1, S, copies) gives (T + 1, S).

    Another machine adds in another order, so its values differ by about eps of the terms in every step. The effect depends
    on problem and method: it vanishes on a convex problem, and doubles every few steps where runs separate. So it is
    measured by copies that are perturbed by eps at every iterate. The effect at t is the largest deviation of any copy in
    the steps around t (a tenth before and after, because curves cross). The envelope is `FACTOR` times the effect, plus
    `FACTOR` eps of the value for the rounding of each evaluation. The factor is needed because eight copies do not show the
    worst case, and a sum of many terms differs by more than one eps.

    The envelope is NaN where a copy has diverged, because no comparison is possible there.
    """
    with np.errstate(invalid="ignore"):
        effect = np.max(np.abs(values - values[..., :1]), axis=-1)  # (T + 1, S)
    around = np.array([np.max(effect[max(0, t - 2 - t // 10) : t + 3 + t // 10], axis=0) for t in range(len(effect))])
    allowed: np.ndarray = FACTOR * (around + eps * np.abs(values[..., 0]))
    return allowed


def first_out(values: np.ndarray, reference: np.ndarray, allowed: np.ndarray) -> tuple[float, float]:
    """First step at which a run leaves its envelope (NaN: never), and the largest used share of the envelope.

    All arrays have the shape (T + 1, S). Steps whose envelope is not finite are skipped.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(values - reference)
        share = np.where(difference == 0, 0.0, difference / allowed)
    known = np.isfinite(allowed) & np.isfinite(reference)
    share = np.where(known, np.where(np.isfinite(values), share, np.inf), 0.0)
    out = np.flatnonzero((share > 1).any(axis=1))
    return float(out[0]) if len(out) else float("nan"), float(share.max())


def settings_of(problem: Problem, name: str) -> dict[str, float]:
    """Settings of a method on a problem: a learning rate that is safe and makes progress."""
    if make_recipe(name).kind.step_size != "lr":
        return {}
    L = problem.smoothness or 1000.0  # about that of Rosenbrock at its start; safe for the others
    return {"lr": 0.01 if name == "adam" else (1.0 if name == "gradient_descent" else 0.1) / L}


def refusal(optimizer: Optimizer, backend: Backend, d: int) -> str:
    """Why the rule of an optimizer does not run compiled for d parameters; empty if it does."""
    assert isinstance(optimizer, FirstOrder)
    result = compiled(optimizer.rule, backend, optimizer.swept, optimizer.traits.per_run, d)
    return f"not compiled, because {result}" if isinstance(result, str) else ""


def optimizers_for(problem: Problem) -> Iterator[tuple[str, int | None]]:
    """Names and batch sizes of the optimizers whose curves are compared on a problem."""
    for name in OPTIMIZERS_SHOWN:
        if make_recipe(name).kind.oracle != "hessian" or (problem.has_hessian and problem.dim <= MAX_NEWTON):
            yield name, None
    if problem.n_samples is not None and problem.n_samples > BATCH:
        yield "momentum", BATCH


def curves(
    host: Backend, device: Backend, *, steps: int = 200, seeds: int = 2, names: Sequence[str] = ()
) -> Iterator[Row]:
    """For every problem and method, the first step outside the envelope and the used share of the envelope.

    The envelope of a precision is computed with its eps; the reference is the CPU in float64. The CPU in float32 is
    compared as a test of the envelope: it uses 1 to 50 percent, unless a line search takes another direction.
    """
    for name in names or PROBLEMS.names():
        problem = make_problem(*parse_spec(name)).on(dataclasses.replace(host, precision="float64", fused=False))
        for method, batch in optimizers_for(problem):
            recipe = make_recipe(method)
            many = tuple(range(seeds))
            for precision in ("float64", "float32"):
                eps = float(np.finfo(precision).eps)
                build = functools.partial(recipe.build, settings_of(problem, method))
                base = trajectory(problem, build(), many, steps, batch=batch, copies=COPIES, jitter=eps)
                allowed, reference = envelope(base, eps), base[..., 0]
                unknown = np.flatnonzero(~np.isfinite(allowed).all(axis=1))
                case = f"{problem.spec}, {method}" + (f", batch {batch}" if batch else "")
                note = f"of {unknown[0] if len(unknown) else steps} steps"
                contenders = {"gpu": (device, False)}
                if not isinstance(recipe.target, type):
                    contenders["gpu fused"] = device, True
                if precision == "float32":
                    contenders["cpu"] = host, False
                for contender, (backend, fused) in contenders.items():
                    backend = dataclasses.replace(backend, precision=precision, fused=fused)
                    row = {"case": case, "precision": precision, "contender": contender}
                    if fused and (reason := refusal(build(), backend, problem.dim)):
                        yield row | {"quantity": "first step out", "value": None, "note": reason}
                        continue
                    values = trajectory(problem.on(backend), build(), many, steps, batch=batch)[..., 0]
                    out, share = first_out(values, reference, allowed)
                    yield row | {"quantity": "first step out", "value": out, "note": note}
                    yield row | {"quantity": "share of envelope", "value": share}


# ---- steps -----------------------------------------------------------------------------------------------------------

MOVES = {"adam": 7, "momentum": 5, "copy": 2}  # arrays read or written: x, g and state in, x and state out


def timed_rows(
    row: Row,
    make: Callable[[], Callable[[int], Any]],
    backend: Backend,
    seconds: float,
    repeats: int,
    moved: float = 0.0,
) -> list[Row]:
    """One row per repeat: seconds per call of the result of `make`, or bytes per second if `moved` are moved; or one error.

    The first calls are not counted. The clock is read when the device is idle, after so many calls that waiting does not
    matter.
    """
    try:
        run = make()
        seconds_of(run, 2)  # the first calls compile and allocate
        count = calls_within(run, seconds, backend.clock)
        times = [seconds_of(run, count, backend.clock) / count for _ in range(repeats)]
    except Exception as error:  # mostly too little memory, for which each library raises its own type
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        return [row | {"value": None, "note": "; ".join(filter(None, [row.get("note"), reason]))}]
    finally:
        backend.free_memory()
    return [row | {"repeat": k, "value": moved / taken if moved else taken} for k, taken in enumerate(times)]


def steps(
    device: Backend, *, sizes: Sequence[int] = (), seconds: float = 0.05, repeats: int = 5, runs: int = 100
) -> Iterator[Row]:
    """Bytes per second of the update of a rule, without the oracle, and of a copy on the device, by size and precision."""
    for precision in ("float64", "float32"):
        for size in sizes or tuple(10**k for k in range(4, 9)):
            shape, width = (min(runs, size), size // min(runs, size)), np.dtype(precision).itemsize
            for case in ("copy", "momentum", "adam"):
                for update in ("",) if case == "copy" else ("fused", "plain"):
                    backend = dataclasses.replace(device, precision=precision, fused=update == "fused")
                    row = {"case": case, "precision": precision, "size": shape[0] * shape[1]}
                    row |= {"contender": update or "copy", "quantity": "bytes a second"}
                    if update == "fused" and (reason := refusal(_method(case, 1), backend, shape[1])):
                        yield row | {"value": None, "note": reason}
                        continue
                    make = functools.partial(_stepper, case, shape, backend)
                    yield from timed_rows(
                        row, make, backend, seconds, repeats, MOVES[case] * width * shape[0] * shape[1]
                    )


def _method(name: str, runs: int) -> Optimizer:
    return make_recipe(name).build({"lr": np.full(runs, 1e-3)})


def _stepper(case: str, shape: tuple[int, int], backend: Backend) -> Callable[[int], Any]:
    rng = np.random.default_rng(0)
    line = rng.standard_normal((1, shape[1]))  # equal rows, because 1e8 random numbers take long
    x, g = (backend.xp.broadcast_to(backend.asarray(line), shape) + backend.zeros((shape[0], 1)) for _ in range(2))
    if case == "copy":

        def copies(count: int) -> None:
            for _ in range(count):
                backend.xp.asarray(x, copy=True)

        return copies
    optimizer = _method(case, shape[0])
    f = backend.zeros((shape[0], 1))
    return stepper(optimizer, lambda x: At(x, f, g), x, backend)


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def sweeps(host: Backend, device: Backend, *, quick: bool = False, repeats: int = 3) -> Iterator[Row]:
    """Seconds of whole sweeps by each contender, deviations of their last iterates, and the peak of the memory pool.

    JAX runs as in benchmarks/peers (float64, a scan over steps mapped over runs, gradients by hand, without compile time),
    if it is installed and finds the GPU.
    """
    from benchmarks.peers import optbench_peer
    from benchmarks.peers.work import deviation, works

    peer, why = _jax_peer()
    for work in works(quick):
        for precision in ("float64", "float32"):
            placed = {}
            for name, backend in (("cpu", host), ("gpu", device)):
                backend = dataclasses.replace(backend, precision=precision, fused=True)
                placed[name] = dataclasses.replace(work, problem=work.problem.on(backend))
            row: Row = {"case": work.title, "precision": precision, "size": work.runs, "note": f"{work.steps} steps"}
            ends = {name: optbench_peer.sweep(ours.cut(20))().x for name, ours in placed.items()}
            runners = {name: optbench_peer.sweep(ours) for name, ours in placed.items()}
            if precision == "float64":
                name = "jax on gpu"
                if peer is None:
                    yield row | {"contender": name, "quantity": "seconds", "value": None, "note": why}
                else:
                    ends[name] = peer.sweep(work.cut(20), "hand")().x
                    runners[name] = peer.sweep(work, "hand")
            for name, end in ends.items():
                apart = deviation(end, ends["cpu"])
                yield row | {"contender": name, "quantity": "deviation after 20 steps", "value": apart}
            for name, run in runners.items():
                if name != "cpu":  # slow, and already compiled
                    run()
            for repeat in range(repeats):  # in turn, so that all have the same conditions
                for name, run in runners.items():
                    start = device.clock()
                    run()
                    taken = device.clock() - start
                    yield row | {"contender": name, "quantity": "seconds", "repeat": repeat, "value": taken}
            del runners, ends
            device.free_memory()
            optbench_peer.sweep(placed["gpu"])()
            peak = device.peak_memory()
            yield row | {"contender": "gpu", "quantity": "peak bytes of the pool", "value": peak}


def _jax_peer() -> tuple[Any, str]:
    """The module of benchmarks/peers for JAX, or why it cannot run."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it allocates most of the memory
    try:
        import jax

        where = jax.devices()[0].platform
        if where != "gpu":
            return None, f"JAX is installed but runs on {where}"
        from benchmarks.peers import jax_peer
    except Exception as error:  # not installed, or its libraries do not match the driver
        return None, f"no JAX here ({type(error).__name__}: {str(error)[:80]})"
    return jax_peer, ""


# ---- sizes -----------------------------------------------------------------------------------------------------------

# size that grows, spec and sizes; all other problems grow in the number of runs
GROWING = {
    "quadratic": ("d", "quadratic:dim={}", (16, 64, 256, 1024, 2048)),
    "quadratic, diagonal": ("d", "quadratic:rotate=false,dim={}", (100, 1000, 10_000, 100_000)),
    "logistic": ("n", "logistic:data=synthetic,columns=99,rows={}", (100, 1000, 10_000, 100_000)),
    "mlp": ("n", "mlp:data=moons,hidden=32,rows={}", (100, 1000, 10_000, 100_000)),
    "teacher": ("n", "teacher:rows={}", (100, 1000, 10_000, 100_000)),
    "rosenbrock": ("d", "rosenbrock:dim={}", (10, 100, 1000, 10_000, 100_000)),
    "styblinski_tang": ("d", "styblinski_tang:dim={}", (10, 100, 1000, 10_000, 100_000)),
    "strict_saddle": ("d", "strict_saddle:dim={}", (10, 100, 1000, 10_000, 100_000)),
}
RUNS = (10, 100, 1000, 10_000, 100_000)
MAX_STEP_BYTES = 1 << 32  # of intermediate results, which a modest CPU or GPU has


def growing(names: Sequence[str] = ()) -> Iterator[tuple[str, str, str, Sequence[int]]]:
    """Name, growing size, spec and sizes of each registered problem."""
    for name, (axis, spec, sizes) in GROWING.items():
        if not names or name in names:
            yield name, axis, spec, sizes
    for name in names or PROBLEMS.names():
        if name not in GROWING:
            yield name, "runs", name, RUNS


def sizes(
    host: Backend,
    device: Backend,
    *,
    names: Sequence[str] = (),
    most: Sequence[int] = (),
    seconds: float = 0.1,
    repeats: int = 3,
    patience: float = 0.5,
    runs: int = 100,
) -> Iterator[Row]:
    """Seconds of one step of momentum with its oracle, for `runs` runs at once, by size.

    A problem grows until a step needs more than `patience` seconds on the CPU, or more than `MAX_STEP_BYTES`.

    Parameters
    ----------
    most : sequence of int, optional
        Sizes instead of those of `growing`.
    """
    for name, axis, spec, usual in growing(names):
        for size in most or usual:
            rows = size if axis == "runs" else runs
            try:
                problem = make_problem(*parse_spec(spec.format(size)))
            except InputError:  # below the smallest size of the problem
                continue
            if rows * problem.bytes_per_run(None) > MAX_STEP_BYTES:
                break
            slowest = 0.0
            for precision in ("float64", "float32"):
                row = {"case": name, "precision": precision, "size": size}
                row |= {"quantity": "seconds a step", "note": axis}
                for contender, backend in (("cpu", host), ("gpu", device)):
                    backend = dataclasses.replace(backend, precision=precision, fused=True)
                    make = functools.partial(_walker, problem, backend, rows)
                    results = timed_rows(row | {"contender": contender}, make, backend, seconds, repeats)
                    yield from results
                    if contender == "cpu":
                        slowest = max(slowest, min(result["value"] or 0.0 for result in results))
            if slowest > patience:
                break


def _walker(problem: Problem, backend: Backend, runs: int) -> Callable[[int], Any]:
    problem, xp = problem.on(backend), backend.xp
    optimizer = make_recipe("momentum").build(settings_of(problem, "momentum"))
    loop = Loop(problem, optimizer, (0,), 1, None, runs)
    x = xp.asarray(xp.broadcast_to(problem.start(0)[None, :], (runs, problem.dim)), copy=True)
    return stepper(optimizer, lambda x: loop.evaluate(0, x), x, backend)


# ---- all of it -------------------------------------------------------------------------------------------------------


def measure(
    host: Backend,
    device: Backend,
    store: Store,
    *,
    quick: bool = False,
    names: Sequence[str] = (),
    report: Callable[[str], Any] = print,
) -> str:
    """Run all sections, store each when it is complete, and return the name of the measurement.

    Parameters
    ----------
    names : sequence of str, optional
        Problems of the curves and the sizes; by default all registered ones.
    """
    began = datetime.datetime.now(datetime.UTC)
    name = f"{began:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    sections: dict[str, tuple[Callable[..., Iterator[Row]], dict[str, Any]]] = {  # with the arguments of --quick
        "curves": (functools.partial(curves, host, device, names=names), {"steps": 20, "seeds": 1}),
        "steps": (functools.partial(steps, device), {"sizes": (100, 1000), "seconds": 1e-3, "repeats": 2}),
        "sweeps": (functools.partial(sweeps, host, device), {"quick": True, "repeats": 1}),
        "sizes": (
            functools.partial(sizes, host, device, names=names),
            {"most": (10, 40), "seconds": 1e-3, "repeats": 1, "runs": 4},
        ),
    }
    for section, (run, small) in sections.items():
        start = device.clock()
        rows = list(run(**(small if quick else {})))
        where = environment()
        common: Row = {
            "measurement": name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "machine": where.get("gpu", device.label),
            "processor": where["processor"],
            "section": section,
            "size": None,
            "repeat": 0,
            "note": "",
        }
        path = store.write_table("gpu", f"{name}-{section}", [common | row for row in rows], COLUMNS)
        report(f"{section}: {len(rows)} rows in {device.clock() - start:.0f} s, {path}")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="results folder to which the measurements are added")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test that everything runs")
    options = parser.parse_args(arguments)
    try:
        device = get_backend("gpu")
        store = Store(options.store)
        store.check_writable()
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            measure(get_backend("cpu"), device, store, quick=options.quick, report=functools.partial(print, flush=True))
    except (BackendError, StoreError) as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1
    print(f"to see the tables, run: optbench report {options.store}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
