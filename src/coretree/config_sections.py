"""The tables of a job file: every key with its type, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, Strict

from coretree.config_errors import nearest

CLASSIFIERS = ("logistic", "tree", "forest", "svm", "hist_gradient_boosting")
REGRESSORS = ("ridge", "linear", "tree", "forest", "hist_gradient_boosting")
MODEL_ALIASES = ("lr", "dt", "rf", "hgb")
CLASSIFICATION_SCORINGS = (
    "roc_auc",
    "average_precision",
    "neg_log_loss",
    "neg_brier_score",
    "accuracy",
    "f1_macro",
)
REGRESSION_SCORINGS = ("r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _none_for_false(value: Any) -> Any:
    return None if value is False else value


# TOML has real types, so "20" for 20 is a mistake; only text becomes a list of one, and false means "off".
Whole = Annotated[int, Strict()]
Real = Annotated[float, Strict()]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Section(BaseModel):
    """A table of the job file: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def problems(self) -> list[str]:
        """Mistakes in how the keys of this table fit one another, as ``key: what is wrong``."""
        return []


class Data(Section):
    """Where the rows are, and what their columns mean."""

    train: Annotated[Names, Field(min_length=1, description="Parquet folder, file or pattern, or a list of them")]
    target: str = Field(min_length=1, description="column to predict")
    task: Literal["auto", "classification", "regression"] = Field(
        default="auto", description="auto: by the target's values"
    )
    time: str | None = Field(default=None, description="column with the time of a row, for splits and windows by time")
    group: str | None = Field(default=None, description="column whose values must not be split between train and test")
    id: str | None = Field(default=None, description="column that identifies a row; default: its place in the files")
    weight: str | None = Field(default=None, description="column with the weight of a row; default: 1 each")
    drop: Names = Field(default=(), description="columns to leave out")
    numeric: Names = Field(default=(), description="columns to treat as numbers, whatever their type")
    categorical: Names = Field(default=(), description="columns to treat as categories")
    boolean: Names = Field(default=(), description="columns to treat as true or false")
    datetime: Names = Field(default=(), description="columns to split into parts of date and time")
    ignore: Names = Field(default=(), description="columns to keep out of the model; predictions may carry them along")
    partition_columns: bool = Field(default=True, description="take columns from hive folders such as month=3/")

    ROLES: ClassVar[tuple[str, ...]] = ("drop", "numeric", "categorical", "boolean", "datetime", "ignore")

    def problems(self) -> list[str]:
        """Columns that were given two roles."""
        owners: dict[str, str] = {self.target: "target"}
        found = []
        for key in ("weight", "id"):
            column = getattr(self, key)
            if column is not None and owners.setdefault(column, key) != key:
                found.append(f"data.{key}: column {column!r} is data.{owners[column]} already")
        roles = ((key, column) for key in self.ROLES for column in getattr(self, key))
        found += [
            f"data.{key}: column {column!r} is in data.{owners[column]} already; leave it in one"
            for key, column in roles
            if owners.setdefault(column, key) != key
        ]
        return found


class Clean(Section):
    """What to do with cells that are missing, broken or extreme."""

    missing_numeric: Literal["mean", "median", "most_frequent", "constant"] = Field(
        default="median", description="what replaces a missing number"
    )
    fill_value: Real | None = Field(default=None, description="the number, with missing_numeric = constant")
    indicator: bool = Field(default=True, description="add a column that says where a number was missing")
    missing_categorical: Literal["category", "most_frequent"] = Field(
        default="category", description="category: missing becomes a category of its own"
    )
    clip: Annotated[tuple[Real, Real] | None, BeforeValidator(_none_for_false)] = Field(
        default=None, description="[low, high] quantiles at which numbers are cut off, or false"
    )
    infinite: Literal["missing", "fail"] = Field(default="missing", description="what becomes of ±inf")
    missing_values: Names = Field(default=(), description='texts that mean missing, such as "?" or "NA"')
    bad_files: Literal["fail", "skip"] = Field(default="fail", description="what to do with unreadable files")

    def problems(self) -> list[str]:
        """A constant without its number, or the other way round; clip quantiles out of order."""
        found = []
        if self.missing_numeric == "constant" and self.fill_value is None:
            found.append("clean.fill_value: missing_numeric = 'constant' needs a number here")
        if self.missing_numeric != "constant" and self.fill_value is not None:
            found.append(f"clean.fill_value: only used with missing_numeric = 'constant', not {self.missing_numeric!r}")
        if self.clip is not None and not 0 <= self.clip[0] < self.clip[1] <= 1:
            found.append(f"clean.clip: must be two quantiles, 0 <= low < high <= 1, found {list(self.clip)}")
        return found


class Split(Section):
    """Which rows are held out to judge the model."""

    test: Real = Field(default=0.2, gt=0, lt=1, description="share of the rows that is held out")
    by: Literal["hash", "time", "group"] = Field(
        default="hash", description="hash: at random; time: the latest; group: whole"
    )
    seed: Whole = Field(default=0, ge=0, description="seed of the split")


class Prepare(Section):
    """How columns become numbers that models can use."""

    scale: Literal["standard", "robust", "minmax", "none"] = Field(default="standard", description="scaling of numbers")
    categorical: Literal["onehot", "ordinal", "none"] = Field(default="onehot", description="encoding of categories")
    min_frequency: Real = Field(
        default=0.001, ge=0, lt=1, description="share of rows below which a category counts as rare"
    )
    max_categories: Whole = Field(
        default=100, ge=2, description="most categories of one column; the others count as rare"
    )


class Coreset(Section):
    """How far the data is reduced."""

    size: Whole = Field(default=20_000, ge=100, description="rows that a node of the tree keeps")
    fit_size: Whole | None = Field(default=None, ge=100, description="rows that models are fitted on; default: size")
    fan_in: Whole = Field(default=8, ge=2, le=64, description="nodes merged into one")
    leaf_bytes: ByteSize = Field(
        default=ByteSize(64 * 2**20), ge=2**20, description='decoded bytes of a leaf, such as "64MiB" or "1GB"'
    )
    seed: Whole = Field(default=0, ge=0, description="seed of the sample")
    passes: Literal[2, 3] = Field(default=2, description="3 takes totals anew at the model of the second pass")
    exact: bool | None = Field(default=None, description="keep exact moments; default: where the target is a quantity")

    def problems(self) -> list[str]:
        """More rows to fit on than a node keeps."""
        if self.fit_size is not None and self.fit_size > self.size:
            return [f"coreset.fit_size: must be at most coreset.size = {self.size}, found {self.fit_size}"]
        return []


class Models(Section):
    """Which models are tried, and how the best is chosen."""

    names: Names | None = Field(
        default=None, alias="try", min_length=1, description="models to try; default: all of the task"
    )
    scoring: str | None = Field(default=None, description="score to choose by; default: roc_auc, or r2 for regression")
    cv: Whole = Field(default=5, ge=2, le=50, description="folds of the cross-validation")

    def problems(self) -> list[str]:
        """Names of models and scores that no task has."""
        return self.problems_for("auto")

    def problems_for(self, task: str) -> list[str]:
        """Names of models and scores that a task does not have."""
        models = {"classification": CLASSIFIERS, "regression": REGRESSORS}.get(task, (*CLASSIFIERS, *REGRESSORS))
        scores = {"classification": CLASSIFICATION_SCORINGS, "regression": REGRESSION_SCORINGS}.get(
            task, (*CLASSIFICATION_SCORINGS, *REGRESSION_SCORINGS)
        )
        what = "" if task == "auto" else f" for {task}"
        found = [
            f"models.try: no model{what} is named {name!r}; {nearest(name, dict.fromkeys(models))}"
            for name in self.names or ()
            if name not in models and name not in MODEL_ALIASES
        ]
        if self.scoring is not None and self.scoring not in scores:
            found.append(f"models.scoring: no score{what} is named {self.scoring!r}; {nearest(self.scoring, scores)}")
        return found


class Cluster(Section):
    """Where the work is done."""

    kind: Literal["threads", "local", "address"] = Field(
        default="threads",
        description="threads: in this process; local: processes of this machine; address: a Dask scheduler",
    )
    workers: Whole | None = Field(
        default=None, ge=1, description="worker processes of a local cluster; default: one a core"
    )
    threads: Whole | None = Field(default=None, ge=1, description="threads in this process, or of each worker")
    memory_limit: ByteSize | None = Field(
        default=None, ge=2**26, description='memory of each local worker, such as "4GB"'
    )
    scheduler: str | None = Field(
        default=None, pattern=r"^(tcp|tls|ws|wss|ucx|inproc)://.+", description='address, such as "tcp://10.0.0.5:8786"'
    )

    def problems(self) -> list[str]:
        """Keys that the kind of cluster needs or cannot use."""
        found = []
        if self.kind == "address" and self.scheduler is None:
            found.append("cluster.scheduler: kind = 'address' needs one, such as \"tcp://10.0.0.5:8786\"")
        if self.kind != "address" and self.scheduler is not None:
            found.append(f"cluster.scheduler: only used with kind = 'address', not {self.kind!r}")
        found += [
            f"cluster.{key}: only used with kind = 'local', not {self.kind!r}"
            for key in ("workers", "memory_limit")
            if self.kind != "local" and getattr(self, key) is not None
        ]
        return found


class Output(Section):
    """Where results go."""

    folder: str = Field(default="coretree-run", min_length=1, description="folder for tree, model and result")
