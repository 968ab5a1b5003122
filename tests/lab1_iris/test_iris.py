"""The Iris lab without its pages: data, features, training, inference."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from helpers.skops_files import functions_in
from sklearn.datasets import load_iris

from lab1_iris import features, flower, inference, training
from lab1_iris.schema import FEATURES, FLOWERS, MEASUREMENTS, MODEL, SPECIES
from labstore import Damaged, InvalidRows, NotFound, StoreError, open_store
from labstore.skops_io import load_pipeline, save_pipeline


def test_the_real_flowers_are_scikit_learns_150():
    flowers, reference = features.real_flowers(), load_iris(as_frame=True)
    assert np.array_equal(flowers[FEATURES], reference.data)
    assert flowers["species"].tolist() == [SPECIES[i] for i in reference.target]


def test_flowers_with_equal_measurements_stay_two_rows():
    flowers = features.real_flowers()
    assert flowers.duplicated([*FEATURES, "species"]).sum() == 1
    assert flowers["flower_id"].is_unique


def test_seen_ranges_are_those_of_the_data_and_lie_within_the_allowed():
    flowers = features.real_flowers()
    for m in MEASUREMENTS:
        assert m.seen == (flowers[m.name].min(), flowers[m.name].max())
        assert m.allowed[0] <= m.seen[0] < m.seen[1] <= m.allowed[1]


def test_the_feature_pipeline_run_twice_changes_nothing(tmp_path):
    store = open_store(tmp_path)
    first = features.run(store)
    files = sorted(tmp_path.rglob("*"))
    pd.testing.assert_frame_equal(features.run(store), first)
    assert sorted(tmp_path.rglob("*")) == files


def test_a_date_always_gives_the_same_valid_flower():
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    year = pd.concat([features.synthetic_flower(day) for day in days], ignore_index=True)
    again = pd.concat([features.synthetic_flower(day) for day in days], ignore_index=True)
    pd.testing.assert_frame_equal(year, again)
    FLOWERS.validate(year)
    assert year["flower_id"].is_unique
    counts = year["species"].value_counts()
    assert set(counts.index) == set(SPECIES) and counts.min() > 85, counts  # each about 122
    for species, rows in year.groupby("species"):
        low, high = np.array(features.SYNTHETIC_RANGES[species]).T
        assert ((rows[FEATURES] >= low) & (rows[FEATURES] <= high)).all(axis=None)


@pytest.mark.parametrize("value", [0.0, -1.0, 99.0, np.nan, np.inf])
def test_an_impossible_flower_is_refused_by_name_and_nothing_is_written(tmp_path, value):
    flower = features.synthetic_flower(date(2026, 1, 1)).assign(petal_width=value)
    with pytest.raises(InvalidRows, match="petal_width"):
        open_store(tmp_path).insert(FLOWERS, flower)
    assert not list(tmp_path.rglob("*"))


def test_cross_validation_scores_match_scikit_learn():
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_validate

    flowers = features.real_flowers()
    table = training.compare(flowers, repeats=2, folds=5, seed=1).table
    for name in ("linear discriminant analysis", training.ORIGINAL):
        folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=1)
        reference = cross_validate(
            training.candidates()[name],
            flowers[FEATURES],
            flowers["species"],
            cv=folds,
            scoring=["accuracy", "neg_log_loss"],
        )
        assert table.loc[name, "accuracy"] == pytest.approx(reference["test_accuracy"].mean())
        assert table.loc[name, "log_loss"] == pytest.approx(-reference["test_neg_log_loss"].mean())


def test_the_interval_is_wider_than_one_for_independent_folds():
    values = np.random.default_rng(0).normal(0.95, 0.03, 50)
    low, high = training.interval(values, overlap=1 / 4)
    naive = 1.96 * values.std(ddof=1) / np.sqrt(50)
    assert (high - low) / 2 > 3 * naive


def test_the_registered_model_is_the_best_one_and_records_its_data(iris_store):
    record = iris_store.load_model(MODEL)
    assert record.metrics["accuracy"] >= 0.96
    assert record.metadata["snapshot"]["rows"] == 150
    assert record.metadata["features"] == FEATURES
    assert record.metadata["libraries"]["scikit-learn"]
    card = (record.path / "MODEL_CARD.md").read_text()
    assert record.metadata["algorithm"] in card and training.ORIGINAL in card
    assert (record.path / "schema.json").exists()


def test_synthetic_flowers_never_train_a_model(iris_store):
    iris_store.insert(FLOWERS, features.synthetic_flower(date(2026, 1, 1)))
    assert len(training.load_training_rows(iris_store)) == 150


def test_training_on_an_empty_store_names_the_next_step(tmp_path):
    with pytest.raises(NotFound, match="1_feature_pipeline"):
        training.run(open_store(tmp_path))


def test_every_candidate_is_the_same_after_saving_and_loading(tmp_path):
    flowers = features.real_flowers()
    for number, pipeline in enumerate(training.candidates().values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        pipeline.fit(flowers[FEATURES], flowers["species"])
        save_pipeline(pipeline, folder)
        loaded = load_pipeline(folder, inference.TRUSTED)
        before, after = (p.predict_proba(flowers[FEATURES]) for p in (pipeline, loaded))
        assert np.allclose(before, after)


def test_a_model_that_cannot_be_read_back_is_not_registered(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    flowers = features.real_flowers()
    comparison = training.compare(flowers, repeats=1, folds=2)
    table = comparison.table.loc[["random forest"]]
    monkeypatch.setattr(training, "TRUSTED", [])
    with pytest.raises(StoreError, match=r"not registered.*Tree.*here are python"):
        training.register(store, flowers, replace(comparison, table=table))
    assert store.contents().models == {}


def test_no_candidates_file_holds_a_function(tmp_path):
    flowers = features.real_flowers()
    for pipeline in training.candidates().values():
        pipeline.fit(flowers[FEATURES], flowers["species"])
        assert functions_in(save_pipeline(pipeline, tmp_path)) == []


def test_predictions_are_the_same_for_one_flower_and_for_many(iris_store):
    classifier, flowers = inference.load(iris_store), features.real_flowers()
    together = classifier.probabilities(flowers)
    alone = pd.concat([classifier.probabilities(flowers.iloc[[i]]) for i in range(0, 150, 10)])
    assert np.allclose(together.iloc[::10], alone)
    assert np.allclose(together.sum(axis=1), 1)
    # columns in another order are found by name
    assert np.allclose(together, classifier.probabilities(flowers[flowers.columns[::-1]]))


def test_longer_petals_never_make_a_flower_more_likely_setosa(iris_store):
    classifier, flowers = inference.load(iris_store), features.real_flowers()
    longer = flowers.assign(petal_length=flowers["petal_length"] + 1)
    before, after = (classifier.probabilities(f)["setosa"] for f in (flowers, longer))
    assert (after <= before + 1e-9).all()


def test_predicting_twice_gives_the_same_ids(iris_store):
    classifier = inference.load(iris_store)
    flower = features.synthetic_flower(date(2026, 1, 1))
    pd.testing.assert_frame_equal(
        inference.predict(classifier, flower), inference.predict(classifier, flower)
    )


def test_a_damaged_model_is_named_and_not_loaded(iris_store):
    path = iris_store.load_model(MODEL).path / "model.skops"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Damaged, match=r"model\.skops"):
        inference.load(iris_store)


def test_no_model_yet_says_what_to_do(tmp_path):
    with pytest.raises(NotFound, match="notebooks in order"):
        inference.load(open_store(tmp_path))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "missing"),
        (float("nan"), "missing"),
        ("x", "missing"),
        (0, "0.1 to 15"),
        (1e9, "15 cm"),
    ],
)
def test_bad_measurements_get_a_sentence(value, words):
    values = dict.fromkeys(FEATURES, 3.0) | {"petal_length": value}
    [sentence] = inference.problems(values)
    assert sentence.startswith("Petal length") and words in sentence


def test_the_flower_is_drawn_to_scale():
    small = flower.draw(5, 3, 1.5, 0.3, "setosa")
    assert "sepals 5 x 3 cm" in small and small.count("<g transform") == 7
    length = float(small.split("M0 0C")[1].split(" 0 ")[1].split("C")[0].lstrip("-"))
    scale = flower.SIZE / 2 / flower.VIEW
    assert length == pytest.approx(5 * scale, abs=0.1)
    huge = flower.draw(15, 10, 15, 10, "virginica")  # everything allowed stays in the picture
    assert f" 0 {-flower.SIZE / 2:.1f}C" in huge


@pytest.mark.parametrize("width", [0.3, 2.0, 6.0])
def test_a_leaf_is_as_wide_as_measured(width):
    """The widest point of a sepal's outline, found along its first Bezier curve."""
    path = flower.draw(5.0, width, 1.5, 0.3).split('d="M0 0C')[1].split("C")[0]
    x1, y1, x2, y2, x3, y3 = map(float, path.split())
    t = np.linspace(0, 1, 1001)
    x = 3 * (1 - t) ** 2 * t * x1 + 3 * (1 - t) * t**2 * x2 + t**3 * x3
    scale = flower.SIZE / 2 / flower.VIEW  # pixels per cm, here written with one decimal
    assert 2 * x.max() == pytest.approx(width * scale, abs=0.1)
    assert (x3, y3) == (0, pytest.approx(-5 * scale, abs=0.1)) and y1 > y2
