"""Job files: what is accepted, and that every mistake is named at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coretree import config_sections
from coretree.config import Job, load_job
from coretree.config_template import starter_toml, toml_value
from coretree.errors import ConfigError
from coretree.learn import models, scoring

LEAST: dict[str, Any] = {"data": {"train": "flights/", "target": "late"}}


def job(**sections: dict[str, Any]) -> Job:
    merged = {**LEAST, **sections}
    merged["data"] = {**LEAST["data"], **sections.get("data", {})}
    return Job.model_validate(merged)


def written(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_least_job_has_the_documented_defaults() -> None:
    least = job()
    assert least.data.train == ("flights/",)
    assert (least.split.test, least.split.by, least.split.seed) == (0.2, "hash", 0)
    assert (least.coreset.size, least.coreset.fit_size, least.coreset.fan_in) == (20_000, None, 8)
    assert least.coreset.leaf_bytes == 64 * 2**20
    assert (least.prepare.min_frequency, least.prepare.max_categories) == (0.001, 100)
    assert (least.models.names, least.models.cv, least.cluster.kind) == (None, 5, "threads")
    assert least.clean.clip is None


def test_full_file_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
[data]
train = ["a/*.parquet", "b.parquet"]
target = "late"
time = "when"
numeric = ["delay"]
[clean]
missing_numeric = "constant"
fill_value = 0
clip = [0.001, 0.999]
infinite = "fail"
missing_values = ["?"]
[split]
by = "time"
[coreset]
leaf_bytes = "4MB"
[models]
try = ["lr", "hgb"]
scoring = "roc_auc"
[cluster]
kind = "local"
workers = 2
memory_limit = "1GiB"
""",
    )
    found = load_job(path)
    assert found.data.train == ("a/*.parquet", "b.parquet")
    assert found.clean.clip == (0.001, 0.999)
    assert found.clean.infinite == "fail"
    assert (found.coreset.leaf_bytes, found.cluster.memory_limit) == (4_000_000, 2**30)
    assert found.models.names == ("lr", "hgb")
    with pytest.raises(ValidationError):
        setattr(found.split, "test", 0.5)  # noqa: B010


def test_clip_false_means_off() -> None:
    assert job(clean={"clip": False}).clean.clip is None


EVERYTHING_WRONG = """
size = 3
[data]
trian = "x"
target = "late"
numeric = ["late", "a"]
ignore = ["a"]
[split]
by = "tme"
test = 2
[coreset]
size = "20_000"
leaf_bytes = "64XB"
[clean]
clip = [0.9, 0.1]
infinite = "drop"
[models]
try = ["logistc", "lr"]
scoring = "auc"
[cluster]
kind = "address"
[clen]
x = 1
"""


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, EVERYTHING_WRONG)
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 15 mistakes.")
    assert "\n" not in message
    for part in [
        "[size]: not a section; the key belongs in [coreset]",
        "data.train: missing",
        "data.trian: not a key of [data]; did you mean 'train'?",
        "data.numeric: column 'late' is in data.target already",
        "data.ignore: column 'a' is in data.numeric already",
        "split.by: must be one of 'hash', 'time' or 'group' (did you mean 'time'?), found 'tme'",
        "split.test: must be less than 1, found 2",
        "coreset.size: must be a whole number, found '20_000'",
        "coreset.leaf_bytes: could not interpret byte unit: XB, found '64XB'",
        "clean.clip: must be two quantiles",
        "clean.infinite: must be",
        "models.try: no model is named 'logistc'; did you mean 'logistic'?",
        "models.scoring: no score is named 'auc'; did you mean 'roc_auc'?",
        "cluster.scheduler: kind = 'address' needs one",
        "[clen]: not a section; did you mean 'clean'?",
    ]:
        assert part in message, part


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"data": {"weight": "late"}}, "data.weight: column 'late' is data.target already"),
        ({"split": {"by": "time"}}, "split.by: 'time' needs data.time"),
        ({"split": {"by": "group"}}, "split.by: 'group' needs data.group"),
        ({"clean": {"missing_numeric": "constant"}}, "clean.fill_value"),
        ({"clean": {"fill_value": 1.0}}, "only used with missing_numeric"),
        ({"coreset": {"size": 500, "fit_size": 1000}}, "coreset.fit_size: must be at most coreset.size = 500"),
        ({"cluster": {"scheduler": "tcp://h:1"}}, "only used with kind = 'address'"),
        ({"cluster": {"kind": "address", "scheduler": "h:1"}}, "must be an address such as tcp://"),
        ({"cluster": {"workers": 2}}, "only used with kind = 'local'"),
        ({"data": {"task": "regression"}, "models": {"try": ["svm"]}}, "no model for regression is named 'svm'"),
        ({"data": {"task": "regression"}, "models": {"scoring": "roc_auc"}}, "no score for regression"),
        ({"models": {"try": []}}, "models.try"),
        ({"split": {"seed": True}}, "split.seed: must be a whole number"),
        ({"coreset": {"test": 0.1}}, "coreset.test: not a key of [coreset]; it belongs in [split]"),
        ({"split": 3}, "[split]: must be a table"),
    ],
)
def test_one_mistake_is_one_sentence(sections: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job(**sections)
    assert part in str(caught.value)
    assert "mistakes" not in str(caught.value)


def test_wrong_key_makes_no_false_second_mistake() -> None:
    """`fill_value` is right for the misspelt policy; only the policy is to blame."""
    with pytest.raises(ConfigError) as caught:
        job(clean={"missing_numeric": "constnt", "fill_value": 1})
    assert "fill_value:" not in str(caught.value)


def test_job_is_not_a_table() -> None:
    with pytest.raises(ConfigError, match="must be a table of sections"):
        Job.model_validate([1])


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, '[data]\ntrain = "x"\ntarget = late\n')
    with pytest.raises(ConfigError, match=r"line 3.*The line reads: target = late"):
        load_job(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="coretree init DATA --target COLUMN"):
        load_job(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'[data]\ntarget = "\xe9"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_job(tmp_path / "latin.toml")


def test_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_bytes(b'\xef\xbb\xbf[data]\ntrain = "x"\ntarget = "y"\n')
    assert load_job(path).data.target == "y"


def test_names_agree_with_the_models_and_scores() -> None:
    assert models.model_names("classification") == config_sections.CLASSIFIERS
    assert models.model_names("regression") == config_sections.REGRESSORS
    assert set(config_sections.MODEL_ALIASES) == set(models.ALIASES)
    known = (*config_sections.CLASSIFICATION_SCORINGS, *config_sections.REGRESSION_SCORINGS)
    assert known == tuple(scoring.SCORINGS)
    assert set(config_sections.REGRESSION_SCORINGS) == scoring.REGRESSION_SCORINGS


def test_starter_reads_back_and_names_every_key(tmp_path: Path) -> None:
    values: dict[str, dict[str, Any]] = {
        "data": {"train": ["a b/*.parquet"], "target": 'the "late" one', "time": None, "numeric": ["x\\y"]},
        "clean": {"infinite": "fail"},
        "coreset": {"size": 5000, "leaf_bytes": "8MiB"},
        "models": {"try": ["lr"]},
    }
    text = starter_toml(values)
    found = load_job(written(tmp_path, text))
    assert found.data.target == 'the "late" one'
    assert (found.coreset.size, found.coreset.leaf_bytes, found.models.names) == (5000, 8 * 2**20, ("lr",))
    for name, field in Job.model_fields.items():
        assert f"[{name}]" in text
        for key, option in field.annotation.model_fields.items():  # type: ignore[union-attr]
            assert f"{option.alias or key} =" in text
            assert option.description
            assert option.description in text


def test_starter_defaults_are_the_defaults() -> None:
    """Every commented default, taken out of its comment, changes nothing."""
    text = starter_toml(LEAST)
    shown = [
        line[2:] if line.startswith("# ") and " = " in line.partition("  #")[0] else line for line in text.split("\n")
    ]
    assert set(tomllib.loads("\n".join(shown))["coreset"]) == {"size", "fan_in", "leaf_bytes", "seed", "passes"}
    assert Job.model_validate(tomllib.loads("\n".join(shown))) == Job.model_validate(LEAST)


def test_starter_refuses_what_would_not_load() -> None:
    with pytest.raises(ConfigError, match=r"data\.target: missing"):
        starter_toml({"data": {"train": "x"}})


PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(value=PLAIN)
def test_toml_values_round_trip(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_toml_has_no_null() -> None:
    with pytest.raises(ConfigError, match="NoneType"):
        toml_value(None)
