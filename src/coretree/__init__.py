"""Train ordinary scikit-learn models on data that does not fit in memory, from a mergeable tree of coresets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives; loaded on first use, so that `import coretree` stays light.
_NAMES = {
    "Certificate": "coretree.run.certify",
    "CleanRules": "coretree.data.clean",
    "Comparison": "coretree.learn.standings",
    "Coreset": "coretree.tree.coresets",
    "CoresetClassifier": "coretree.run.estimators",
    "CoresetClusterer": "coretree.run.clusterer",
    "CoresetRegressor": "coretree.run.estimators",
    "CoresetSearchCV": "coretree.run.search",
    "CoresetTransformer": "coretree.run.transformer",
    "CoresetTree": "coretree.run.coreset_tree",
    "Dataset": "coretree.data.dataset",
    "Diagnosis": "coretree.learn.diagnosis",
    "Evaluation": "coretree.run.evaluate",
    "Job": "coretree.config",
    "PrepareRules": "coretree.data.prepare",
    "ThreadExecutor": "coretree.run.executor",
    "certify": "coretree.run.certify",
    "coefficients": "coretree.run.insight",
    "choose": "coretree.run.train",
    "compare": "coretree.run.compare",
    "diagnose": "coretree.run.diagnose",
    "evaluate": "coretree.run.evaluate",
    "load_model": "coretree.run.estimators",
    "local_cluster": "coretree.run.cluster",
    "partial_dependence": "coretree.run.insight",
    "per_class_report": "coretree.run.threshold",
    "permutation_importance": "coretree.run.insight",
    "polish": "coretree.run.polish",
    "open_store": "coretree.tree.addresses",
    "predict": "coretree.run.predict",
    "shap_values": "coretree.run.insight",
    "to_onnx": "coretree.run.onnx_export",
    "tune_threshold": "coretree.run.threshold",
}
_MODULES = ("errors",)

__all__ = ["__version__", *_NAMES, *_MODULES]

if TYPE_CHECKING:
    from coretree import errors as errors
    from coretree.config import Job as Job
    from coretree.data.clean import CleanRules as CleanRules
    from coretree.data.dataset import Dataset as Dataset
    from coretree.data.prepare import PrepareRules as PrepareRules
    from coretree.learn.diagnosis import Diagnosis as Diagnosis
    from coretree.learn.standings import Comparison as Comparison
    from coretree.run.certify import Certificate as Certificate
    from coretree.run.certify import certify as certify
    from coretree.run.cluster import local_cluster as local_cluster
    from coretree.run.clusterer import CoresetClusterer as CoresetClusterer
    from coretree.run.compare import compare as compare
    from coretree.run.coreset_tree import CoresetTree as CoresetTree
    from coretree.run.diagnose import diagnose as diagnose
    from coretree.run.estimators import CoresetClassifier as CoresetClassifier
    from coretree.run.estimators import CoresetRegressor as CoresetRegressor
    from coretree.run.estimators import load_model as load_model
    from coretree.run.evaluate import Evaluation as Evaluation
    from coretree.run.evaluate import evaluate as evaluate
    from coretree.run.executor import ThreadExecutor as ThreadExecutor
    from coretree.run.insight import coefficients as coefficients
    from coretree.run.insight import partial_dependence as partial_dependence
    from coretree.run.insight import permutation_importance as permutation_importance
    from coretree.run.insight import shap_values as shap_values
    from coretree.run.onnx_export import to_onnx as to_onnx
    from coretree.run.polish import polish as polish
    from coretree.run.predict import predict as predict
    from coretree.run.search import CoresetSearchCV as CoresetSearchCV
    from coretree.run.threshold import per_class_report as per_class_report
    from coretree.run.threshold import tune_threshold as tune_threshold
    from coretree.run.train import choose as choose
    from coretree.run.transformer import CoresetTransformer as CoresetTransformer
    from coretree.tree.addresses import open_store as open_store
    from coretree.tree.coresets import Coreset as Coreset


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _MODULES:
        return import_module(f"coretree.{name}")
    raise AttributeError(f"module 'coretree' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
