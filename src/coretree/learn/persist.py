"""Save a model so that loading it never runs foreign code and never believes a damaged byte."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from coretree.errors import ModelFileError, OutputExistsError, StoreError

FORMAT = "coretree-model"
FORMAT_VERSION = 1
MODEL_FILE = "model.skops"
MANIFEST_FILE = "manifest.json"

TRUSTED_TYPES: tuple[str, ...] = (
    # what scikit-learn's trees, forests, boosting, calibration, neighbours and networks are made of
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    # functions that a prepared pipeline calls
    "numpy.clip",
    "numpy.nan_to_num",
    "sklearn.utils.validation.check_array",
    # our own
    "coretree.data.times.DatetimeParts",
    "coretree.learn.prior_shift.PriorShift",
)
"""Types that a model file may hold besides those that skops trusts by itself: fixed, never what the file asks for."""

_PACKAGES = ("coretree", "scikit-learn", "numpy", "scipy", "pandas", "skops")
_OWN_KEYS = frozenset({"format", "format_version", "sha256", "n_bytes", "versions", "checksum"})


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a model depends on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source folder: coretree itself is not installed
            continue
    return found


def save_model(folder: str | Path, model: Any, manifest: Mapping[str, Any], *, trusted: Sequence[str] = ()) -> Path:
    """Write ``model.skops`` and ``manifest.json`` into a new folder, completely or not at all.

    Parameters
    ----------
    folder : path
        Must not exist; its parent is made where needed.
    model : fitted estimator
        Usually a `sklearn.pipeline.Pipeline`.
    manifest : mapping
        What to keep beside the model (schema, metrics, recipe): anything JSON can hold, numpy scalars and arrays
        too. Format, checksums and library versions are added.
    trusted : sequence of str
        Full names of further types (an estimator of your own); `load_model` needs the same list.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExistsError
        If the folder exists; nothing is touched.
    ModelFileError
        If the model holds a type that loading would refuse.
    StoreError
        If the folder cannot be written.
    ValueError
        If the manifest uses a reserved key, or holds what JSON cannot.
    """
    target = Path(folder)
    taken = sorted(_OWN_KEYS & set(manifest))
    if taken:
        raise ValueError(f"manifest: the key {taken[0]!r} is reserved; reserved are {sorted(_OWN_KEYS)}")
    if target.exists():
        raise OutputExistsError(f"{target} exists already. Name another folder, or remove it first.")
    data = _model_bytes(model, target, trusted)
    entries = {
        **json.loads(json.dumps(dict(manifest), default=_plain, allow_nan=False)),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sha256": hashlib.sha256(data).hexdigest(),
        "n_bytes": len(data),
        "versions": library_versions(),
    }
    text = json.dumps({**entries, "checksum": _checksum(entries)}, indent=2, sort_keys=True, ensure_ascii=False)
    _write_folder(target, {MODEL_FILE: data, MANIFEST_FILE: (text + "\n").encode()})
    return target


def load_model(folder: str | Path, *, trusted: Sequence[str] = ()) -> tuple[Any, dict[str, Any]]:
    """Read a model and its manifest back; every check comes before the first object is made.

    Parameters
    ----------
    folder : path
        As given to `save_model`.
    trusted : sequence of str
        Full names of further types that the file may hold. Name only types you know.

    Returns
    -------
    model : fitted estimator
    manifest : dict

    Raises
    ------
    ModelFileError
        If the folder holds no model, another format, a newer one, a damaged file, or a type that is not trusted.
    """
    source = Path(folder)
    manifest = _read_manifest(source)
    try:
        data = (source / MODEL_FILE).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{source / MODEL_FILE}: cannot be read ({error.strerror}). {_RESAVE}") from error
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise ModelFileError(
            f"{source / MODEL_FILE}: damaged or replaced: its sha256 is not the one in {MANIFEST_FILE} "
            f"({len(data)} bytes found, {manifest.get('n_bytes')} written). {_RESAVE}"
        )
    allowed = [*TRUSTED_TYPES, *trusted]
    import skops.io  # imports every estimator of scikit-learn, and torch where it is: only for those who load or save

    try:
        strangers = sorted(set(skops.io.get_untrusted_types(data=data)) - set(allowed))
        if not strangers:
            return skops.io.loads(data, trusted=allowed), manifest
    except Exception as error:  # skops and scikit-learn fail in many ways on a file of other versions
        raise ModelFileError(
            f"{source / MODEL_FILE}: cannot be loaded here ({type(error).__name__}: {error}). "
            f"Saved with {_spelled(manifest.get('versions'))}; here are {_spelled(library_versions())}."
        ) from error
    raise ModelFileError(
        f"{source / MODEL_FILE}: holds types that are not trusted: {', '.join(strangers)}. Nothing was loaded. "
        "If you know them, name them: load_model(folder, trusted=[...])."
    )


_RESAVE = "Copy the folder again from where it was saved, or train again."


def _model_bytes(model: Any, target: Path, trusted: Sequence[str]) -> bytes:
    import skops.io

    try:
        data: bytes = skops.io.dumps(model)
    except skops.io.exceptions.UnsupportedTypeException as error:
        raise ModelFileError(f"{target}: not saved, because skops cannot write it without pickle: {error}") from error
    strangers = sorted(set(skops.io.get_untrusted_types(data=data)) - {*TRUSTED_TYPES, *trusted})
    if strangers:
        raise ModelFileError(
            f"{target}: not saved, because loading would refuse {', '.join(strangers)}. "
            "If you know these types, name them when saving and when loading: trusted=[...]."
        )
    return data


def _read_manifest(source: Path) -> dict[str, Any]:
    path = source / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError(
            f"{source}: not a saved model: {MANIFEST_FILE} cannot be read ({error.strerror}). "
            "Give the folder that training wrote."
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{path}: damaged: {error}. {_RESAVE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not written by coretree: 'format' must be {FORMAT!r}.")
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: format version {version!r}, but this coretree reads up to {FORMAT_VERSION}. "
            "Install a newer one: pip install -U coretree."
        )
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    if manifest.get("checksum") != _checksum(rest) or not isinstance(manifest.get("sha256"), str):
        raise ModelFileError(f"{path}: damaged or edited: its checksum does not match. {_RESAVE}")
    return manifest


def _checksum(entries: Mapping[str, Any]) -> str:
    """Sha256 of the entries as canonical JSON."""
    canonical = json.dumps(dict(entries), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"manifest: {type(value).__name__} cannot be written as JSON: {value!r}")


def _spelled(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) if versions else "unknown"


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files beside the target, flush them to disk, then rename: readers see all or nothing."""
    unfinished = target.parent / f".{target.name}.unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process of the same number that was killed
    try:
        unfinished.mkdir(parents=True)
        for name, data in files.items():
            with (unfinished / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            raise OutputExistsError(f"{target} appeared while the model was being written. Name another folder.")
        unfinished.rename(target)
        _sync(target.parent)
    except OutputExistsError:
        raise
    except OSError as error:
        n_bytes = sum(map(len, files.values()))
        raise StoreError(
            f"{target}: the model ({n_bytes:,} bytes) could not be written: {error.strerror}. Nothing was left behind; "
            "free some space or name another folder."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flush a folder's own entry, so that the rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
