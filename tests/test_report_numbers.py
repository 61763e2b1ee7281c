import dataclasses
import math
import statistics

import numpy as np
import pytest
from synthetic_studies import (
    ACCURACY,
    LOSS,
    digits_study,
    hyperband_study,
    random_choices,
    simulated_run,
    write_study,
)

from kerascomp.studies import _analysis, _figures, _records, _words

pytestmark = pytest.mark.one_backend


def study_of(directory, scores, choices, objective=ACCURACY, **details):
    """A study of one-epoch trials with given scores; None is diverged."""
    runs = [
        _records.Run(
            trial=f"{index:04d}",
            seed=0,
            status=_records.DIVERGED if score is None else _records.COMPLETED,
            hyperparameters=chosen,
            score=score,
            best_epoch=None if score is None else 0,
            curves={objective["name"]: [score]},
            **details,
        )
        for index, (score, chosen) in enumerate(
            zip(scores, choices, strict=True)
        )
    ]
    write_study(directory, runs, objective=objective)
    return _records.read(directory)


class TestNumbers:
    def test_best_so_far_accumulates(self, tmp_path):
        scores = [0.3, None, 0.2, 0.9, 0.5]
        filled = np.array([0.3, -np.inf, 0.2, 0.9, 0.5])
        record = study_of(tmp_path / "max", scores, [{}] * 5)
        expected = np.maximum.accumulate(filled).tolist()
        assert _analysis.best_so_far(record) == expected
        record = study_of(tmp_path / "min", scores, [{}] * 5, LOSS)
        expected = np.minimum.accumulate(np.abs(filled)).tolist()
        assert _analysis.best_so_far(record) == expected

    def test_best_so_far_is_unknown_until_a_trial_completes(self, tmp_path):
        record = study_of(tmp_path, [None, None, 0.4], [{}] * 3)
        assert _analysis.best_so_far(record) == [None, None, 0.4]

    def test_target_is_reached_by_half_of_the_trials(self, tmp_path):
        record = study_of(tmp_path, [0.1, 0.4, 0.6, None, 0.9], [{}] * 5)
        goal = _analysis.target(record)
        assert goal == pytest.approx(np.median([0.1, 0.4, 0.6, 0.9]))
        reaches = [_analysis.reach(t, goal, record) for t in record.trials]
        assert [r is not None for r in reaches] == [
            False,
            False,
            True,
            False,
            True,
        ]

    def test_time_to_target_counts_updates_and_steady_seconds(self, tmp_path):
        run = _records.Run(
            trial="0000",
            seed=0,
            status=_records.COMPLETED,
            hyperparameters={"batch_size": 32},
            score=0.9,
            best_epoch=4,
            updates_per_epoch=25,
            curves={
                "val_accuracy": [0.2, None, 0.7, 0.8, 0.9],
                "seconds": [9.0, 0.2, 0.4, 0.3, 0.6],
            },
        )
        record = _records.read(write_study(tmp_path, [run]))
        found = _analysis.reach(record.trials[0], 0.7, record)
        # Epoch 3 of 25 updates; the first epoch compiled, so it is no guide.
        assert (found.epochs, found.updates) == (3, 75)
        assert found.seconds == pytest.approx(
            3 * np.median([0.2, 0.4, 0.3, 0.6])
        )
        assert _analysis.reach(record.trials[0], 0.95, record) is None

    def test_time_to_target_of_seeds_is_their_median(self, tmp_path):
        curves = [[0.1, 0.8, 0.9], [0.8, 0.8, 0.8], [0.1, 0.1, 0.1]]
        runs = [
            _records.Run(
                trial="0000",
                seed=seed,
                status=_records.COMPLETED,
                hyperparameters={},
                score=max(values),
                best_epoch=int(np.argmax(values)),
                curves={"val_accuracy": values},
            )
            for seed, values in enumerate(curves)
        ]
        record = _records.read(write_study(tmp_path, runs))
        found = _analysis.reach(record.trials[0], 0.8, record)
        assert found.epochs == np.median([2, 1, np.inf])

    def test_time_to_target_of_a_continued_run_counts_from_its_start(
        self, tmp_path
    ):
        record = _records.read(hyperband_study(tmp_path))
        trial = record.trials[12]
        values = np.array(trial.runs[0].curves["val_accuracy"])
        goal = float(values[2])
        found = _analysis.reach(trial, goal, record)
        assert found.epochs == 3 + 1 + int(np.argmax(values >= goal))

    def test_table_by_batch_size(self, tmp_path):
        record = _records.read(digits_study(tmp_path, count=30, lost=(3, 9)))
        rows = _analysis.batch_sizes(record)
        assert [row.batch_size for row in rows] == [16, 64, 256]
        assert sum(row.trials for row in rows) == 30
        goal = statistics.median(
            t.score for t in record.trials if t.score is not None
        )
        for row in rows:
            runs = [
                t.runs[0]
                for t in record.trials
                if t.hyperparameters["batch_size"] == row.batch_size
            ]
            scores = [run.score for run in runs if run.score is not None]
            lost = np.mean([run.status == "diverged" for run in runs])
            seconds = np.concatenate([r.curves["seconds"][1:] for r in runs])
            assert row.trials == len(runs)
            assert row.best == max(scores)
            assert row.median == pytest.approx(np.median(scores))
            assert row.diverged_share == pytest.approx(lost)
            assert row.seconds_per_epoch == pytest.approx(np.median(seconds))
            assert row.updates_per_epoch == math.ceil(1077 / row.batch_size)
            assert row.examples_per_second == pytest.approx(
                np.median([r.examples_per_second for r in runs])
            )
            epochs = [
                1 + np.argmax(np.array(run.curves["val_accuracy"]) >= goal)
                for run in runs
                if run.score is not None and run.score >= goal
            ]
            assert row.reach.epochs == min(epochs)
            assert row.reach.updates == min(epochs) * row.updates_per_epoch

    def test_many_batch_sizes_share_rows(self, tmp_path):
        sizes = [8, 10, 16, 17, 30, 33, 60, 64, 100, 130]
        choices = [{"batch_size": size} for size in sizes]
        record = study_of(tmp_path, [0.5] * 10, choices)
        rows = _analysis.batch_sizes(record)
        assert [row.batch_size for row in rows] == [8, 16, 32, 64, 128]
        assert [row.trials for row in rows] == [2, 2, 2, 2, 2]

    @pytest.mark.parametrize("objective", [ACCURACY, LOSS])
    def test_importance_finds_what_matters(self, tmp_path, objective):
        choices = random_choices(40, seed=3)
        scores = [-abs(math.log10(c["learning_rate"]) + 2) for c in choices]
        if objective is LOSS:
            scores = [-score for score in scores]
        record = study_of(tmp_path, scores, choices, objective)
        found = _analysis.importance(record)
        assert found.names[0] == "learning_rate"
        assert found.r2 > 0.8
        assert found.drops[0] > 1
        assert max(np.abs(found.drops[1:])) < 0.1

    def test_importance_sees_categories(self, tmp_path):
        rng = np.random.default_rng(0)
        choices = random_choices(40)
        for choice in choices:
            choice["batch_size"] = [16, 64, 256][rng.integers(3)]
        scores = [float(c["batch_size"] == 64) for c in choices]
        scores = [s + rng.normal(0, 0.01) for s in scores]
        found = _analysis.importance(study_of(tmp_path, scores, choices))
        assert found.names[0] == "batch_size"

    def test_importance_of_noise_is_distrusted(self, tmp_path):
        scores = np.random.default_rng(5).normal(size=40).tolist()
        record = study_of(tmp_path, scores, random_choices(40))
        assert _analysis.importance(record).r2 < 0.1
        picture = next(
            p for p in _figures.search(record, {}) if p.key == "importance"
        )
        assert "ignore the bars" in picture.caption

    def test_heat_map_bins_like_a_histogram(self, tmp_path):
        record = _records.read(digits_study(tmp_path, count=40, lost=(3, 9)))
        found = _analysis.heat_map(record)
        done = [t for t in record.trials if t.score is not None]
        rates = [math.log(t.hyperparameters["learning_rate"]) for t in done]
        sizes = [t.hyperparameters["batch_size"] for t in done]
        edges = np.log(found.edges)
        edges[-1] += 1e-9
        counts, _, _ = np.histogram2d(
            sizes, rates, bins=[[0, 32, 128, 512], edges]
        )
        assert np.array_equal(found.completed, counts)
        assert found.lost.sum() == 2
        assert np.nanmax(found.best) == record.best.score
        # 1e-4 to 1e-1 are three decades: two bins each.
        assert len(found.edges) == 7

    def test_equal_scores_have_equal_quality(self, tmp_path):
        record = study_of(tmp_path, [0.2, 0.9, 0.9, None, 0.5], [{}] * 5)
        assert _analysis.quality(record) == pytest.approx(
            {"0001": 1, "0002": 1, "0004": 1 / 3, "0000": 0}
        )

    def test_rank_correlation_is_positive_where_more_is_better(self, tmp_path):
        values = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
        losses = [0.9, 0.7, 0.8, 0.4, 0.3, 0.1]
        choices = [{"dropout": value} for value in values]
        record = study_of(tmp_path, losses, choices, LOSS)
        ranks = [np.argsort(np.argsort(v)) for v in (values, losses)]
        expected = -np.corrcoef(ranks)[0, 1]
        found = _analysis.rank_correlation(record, "dropout")
        assert found == pytest.approx(expected)
        assert found > 0.9

    def test_interval_of_an_accuracy_is_wilsons(self):
        from scipy import stats

        expected = stats.binomtest(349, 360).proportion_ci(method="wilson")
        found = _analysis.wilson(349 / 360, 360)
        assert found == pytest.approx(tuple(expected), rel=1e-6)

    def test_scales_follow_the_space(self, tmp_path):
        record = _records.read(digits_study(tmp_path, count=4))
        rate = _analysis.scale(record, "learning_rate")
        assert rate.kind == "log"
        assert rate.position(1e-2) == pytest.approx(2 / 3)
        assert rate.at_edge(0.09)
        assert _analysis.scale(record, "dropout").position(0.3) == 0.5
        sizes = _analysis.scale(record, "batch_size")
        assert [sizes.position(v) for v in sizes.levels] == [0, 0.5, 1]

    def test_at_best_survives_short_curves(self):
        run = simulated_run("0000", 0, {}, epochs=9, first_epoch=3)
        index = run.best_epoch - 3
        expected = run.curves["val_loss"][index]
        assert _analysis.at_best(run, "val_loss") == expected
        short = dataclasses.replace(run, curves={"val_loss": []})
        assert _analysis.at_best(short, "val_loss") is None


class TestWords:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("val_accuracy", "validation accuracy"),
            ("val_sparse_categorical_accuracy", "validation accuracy"),
            ("val_mae", "validation mean absolute error"),
            ("auc", "AUC"),
            ("my_metric", "my metric"),
        ],
    )
    def test_metrics_have_names(self, name, words):
        assert _words.metric(name) == words

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0031234, "0.003123"),
            (1.25e-7, "1.25e\u22127"),
            (123456.7, "123,457"),
            (32.0, "32"),
            (-0.5, "\u22120.5"),
            (math.nan, "\u2013"),
            (None, "\u2013"),
        ],
    )
    def test_numbers_are_short(self, value, text):
        assert _words.number(value) == text

    def test_columns_have_equal_decimals(self):
        assert _words.column([0.9, 0.91234, None]) == [
            "0.9000",
            "0.9123",
            "\u2013",
        ]
        assert _words.column([15.0, 3.0]) == ["15", "3"]
        assert _words.column([3012.4, 2999.9]) == ["3,012", "3,000"]

    def test_listing_reads_like_a_sentence(self):
        assert _words.listing(["a"]) == "a"
        assert _words.listing(["a", "b", "c"]) == "a, b and c"
