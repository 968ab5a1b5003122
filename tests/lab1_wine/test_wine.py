"""The Wine lab without its pages: data, models, intervals, generators, inference."""

from __future__ import annotations

import errno
import hashlib
import json
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import requests
import skops.io
from helpers.skops_files import functions_in
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor, VotingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from lab1_wine import comparison, features, generator, inference, training
from lab1_wine.model import (
    COLUMNS,
    DEFAULTS,
    DERIVED,
    LOGGED,
    PLAIN,
    TRUSTED,
    UNLOGGED,
    calibrate,
    interval,
    prepare,
    tree_spread,
    wine_pipeline,
)
from lab1_wine.schema import (
    FEATURES,
    GENERATOR,
    MEASUREMENTS,
    MODEL,
    NUMERIC,
    REAL,
    SAMPLE,
    TYPES,
    WINES,
)
from labstore import Damaged, InvalidRows, NotFound, StoreError, open_store
from labstore.skops_io import load_pipeline, save_pipeline


@pytest.fixture(scope="module")
def sample():
    return features.offline_sample()


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No UCI tables anywhere, and a network that refuses."""

    def refuse(*_, **__):
        raise requests.exceptions.ConnectionError("no network")

    monkeypatch.delenv("LABS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "get", refuse)


# ------------------------------------------------------------------ data


def test_the_real_table_is_whole(real_wines):
    assert len(real_wines) == 6497 and real_wines["wine_id"].is_unique
    assert real_wines["wine_type"].value_counts().to_dict() == {"white": 4898, "red": 1599}
    distinct = features.deduplicate(real_wines)
    assert len(distinct) == 5320
    assert not distinct.duplicated(FEATURES).any()  # equal measurements always have equal quality
    for m in MEASUREMENTS:
        assert m.seen == pytest.approx(
            (real_wines[m.name].min(), real_wines[m.name].max()), abs=1e-5
        )
        assert m.allowed[0] <= m.seen[0] < m.seen[1] <= m.allowed[1]


def test_a_changed_table_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "wine").mkdir()
    (tmp_path / "wine" / "winequality-red.csv").write_text("fixed acidity;quality\n1;2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (str(tmp_path), "~"):
        monkeypatch.setenv("LABS_DATA", folder)
        with pytest.raises(Damaged, match=rf"{tmp_path}.*winequality-red\.csv is not the UCI file"):
            features.load_wines()


class Answer:
    """A good answer of UCI's, as requests gives it."""

    def __init__(self, content: bytes):
        self.content, self.headers = content, {"content-length": str(len(content))}

    def raise_for_status(self):
        pass

    def iter_content(self, **_):
        return [self.content]


@pytest.fixture
def uci(monkeypatch, sample):
    """A reachable UCI, whose two tables are made from the offline sample."""
    tables, files = {}, {}
    for wine_type, (name, _) in features.FILES.items():
        rows = sample[sample["wine_type"] == wine_type][[*NUMERIC, "quality"]]
        tables[name] = rows.to_csv(sep=";", index=False).encode()
        files[wine_type] = (name, hashlib.md5(tables[name], usedforsecurity=False).hexdigest())
    monkeypatch.setattr(features, "FILES", files)
    monkeypatch.delenv("LABS_DATA", raising=False)
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(tables[url.rpartition("/")[2]]))


@pytest.mark.parametrize("cache", ["file", "file/inside", "/proc/nowhere", "no rights"])
def test_a_cache_that_cannot_be_written_loses_no_download(
    uci, monkeypatch, tmp_path, capsys, cache
):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "no rights").mkdir()
    (tmp_path / "no rights/ml-labs").write_text("not a folder either")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    wines = features.load_wines()
    assert set(wines["source"]) == {REAL} and len(wines) == 1000
    out = capsys.readouterr().out
    assert "OFFLINE SAMPLE" not in out and "the cache cannot be used" in out


def test_a_disk_without_room_is_not_taken_for_a_missing_network(uci, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.pooch, "retrieve", full)
    with pytest.raises(OSError, match="No space left"):
        features.load_wines()


def test_without_a_network_everything_says_offline_sample(no_network, tmp_path, capsys):
    store = open_store(tmp_path / "store")
    assert set(features.run(store)["source"]) == {SAMPLE}
    assert "OFFLINE SAMPLE" in capsys.readouterr().out
    wines, data = training.load_training_rows(store)
    assert data == SAMPLE and "OFFLINE SAMPLE" in capsys.readouterr().out
    version, _ = training.register(store, wines, data, trees=5)
    assert version.metadata["data"] == SAMPLE
    assert "OFFLINE SAMPLE" in (version.path / "MODEL_CARD.md").read_text()


def test_the_offline_sample_holds_no_real_row(sample, real_wines):
    assert len(sample) == 1000 and set(sample["source"]) == {SAMPLE}
    assert sample.merge(real_wines, on=NUMERIC).empty
    distinct = features.deduplicate(real_wines)
    held_out = distinct.sample(1000, random_state=0)
    train = distinct.drop(held_out.index)
    assert generator.near_copies(sample, train, held_out) < 0.01
    assert generator.near_copies(train.head(100), train, held_out) == 1


def test_real_wines_are_preferred_to_the_sample_and_synthetic_ones_never_train(wine_store):
    wine = features.synthetic_wine(generator.load(wine_store), date(2026, 1, 1))
    wine_store.insert(WINES, wine)
    wines, data = training.load_training_rows(wine_store)
    assert data == SAMPLE and wine["wine_id"].iloc[0] not in set(wines["wine_id"])
    wine_store.insert(WINES, wine.assign(source=REAL, wine_id="a real one"))
    wines, data = training.load_training_rows(wine_store)
    assert data == "real" and wines["wine_id"].tolist() == ["a real one"]


def test_an_offline_run_after_a_real_one_adds_nothing_and_is_never_best(
    no_network, tmp_path, sample
):
    store = open_store(tmp_path / "store")
    store.insert(WINES, sample.head(600).assign(source=REAL))
    assert len(features.run(store)) == 600
    wines, data = training.load_training_rows(store)
    real, _ = training.register(store, wines, data, trees=5)
    offline, _ = training.register(store, wines, SAMPLE, trees=5)
    assert real.metrics["mse"] == offline.metrics["mse"] and offline.version > real.version
    assert store.load_model(MODEL).version == real.version


def test_intervals_need_enough_wines_in_every_cell():
    with pytest.raises(ValueError, match="too few"):
        calibrate(np.arange(40.0), np.arange(40.0), np.arange(40.0))


def test_the_feature_pipeline_run_twice_changes_nothing(no_network, tmp_path):
    store = open_store(tmp_path / "store")
    first = features.run(store)
    files = sorted((tmp_path / "store").rglob("*"))
    pd.testing.assert_frame_equal(features.run(store), first)
    assert sorted((tmp_path / "store").rglob("*")) == files


def test_an_impossible_wine_is_refused_by_name(tmp_path, sample):
    with pytest.raises(InvalidRows, match=r"alcohol = 99\.0 .* from 4\.0 to 22\.0"):
        open_store(tmp_path).insert(WINES, sample.head(1).assign(alcohol=99.0))
    with pytest.raises(
        InvalidRows, match="quality is float64, where it must be of type int64, from 0 to 10"
    ):
        open_store(tmp_path).insert(WINES, sample.head(1).assign(quality=5.5))


def test_training_without_wines_names_the_next_step(tmp_path):
    with pytest.raises(NotFound, match="1_feature_pipeline"):
        training.load_training_rows(open_store(tmp_path))


# ------------------------------------------------------------------ models


def test_derived_columns_are_what_their_names_say(sample):
    prepared = prepare().fit(sample[FEATURES])
    columns = prepared[:-1].transform(sample[FEATURES])[:, -len(DERIVED) :]
    free, total = sample["free_sulfur_dioxide"], sample["total_sulfur_dioxide"]
    density = 1000 * sample["density"] + 1.25 * sample["alcohol"] - 0.38 * sample["residual_sugar"]
    molecular = np.log(free) - np.log(10) * sample["ph"]
    expected = np.column_stack([np.log(free / total), total - free, molecular, density])
    assert np.allclose(columns, expected)


def test_the_pipeline_finds_columns_by_name_and_predicts_one_row_as_it_does_many(sample):
    pipeline = wine_pipeline(trees=10).fit(sample[FEATURES], sample["quality"])
    many = pipeline.predict(sample[FEATURES])
    assert np.allclose(many[:5], pipeline.predict(sample[FEATURES[::-1]].head(5)))
    assert np.allclose(many[3], pipeline.predict(sample[FEATURES].iloc[[3]]))


def test_saved_and_loaded_predictions_agree_and_one_job_is_saved(sample, tmp_path):
    pipeline = wine_pipeline(trees=10).fit(sample[FEATURES], sample["quality"])
    save_pipeline(pipeline, tmp_path)
    loaded = load_pipeline(tmp_path, TRUSTED)
    assert np.allclose(pipeline.predict(sample[FEATURES]), loaded.predict(sample[FEATURES]))
    assert np.allclose(tree_spread(pipeline, sample), tree_spread(loaded, sample))
    forest = loaded["mean"].named_estimators_["trees"][-1]
    assert forest.n_jobs == 1
    with pytest.raises(Damaged, match="does not trust"):
        load_pipeline(tmp_path, TRUSTED[1:])


def pipeline_of_november_2026(trees: int) -> Pipeline:
    """The pipeline as it was registered until then: of scikit-learn's and numpy's parts only."""
    ours = wine_pipeline(trees=trees)
    (_, made), (_, weighted), (_, scaler) = ours["prepare"].steps
    encoder = OneHotEncoder(categories=[TYPES], drop="first", sparse_output=False)
    columns = ColumnTransformer(
        [
            ("log", FunctionTransformer(np.log), LOGGED),
            ("plain", "passthrough", PLAIN),
            ("type", encoder, ["wine_type"]),
            ("unlogged", "passthrough", UNLOGGED),
        ]
    )
    prepare = make_pipeline(
        columns, FunctionTransformer(np.dot, kw_args={"b": weighted.weights}), scaler
    )
    (_, with_sums), (_, kernel) = ours["mean"].estimators
    sums = FunctionTransformer(np.dot, kw_args={"b": with_sums[0].weights})
    mean = VotingRegressor(
        [("trees", make_pipeline(sums, with_sums[1])), ("kernel", kernel)],
        weights=ours["mean"].weights,
    )
    assert made.names == COLUMNS
    return Pipeline([("prepare", prepare), ("mean", mean)])


def test_a_model_registered_before_still_loads_and_the_pipeline_of_today_is_equal_to_it(
    sample, tmp_path
):
    old, new = pipeline_of_november_2026(10), wine_pipeline(trees=10)
    for pipeline in (old, new):
        pipeline.fit(sample[FEATURES], sample["quality"])
    save_pipeline(old, tmp_path)
    loaded = load_pipeline(tmp_path, TRUSTED)
    for pipeline in (loaded, new):
        assert np.array_equal(pipeline.predict(sample[FEATURES]), old.predict(sample[FEATURES]))
        assert np.array_equal(tree_spread(pipeline, sample), tree_spread(old, sample))


@pytest.mark.parametrize("derived", [True, False])
def test_the_file_holds_no_function_and_no_type_that_other_versions_lack(sample, tmp_path, derived):
    pipeline = wine_pipeline(trees=3, derived=derived).fit(sample[FEATURES], sample["quality"])
    path = save_pipeline(pipeline, tmp_path)
    assert functions_in(path) == []
    assert set(skops.io.get_untrusted_types(file=path)) <= set(TRUSTED[:5])


def test_a_model_that_cannot_be_read_back_is_not_registered(tmp_path, sample, monkeypatch):
    store = open_store(tmp_path / "store")
    monkeypatch.setattr(training, "TRUSTED", TRUSTED[1:])
    with pytest.raises(StoreError, match=r"not registered.*Columns.*here are python"):
        training.register(store, sample, SAMPLE, trees=3)
    assert store.contents().models == {}


def test_a_refused_model_is_reported_with_the_versions_it_was_made_with(wine_store, monkeypatch):
    recorded = wine_store.load_model(MODEL).metadata["libraries"]["scikit-learn"]
    monkeypatch.setattr(inference, "TRUSTED", [])
    with pytest.raises(Damaged, match=rf"made with python.*scikit-learn {recorded}.*here are"):
        inference.load(wine_store)


def test_an_unknown_type_of_wine_is_refused(sample):
    pipeline = wine_pipeline(trees=3).fit(sample[FEATURES], sample["quality"])
    with pytest.raises(ValueError, match="must be one of red, white"):
        pipeline.predict(sample[FEATURES].head(2).assign(wine_type="rosé"))


def test_the_spread_is_that_of_the_trees(sample):
    pipeline = wine_pipeline(trees=7).fit(sample[FEATURES], sample["quality"])
    trees = pipeline["mean"].named_estimators_["trees"]
    inputs = trees[:-1].transform(pipeline["prepare"].transform(sample[FEATURES]))
    answers = np.array([tree.predict(inputs) for tree in trees[-1].estimators_])
    assert np.allclose(tree_spread(pipeline, sample), answers.std(axis=0))


def test_scores_round_half_to_even():
    found = comparison.scores(np.array([4, 6, 5, 9]), np.array([4.5, 5.5, 6.5, 6.0]))
    assert found["mse_rounded"] == np.mean([0, 0, 1, 9])  # 4.5 -> 4, 5.5 -> 6, 6.5 -> 6
    assert found["within_one"] == 0.75
    assert found["mse"] == np.mean([0.25, 0.25, 2.25, 9])
    assert found["mae"] == np.mean([0.5, 0.5, 1.5, 3])


def test_the_confusion_matrix_always_shows_three_to_nine():
    counts = comparison.confusion(np.array([5, 5, 6]), np.array([5.2, 11.0, 5.5]))
    assert counts.index.tolist() == counts.columns.tolist() == list(range(3, 10))
    assert counts.loc[5, 5] == counts.loc[5, 9] == counts.loc[6, 6] == 1


def test_every_model_is_scored_on_the_same_splits_and_differences_are_paired(sample):
    models = {
        name: comparison.candidates()[name] for name in ("linear regression", "decision tree")
    }
    found = comparison.compare(sample, models, seeds=[0, 1, 2])
    again = comparison.compare(sample, models, seeds=[0, 1, 2], n_jobs=1)
    pd.testing.assert_frame_equal(found, again)
    table = comparison.summary(found, against="decision tree")
    wide = found.pivot(index="seed", columns="model", values="mse")
    difference = (wide["linear regression"] - wide["decision tree"]).mean()
    assert table.loc["linear regression", "difference"] == pytest.approx(difference)
    assert (
        table.loc["linear regression", "low"] < difference < table.loc["linear regression", "high"]
    )
    assert table.loc["decision tree", "ratio"] == 1
    assert (table["mse_low"] < table["mse"]).all() and (table["mse"] < table["mse_high"]).all()


def test_the_corrected_interval_is_wider_than_the_naive_one():
    differences = np.array([-0.03, -0.02, -0.025, -0.015, -0.03])
    low, high = comparison.paired_interval(differences)
    naive = 2.776 * differences.std(ddof=1) / np.sqrt(5)
    assert (high - low) / 2 == pytest.approx(naive * np.sqrt((1 / 5 + 0.25) * 5), rel=1e-3)


def test_the_search_finds_a_planted_best(sample):
    grid = {
        "trees": {"max_features": [0.3], "min_samples_leaf": [1, 200]},
        "kernel": {"length": [8.0], "alpha": [0.6, 1e6]},
        "tree_weight": [0.0, 0.5, 1.0],
    }
    chosen, trials = training.search(sample, grid, folds=3, trees=10)
    assert chosen["min_samples_leaf"] == 1 and chosen["alpha"] == 0.6
    assert len(trials) == 2 + 2 + 3 and set(chosen) == set(DEFAULTS)
    mixes = trials[trials["part"] == "mix"].set_index("tree_weight")["mse"]
    assert chosen["tree_weight"] == mixes.idxmin()
    alone = trials.groupby("part")["mse"].min()
    assert mixes[0.0] == pytest.approx(alone["kernel"]) and mixes[1.0] == pytest.approx(
        alone["trees"]
    )
    wine_pipeline(**chosen, trees=5).fit(sample[FEATURES], sample["quality"])


def test_importance_finds_the_column_that_the_label_was_made_from(sample):
    planted = sample.assign(quality=(sample["alcohol"] * 3).round().astype(int))
    table = comparison.importance(planted, comparison.forest(30), folds=3)
    assert table.index[0] == "alcohol"
    assert table.loc["alcohol", "mse_increase"] > 20 * table["mse_increase"].iloc[1]


def test_dropping_a_column_really_drops_it(sample):
    model = comparison.forest(5, drop=["total_sulfur_dioxide"])
    model.fit(sample[FEATURES], sample["quality"])
    changed = sample[FEATURES].assign(total_sulfur_dioxide=1.0)
    assert np.array_equal(model.predict(sample[FEATURES]), model.predict(changed))


# ------------------------------------------------------------------ intervals


@pytest.mark.parametrize("seed", range(5))
def test_intervals_cover_nine_in_ten_and_are_wide_where_the_error_is(seed):
    """On made-up predictions whose error is known: skewed, and larger where the trees disagree."""
    random = np.random.default_rng(seed)
    n = 20_000
    predicted, spread = random.uniform(4, 8, n), random.uniform(0.2, 1, n)
    quality = predicted + spread * (random.gamma(2, 0.5, n) - 1)
    half = n // 2
    numbers = calibrate(quality[:half], predicted[:half], spread[:half])
    numbers = json.loads(json.dumps(numbers))  # as they are read back: plain numbers
    low, high = interval(numbers, predicted[half:], spread[half:])
    covered = (quality[half:] >= low) & (quality[half:] <= high)
    assert 0.89 < covered.mean() < 0.91
    calm = spread[half:] < 0.6
    for part in (calm, ~calm):
        assert 0.87 < covered[part].mean() < 0.93
    width = high - low
    assert width[~calm].mean() > 1.5 * width[calm].mean()
    assert (high - predicted[half:]).mean() > 1.3 * (predicted[half:] - low).mean()


def test_registered_intervals_are_scored_on_folds_that_did_not_calibrate_them(wine_store):
    record = wine_store.load_model(MODEL)
    assert 0.85 < record.metrics["coverage_90"] < 0.95
    assert record.metrics["narrow_width"] < record.metrics["wide_width"]
    bands = record.metadata["bands"]
    assert set(bands) == set(training.BANDS) and sum(b["wines"] for b in bands.values()) == 1000
    saved = json.loads((record.path / "intervals.json").read_text())
    assert set(saved) == {"level", "prediction_edges", "spread_edges", "below", "above"}


# ------------------------------------------------------------------ generators


def test_a_copula_keeps_what_it_was_fitted_to(sample):
    drawn = generator.Copula.fit(sample).sample(4000, seed=1)
    assert drawn["wine_type"].value_counts(normalize=True)["red"] == pytest.approx(
        (sample["wine_type"] == "red").mean(), abs=0.03
    )
    for wine_type, rows in sample.groupby("wine_type"):
        ours = drawn[drawn["wine_type"] == wine_type]
        gap = ours[NUMERIC].corr("spearman") - rows[NUMERIC].corr("spearman")
        assert np.abs(gap.to_numpy()).max() < 0.15
        spread = rows[NUMERIC].std()
        assert ((ours[NUMERIC].median() - rows[NUMERIC].median()).abs() / spread).max() < 0.15
    assert np.abs(drawn["quality"].mean() - sample["quality"].mean()) < 0.1


@settings(max_examples=40, deadline=None)
@given(
    constant=st.sets(st.sampled_from([*NUMERIC, "quality"])),
    rows=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_a_copula_fits_rows_with_constant_columns_and_keeps_them_constant(constant, rows, seed):
    wines = features.offline_sample().sample(rows, random_state=seed)
    wines = wines.assign(**{name: wines[name].iloc[0] for name in constant})
    drawn = generator.Copula.fit(wines).sample(20, seed)
    assert len(drawn) == 20 and drawn.notna().all(axis=None)
    for name in constant - {"total_sulfur_dioxide"}:  # never less than the free
        assert np.allclose(drawn[name], wines[name].iloc[0])


def test_a_generator_of_a_constant_column_is_evaluated(sample):
    wines = sample.assign(citric_acid=0.3)
    train, held_out = wines.head(700), wines.tail(300)
    drawn = generator.Copula.fit(train).sample(700, seed=0)
    figures = generator.evaluate(drawn, train, held_out)
    assert np.isfinite(list(figures.values())).all() and figures["held_out_correlations"] > 0.9


def test_drawn_wines_are_possible_rounded_and_whole(sample):
    drawn = generator.Copula.fit(sample).sample(3000, seed=2)
    assert drawn["quality"].dtype == "int64" and drawn["quality"].between(3, 9).all()
    assert (drawn["total_sulfur_dioxide"] >= drawn["free_sulfur_dioxide"]).all()
    for m in MEASUREMENTS:
        assert drawn[m.name].between(*m.seen).all()
        assert np.allclose(drawn[m.name], drawn[m.name].round(m.decimals))


def test_tidying_corrects_impossible_values(sample):
    wild = sample[[*FEATURES, "quality"]].head(3).copy()
    wild["quality"] = [2.4, 99, 5.5]
    wild["alcohol"] = [-5.0, 99.0, 10.123456]
    wild["free_sulfur_dioxide"], wild["total_sulfur_dioxide"] = 200.0, 10.0
    tidied = generator.tidy(wild)
    assert tidied["quality"].tolist() == [3, 9, 6]
    assert tidied["alcohol"].tolist() == [8.0, 14.9, 10.12]
    assert (tidied["total_sulfur_dioxide"] == 200.0).all()


def test_the_same_date_draws_the_same_wine_from_a_stored_generator(wine_store):
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(60)]
    one, other = (
        pd.concat([features.synthetic_wine(generator.load(wine_store), day) for day in days])
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, other)
    WINES.validate(one)
    assert set(one["wine_type"]) == {"red", "white"} and one["quality"].nunique() > 2


def test_the_gate_lets_only_good_generators_through(sample, tmp_path):
    good = {"column_shapes": 0.97, "pair_trends": 0.96, "near_copies": 0.0}
    assert generator.passes(good)
    for worse in ({"column_shapes": 0.9}, {"pair_trends": 0.94}, {"near_copies": 0.02}):
        assert not generator.passes(good | worse)
    figures = good | {"fit_seconds": 0.0, "held_out_shapes": 1.0, "held_out_correlations": 1.0}
    report = pd.DataFrame(
        [
            {"generator": "copier", "seed": 0, **figures, "synthetic_mse": 0.4, "near_copies": 0.5},
            {"generator": "honest", "seed": 0, **figures, "synthetic_mse": 0.6},
        ]
    )
    fits = {"honest": generator.Copula.fit}
    record = generator.register(open_store(tmp_path), sample, "real", fits, report)
    assert record.metadata["algorithm"] == "honest" and record.metadata["passes_the_gate"]
    with pytest.raises(StoreError, match="No generator passes"):
        generator.register(open_store(tmp_path), sample, "real", fits, report.head(1))


def test_near_copies_are_detected(sample):
    train, held_out = sample.head(700), sample.tail(300)
    assert generator.near_copies(train.head(100), train, held_out) == 1.0
    nudged = train.head(100).assign(alcohol=lambda wines: wines["alcohol"] + 0.001)
    assert generator.near_copies(nudged, train, held_out) == 1.0
    assert generator.near_copies(held_out, train, held_out) == pytest.approx(0.01, abs=0.005)
    with pytest.raises(ValueError, match="Remove duplicates"):
        generator.near_copies(train, train, train.head(300))


def test_evaluation_separates_good_rows_from_noise(sample):
    train, held_out = sample.head(700), sample.tail(300)
    random = np.random.default_rng(0)
    noise = train.assign(**{m.name: random.uniform(*m.seen, len(train)) for m in MEASUREMENTS})
    drawn = generator.Copula.fit(train).sample(700, seed=0)
    good, bad = (generator.evaluate(rows, train, held_out) for rows in (drawn, noise))
    for name in ("column_shapes", "pair_trends", "held_out_shapes", "held_out_correlations"):
        assert good[name] > bad[name] + 0.03, name
    forest = RandomForestRegressor(100, random_state=0)
    forest.fit(drawn[NUMERIC], drawn["quality"])
    reference = ((forest.predict(held_out[NUMERIC]) - held_out["quality"]) ** 2).mean()
    assert good["synthetic_mse"] == pytest.approx(reference, rel=0.15)


def test_ctgan_is_the_same_for_the_same_seed_and_is_stored_as_rows(sample, tmp_path, monkeypatch):
    pytest.importorskip("ctgan")
    monkeypatch.setattr(generator.Ctgan, "BANK_ROWS", 300)
    network, again = (generator.Ctgan.fit(sample.head(500), seed=1, epochs=1) for _ in range(2))
    pd.testing.assert_frame_equal(network.sample(5, seed=3), again.sample(5, seed=3))
    pd.testing.assert_frame_equal(network.sample(5, seed=3), network.sample(5, seed=3))
    record = _store_generator(tmp_path, network)
    assert [p.name for p in record.path.iterdir() if p.name != "manifest.json"] == [generator.FILE]
    bank = generator.load(open_store(tmp_path / "store"))
    WINES.validate(features.synthetic_wine(bank, date(2026, 1, 1)))
    assert bank.sample(1, seed=5).equals(bank.sample(1, seed=5))


def _store_generator(tmp_path, fitted):
    folder = tmp_path / "saved"
    folder.mkdir()
    fitted.save(folder)
    return open_store(tmp_path / "store").save_model(GENERATOR, folder, {"synthetic_mse": 1.0}, {})


def test_a_damaged_generator_is_named(tmp_path, sample):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / generator.FILE).write_text('{"kind": "copula"}')
    store = open_store(tmp_path / "store")
    store.save_model(GENERATOR, folder, {"synthetic_mse": 1.0}, {})
    with pytest.raises(Damaged, match=r"generator\.json does not hold a generator"):
        generator.load(store)


# ------------------------------------------------------------------ inference


def test_a_prediction_lies_in_its_interval_and_the_interval_differs_by_wine(wine_store):
    wines = generator.load(wine_store).sample(300, seed=1)
    found = inference.load(wine_store).quality(wines)
    assert (found["low"] <= found["predicted"]).all() and (
        found["predicted"] <= found["high"]
    ).all()
    assert (found["high"] - found["low"]).round(6).nunique() > 4
    assert (found["rounded"] == np.rint(found["predicted"])).all()


def test_only_values_unlike_a_typical_wines_move_the_prediction(wine_store):
    predictor = inference.load(wine_store)
    typical = pd.DataFrame(
        [{"wine_type": "white", **predictor.record.metadata["typical"]["white"]}]
    )
    assert np.allclose(predictor.contributions(typical), 0)
    strong = typical.assign(alcohol=13.5)
    moved = predictor.contributions(strong)
    assert moved.index[0] == "alcohol" and np.allclose(moved.iloc[1:], 0)
    gain = predictor.quality(strong)["predicted"] - predictor.quality(typical)["predicted"]
    assert moved.iloc[0] == pytest.approx(gain.iloc[0])


def test_a_damaged_model_is_named(wine_store):
    path = wine_store.load_model(MODEL).path / "intervals.json"
    path.write_text("{}")
    with pytest.raises(Damaged, match=r"intervals\.json"):
        inference.load(wine_store)


VALID = {m.name: sum(m.seen) / 2 for m in MEASUREMENTS} | {
    "wine_type": "red",
    "free_sulfur_dioxide": 20,
    "total_sulfur_dioxide": 60,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alcohol": None}, "Alcohol is missing"),
        ({"alcohol": float("nan")}, "Alcohol is missing"),
        ({"alcohol": "12"}, "Alcohol is missing"),
        ({"alcohol": 99}, "Alcohol cannot be 99: give a value from 4 to 22 % vol"),
        ({"ph": -1}, "pH cannot be -1: give a value from 2 to 5."),
        ({"wine_type": "rosé"}, "red or white"),
        ({"free_sulfur_dioxide": 80}, "Total sulfur dioxide includes the free part"),
    ],
)
def test_bad_input_gets_a_sentence(change, words):
    assert inference.problems(VALID) == []
    [sentence] = inference.problems(VALID | change)
    assert words in sentence


def test_unusual_values_are_named():
    assert inference.unusual(VALID) == []
    assert inference.unusual(VALID | {"alcohol": 20}) == ["Alcohol 20 (seen: 8 to 14.9)"]
