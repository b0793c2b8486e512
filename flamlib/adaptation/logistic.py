"""Logistic regression that begins at a known answer and leaves it only for evidence.

    z        = <x, weight> + shift
    minimise   sum of  importance * log(1 + exp(-z)) over active rows
                     + importance * log(1 + exp(z))  over the others
             + strength / 2 * (|weight - start|^2 / unit^2 + (shift - start shift)^2)

Without rows it is the start; the more rows, the less the start counts.
"""

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
    sign = np.where(active, 1.0, -1.0)

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (rows @ theta[:-1] + theta[-1])
        away = theta - start
        scaled = np.append(away[:-1] / unit**2, away[-1])
        pull = -importance * sign * expit(-margin)
        slope = np.append(pull @ rows, pull.sum()) + strength * scaled
        total = importance @ np.logaddexp(0.0, -margin) + strength / 2 * (away @ scaled)
        return float(total), slope

    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS})
    return found.x
