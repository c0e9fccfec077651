"""A trained Pipeline as one ONNX graph: the frozen preparation node by node, the estimator as skl2onnx converts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from coretree.errors import ConfigError
from coretree.learn.prior_shift import PriorShift
from coretree.learn.units import centre_and_spread

OPSET, ML_OPSET = 18, 3
MISSING_TEXT = ""
"""What stands for a missing text: ONNX has no missing string."""


def text_columns(transformer: Any) -> dict[str, bool]:
    """Columns that a frozen preparation reads, in order, and whether each is text.

    Raises
    ------
    ConfigError
        A column is a time.
    """
    found: dict[str, bool] = {}
    for block, step, columns in transformer.transformers_:
        if block == "datetime":
            raise ConfigError(
                f"ONNX: column {columns[0]!r} is a time, and its parts cannot be computed in ONNX. Give the model its "
                "month, weekday and hour as numbers instead."
            )
        if block != "remainder":
            found |= dict.fromkeys(columns, block.startswith("category_") and "fill_none" in step.named_steps)
    return found


def number_columns(transformer: Any) -> list[str]:
    """Columns of numbers that are not categories."""
    return [name for block, _, columns in transformer.transformers_ if block == "numeric" for name in columns]


def pipeline_graph(pipeline: Pipeline) -> Any:
    """Turn a fitted preparation and estimator into an ONNX ModelProto.

    Inputs are (N, 1), one a column under its own name: double with NaN for missing numbers, string with ``""`` for
    missing texts. Outputs: ``label`` and, where there are, ``probabilities`` (N, K); or ``prediction`` (N, 1).

    Raises
    ------
    ConfigError
        A column or a step has no form in ONNX.
    """
    from onnx import TensorProto, checker, helper

    transformer, final = pipeline[0], pipeline[-1]
    columns = text_columns(transformer)
    graph = _Graph()
    blocks = []
    for block, step, names in transformer.transformers_:
        if block == "numeric":
            blocks.append(_numeric(graph, step, names))
        elif block.startswith("category_"):
            blocks.append(_category(graph, step, names[0], columns[names[0]]))
    features = graph.add("Concat", blocks, axis=1)
    table = graph.add("Cast", [features], to=TensorProto.FLOAT)
    outputs = _estimator(graph, final, table, int(transformer.transform(_no_row(transformer)).shape[1]), set(columns))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.STRING if text else TensorProto.DOUBLE, [None, 1])
        for name, text in columns.items()
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "coretree", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=9,
        producer_name="coretree",
    )
    checker.check_model(model)
    return model


def _no_row(transformer: Any) -> Any:
    text = text_columns(transformer)
    return pd.DataFrame({name: np.array([None if is_text else np.nan]) for name, is_text in text.items()})


def session_maker() -> Callable[[bytes], Any]:
    """How a graph is run, where the packages for ONNX are.

    Raises
    ------
    ConfigError
        They are not.
    """
    try:
        import onnxruntime
        import skl2onnx  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'to_onnx: {error}. Type: pip install "coretree[onnx]"') from None
    return lambda model: onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


class _Graph:
    """Nodes and constants that are added one by one, under names that no column has."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(
        self, kind: str, inputs: Sequence[str], *, domain: str = "", out: str | None = None, **attributes: Any
    ) -> str:
        from onnx import helper

        name = out or f"coretree/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, values: npt.ArrayLike, dtype: Any = np.float64) -> str:
        from onnx import numpy_helper

        name = f"coretree/c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name


def _numeric(graph: _Graph, step: Pipeline, names: Sequence[str]) -> str:
    """Infinite cells as missing, bounds, fill, indicators, scale."""
    from onnx import TensorProto

    steps = step.named_steps
    x = graph.add("Concat", list(names), axis=1)
    x = graph.add("Where", [graph.add("IsInf", [x]), graph.constant([[np.nan]]), x])
    if "clip" in steps:  # comparisons leave NaN alone
        bounds = steps["clip"].kw_args
        for kind, bound in (("Less", bounds["a_min"]), ("Greater", bounds["a_max"])):
            edge = graph.constant([bound])
            x = graph.add("Where", [graph.add(kind, [x, edge]), edge, x])
    missing = graph.add("IsNaN", [x])
    x = graph.add("Where", [missing, graph.constant([steps["fill"].statistics_]), x])
    n = len(names)
    if steps["fill"].add_indicator and len(steps["fill"].indicator_.features_):
        flagged = steps["fill"].indicator_.features_
        flags = graph.add("Gather", [missing, graph.constant(flagged, np.int64)], axis=1)
        x = graph.add("Concat", [x, graph.add("Cast", [flags], to=TensorProto.DOUBLE)], axis=1)
        n += len(flagged)
    if "scale" in steps:
        centre, spread = centre_and_spread(steps["scale"], n)
        x = graph.add("Div", [graph.add("Sub", [x, graph.constant([centre])]), graph.constant([spread])])
    return x


def _category(graph: _Graph, step: Pipeline, name: str, text: bool) -> str:
    """Place among the levels, then one column a level and one for all others, or the place itself."""
    from onnx import TensorProto

    encoder, missing = step.named_steps["encode"], step.named_steps["fill"].fill_value
    levels = encoder.categories_[0].tolist()
    onehot = isinstance(encoder, OneHotEncoder)
    if onehot:
        pooled = set(encoder.infrequent_categories_[0].tolist())
        levels = [level for level in levels if level not in pooled]
    other = len(levels)
    place = {level: i for i, level in enumerate(levels)}
    if text:
        if MISSING_TEXT in place:
            raise ConfigError(f"ONNX: an empty text is a level of {name!r}, where it has to stand for a missing one.")
        place[MISSING_TEXT] = place.get(missing, other)
        keys: dict[str, Any] = {
            "keys_strings": list(place),
            "values_int64s": list(place.values()),
            "default_int64": other,
        }
        code = graph.add("LabelEncoder", [name], domain="ai.onnx.ml", **keys)
    else:
        absent = graph.add("Or", [graph.add("IsNaN", [name]), graph.add("IsInf", [name])])
        x = graph.add("Where", [absent, graph.constant([[float(missing)]]), name])
        hit = graph.add("Equal", [x, graph.constant([[float(level) for level in levels]])])
        # a last column of ones: the first hit is the level, or else it
        ones = graph.add("Expand", [graph.constant([[1]], np.int64), graph.add("Shape", [name])])
        hits = graph.add("Concat", [graph.add("Cast", [hit], to=TensorProto.INT64), ones], axis=1)
        code = graph.add("ArgMax", [hits], axis=1, keepdims=1)
    if onehot:
        hit = graph.add("Equal", [code, graph.constant([range(other + 1)], np.int64)])
        return graph.add("Cast", [hit], to=TensorProto.DOUBLE)
    is_other = graph.add("Equal", [code, graph.constant([[other]], np.int64)])
    ordinal = graph.add("Where", [is_other, graph.constant([[-1]], np.int64), code])
    return graph.add("Cast", [ordinal], to=TensorProto.DOUBLE)


def _estimator(graph: _Graph, final: Any, table: str, n_features: int, taken: set[str]) -> list[Any]:
    """Add the nodes of the estimator and return the outputs of the graph."""
    from onnx import TensorProto, compose, helper
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    inner = final.estimator_ if isinstance(final, PriorShift) else final
    options = {id(inner): {"zipmap": False}} if hasattr(inner, "predict_proba") else None
    versions = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    try:
        found = to_onnx(
            inner, initial_types=[("X", FloatTensorType([None, n_features]))], options=options, target_opset=versions
        )
    except Exception as error:  # skl2onnx fails in many ways on what it does not know
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"ONNX: skl2onnx cannot convert {type(inner).__name__} ({type(error).__name__}: {reason}). Nothing was "
            "written; linear models, trees and forests work."
        ) from error
    found = compose.add_prefix(found, "coretree/model/")
    graph.add("Identity", [table], out=found.graph.input[0].name)
    graph.nodes += found.graph.node
    graph.constants += found.graph.initializer
    made = [output.name for output in found.graph.output]
    kind = TensorProto.STRING if np.asarray(getattr(final, "classes_", [0])).dtype.kind in "OU" else TensorProto.INT64

    def output(name: str, source: str, type_: int, width: list[Any]) -> Any:
        while name in taken:
            name += "_"
        graph.add("Identity", [source], out=name)
        return helper.make_tensor_value_info(name, type_, [None, *width])

    if not is_classifier(final):
        return [output("prediction", made[0], TensorProto.FLOAT, [1])]
    if not hasattr(final, "predict_proba"):
        return [output("label", made[0], kind, [])]
    label, p = made[0], made[1]
    if isinstance(final, PriorShift):
        label, p = _shifted(graph, final, p)
    return [output("label", label, kind, []), output("probabilities", p, TensorProto.FLOAT, [len(final.classes_)])]


def _shifted(graph: _Graph, final: PriorShift, p: str) -> tuple[str, str]:
    """`PriorShift.predict_proba`, and the most probable label."""
    if final.shifts:
        n = len(final.ratios_)
        p = graph.add("Mul", [p, graph.constant([1 - final.smoothing], np.float32)])
        p = graph.add("Add", [p, graph.constant([final.smoothing / n], np.float32)])
        p = graph.add("Pow", [p, graph.constant([final.sharpness_], np.float32)])
        p = graph.add("Mul", [p, graph.constant([final.ratios_], np.float32)])
        total = graph.add("ReduceSum", [p, graph.constant([1], np.int64)], keepdims=1)
        p = graph.add("Div", [p, total])
    text = final.classes_.dtype.kind in "OU"
    labels = graph.constant(final.classes_, object if text else np.int64)
    return graph.add("Gather", [labels, graph.add("ArgMax", [p], axis=1, keepdims=0)]), p
