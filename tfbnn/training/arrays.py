"""What `fit` is given: checks it, and counts N, the rows of training."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.core.checks import invalid
from tfbnn.core.traversal import sublayers
from tfbnn.likelihoods import Likelihood


def prepare(x: Any, y: Any, likelihood: Likelihood, names: tuple[str, str] = ("x", "y")) -> tuple[Any, Any, int | None]:
    """Checked arrays and their number of rows; a dataset passes as it is, with None.

    Args:
        x: inputs: arrays, or a dataset.
        y: targets, where x is arrays.
        likelihood: what y must fit.
        names: what errors call x and y.

    Raises:
        InvalidInput: for NaN, infinities, text, different lengths, or a y that does not fit the likelihood.
    """
    if not is_arrays(x):
        return x, y, None
    in_x, in_y = names
    x = as_arrays(in_x, x)
    rows = len(keras.tree.flatten(x)[0])
    if rows == 0:
        raise invalid(in_x, "one row or more", "0 rows")
    if y is None:
        raise invalid(in_y, f"targets, one a row of {in_x}", None)
    likelihood.check_numbers(in_y, y)
    y = as_arrays(in_y, y)
    likelihood.check_target_shape(in_y, y.shape)
    if len(y) != rows:
        raise invalid(in_y, f"{rows} rows, as {in_x} has", f"{len(y)} rows")
    likelihood.check_target(in_y, np.asarray(y))
    return x, y[:, np.newaxis] if len(y.shape) == 1 else y, rows


def build_network(model: keras.Model, x: Any) -> None:
    """Builds `model` for inputs like x, arrays or a tf.data dataset, before its first step."""
    if all(layer.built for layer in sublayers(model.network)) or not (is_arrays(x) or isinstance(x, tf.data.Dataset)):
        return
    spec = x.element_spec if isinstance(x, tf.data.Dataset) else x
    like = spec[0] if isinstance(spec, tuple) else spec
    model(keras.tree.map_structure(lambda part: keras.KerasTensor([None, *part.shape[1:]], _dtype(part)), like))


def check_width(where: str, model: keras.Model, x: Any) -> None:
    """Raises where the one input of the network has another shape than rows x, where the network tells it."""
    parts, inputs = keras.tree.flatten(x), getattr(model.network, "inputs", None) or []
    if len(parts) == len(inputs) == 1 and not tf.TensorShape(parts[0].shape[1:]).is_compatible_with(
        inputs[0].shape[1:]
    ):
        expected = f"rows of shape {list(inputs[0].shape[1:])}, as the network takes"
        raise invalid(where, expected, f"shape {list(parts[0].shape)}")


def _dtype(part: Any) -> str:
    dtype = tf.as_dtype(part.dtype).name
    return keras.config.floatx() if dtype == "float64" else dtype


def prepare_validation(data: Any, likelihood: Likelihood) -> Any:
    """Checks `validation_data` as `prepare` checks the training rows."""
    if not isinstance(data, tuple | list) or not is_arrays(data[0]):
        return data
    if not 2 <= len(data) <= 3:
        raise invalid("validation_data", "(x, y) or (x, y, sample_weight)", f"{len(data)} parts")
    x, y, rows = prepare(data[0], data[1], likelihood, ("validation_data[0]", "validation_data[1]"))
    return (x, y, *(prepare_weights("validation_data[2]", weight, rows) for weight in data[2:]))


def prepare_weights(where: str, weight: Any, rows: int | None) -> Any:
    """Checked weights, one a row, [N]; None, and what comes with a dataset, pass as they are."""
    if weight is None or rows is None:
        return weight
    weight = np.asarray(as_arrays(where, weight))
    if weight.size != rows or len(weight) != rows:
        raise invalid(where, f"{rows} numbers, one a row of x", f"shape {list(weight.shape)}")
    weight = weight.reshape(-1)
    if (weight < 0).any() or not (weight > 0).any():
        raise invalid(where, "numbers of 0 or more, not all of them 0", weight)
    return weight


def is_arrays(x: Any) -> bool:
    """Whether x holds all rows in memory: NumPy, pandas, tensors, lists, or a dict or list of such."""
    if isinstance(x, dict):
        return all(is_arrays(part) for part in x.values())
    return _is_array(x) or (isinstance(x, list | tuple) and len(x) > 0)


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) or tf.is_tensor(x) or _is_pandas(x)


def as_arrays(where: str, x: Any) -> Any:
    """x with every part as a NumPy array or tensor of finite numbers; pandas objects become float32 arrays."""
    if isinstance(x, dict):
        return {name: as_arrays(f"{where}[{name!r}]", part) for name, part in x.items()}
    if isinstance(x, tuple | list) and x and all(_is_array(part) for part in x):
        return [as_arrays(f"{where}[{i}]", part) for i, part in enumerate(x)]
    if not (is_arrays(x)):
        return x
    array = x if tf.is_tensor(x) else np.asarray(_numbers(where, x))
    _check_finite(where, array)
    return array


def _is_pandas(x: Any) -> bool:
    return type(x).__module__.split(".")[0] == "pandas"


def _numbers(where: str, x: Any) -> Any:
    """Numbers of whatever came; text is refused with the column named."""
    if _is_pandas(x) and hasattr(x, "columns"):
        for name in x.columns:
            _numbers(f"{where}[{name!r}]", x[name])
    try:
        return np.asarray(x) if np.asarray(x).dtype.kind in "biuf" else np.asarray(x, np.float32)
    except (TypeError, ValueError):
        raise invalid(
            where, "numbers", x, "Encode text first, or train from a recipe, which encodes columns itself."
        ) from None


def _check_finite(where: str, array: Any) -> None:
    values = np.asarray(array)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = values.size - int(np.isfinite(values).sum())
    first = np.argwhere(~np.isfinite(values))[0].tolist()
    raise invalid(
        where,
        "finite numbers",
        f"{bad} NaN or infinite of {values.size}, the first at index {first}",
        "Drop or fill those rows, or train from a recipe, which handles missing values.",
    )


def training_rows(x: Any, rows: int | None, validation_split: float = 0.0) -> int | None:
    """N: rows after validation_split, floor(n (1 - split)), as Keras splits; rows of a dataset where it tells them."""
    if rows is not None:
        return math.floor(rows * (1.0 - validation_split)) if validation_split else rows
    if isinstance(x, tf.data.Dataset):
        return _dataset_rows(x)
    return None


def _dataset_rows(dataset: tf.data.Dataset) -> int | None:
    """Batches x batch size, where both are known: a dataset that drops the remainder."""
    batch = keras.tree.flatten(dataset.element_spec)[0].shape[:1].as_list()
    batches = int(dataset.cardinality().numpy())
    return batches * batch[0] if batch and batch[0] and batches > 0 else None
