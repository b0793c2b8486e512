"""Logistic regression that begins at a known answer and leaves it only for evidence.

    z        = <x, weight> + shift
    minimise   sum of  importance * log(1 + exp(-z)) over active rows
                     + importance * log(1 + exp(z))  over the others
             + strength / 2 * (|weight - start|^2 / unit^2 + (shift - start shift)^2)

Without rows it is the start; the more rows, the less the start counts.

Newton's method, its steps by conjugate gradients and its products by `np.einsum`, keeps to one
thread. L-BFGS of SciPy and `@` ask the threads of a BLAS for work of microseconds, and where other
programs are busy those wait for each other ten times as long as they compute. What decides on the
minimum, cost and gradient, is of double precision; products with the curvature, ten for each of
those, decide on the way there alone, and are of single precision.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit

MAX_STEPS = 200


def fit(
    rows: Float[np.ndarray, "row dim"],
    active: Bool[np.ndarray, "row"],
    importance: Float[np.ndarray, "row"],
    start: Float[np.ndarray, "dim+1"],
    *,
    unit: float,
    strength: float,
) -> Float[np.ndarray, "dim+1"]:
    """Return the weights, and as the last one the shift.

    Args:
        rows: x of each row.
        active: whether the row is one of the caption.
        importance: of each row, 0 or more; an event counts 1 with all its frames.
        start: weights and shift to stay near to.
        unit: how far a weight is worth as much as 1 of the shift.
        strength: how many events the start is worth, about; above 0.
    """
    sign, short = np.where(active, 1.0, -1.0), rows.astype(np.float32)
    hold = strength * np.append(np.full(rows.shape[1], 1 / unit**2), 1.0)

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (along(rows, theta[:-1]) + theta[-1])
        away = theta - start
        pull = -importance * sign * expit(-margin)
        total = importance @ np.logaddexp(0.0, -margin) + hold @ away**2 / 2
        return float(total), _summed(pull, rows) + hold * away

    @lru_cache(maxsize=1)  # of one point many steps are asked
    def bend(theta: bytes) -> np.ndarray:
        at = np.frombuffer(theta)
        p = expit(along(rows, at[:-1]) + at[-1])
        return (importance * p * (1 - p)).astype(np.float32)

    def curvature(theta: np.ndarray, step: np.ndarray) -> np.ndarray:
        moved = along(short, step[:-1].astype(np.float32)) + np.float32(step[-1])
        return _summed(bend(theta.tobytes()) * moved, short) + hold * step

    how = {"gtol": 1e-5, "maxiter": MAX_STEPS}
    found = minimize(cost, start, jac=True, hessp=curvature, method="trust-ncg", options=how)
    return found.x


def along(
    rows: Float[np.ndarray, "row dim"], weight: Float[np.ndarray, "dim"]
) -> Float[np.ndarray, "row"]:
    """Return the product of each row and the weights."""
    return np.einsum("ij,j->i", rows, weight)


def _summed(
    amount: Float[np.ndarray, "row"], rows: Float[np.ndarray, "row dim"]
) -> Float[np.ndarray, "dim+1"]:
    """The sum of the rows, as much of each as said, and as the last one that of the amounts."""
    return np.append(np.einsum("i,ij->j", amount, rows), amount.sum())
