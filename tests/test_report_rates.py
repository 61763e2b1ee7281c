"""Learning rates, batch sizes and halving, with numbers worked out by hand."""

import math

import numpy as np
import pytest
from synthetic_studies import (
    ACCURACY,
    LOSS,
    digits_study,
    halving_study,
    random_choices,
    simulated_run,
    write_study,
)

from kerascomp.studies import (
    _analysis,
    _figures,
    _rate_figures,
    _rates,
    _records,
    _tables,
)
from kerascomp.studies._records import COMPLETED, DIVERGED, FAILED

pytestmark = pytest.mark.one_backend


def study_of(directory, rows, objective=ACCURACY, losses=None):
    """A study of one-epoch trials: batch size, learning rate and score.

    A score is a number, a status, or `(number,)` of a trial ended early.
    """
    runs = []
    for index, (size, rate, score) in enumerate(rows):
        status = score if isinstance(score, str) else COMPLETED
        early = isinstance(score, tuple)
        value = score[0] if early else score
        value = value if status == COMPLETED else None
        curves = {objective["name"]: [value]}
        if losses:
            curves["val_loss"] = [losses[index]]
        runs.append(
            _records.Run(
                trial=f"{index:04d}",
                seed=0,
                status=status,
                hyperparameters={"batch_size": size, "learning_rate": rate},
                score=value,
                best_epoch=None if value is None else 0,
                pruned_epoch=1 if early else None,
                curves=curves,
            )
        )
    write_study(directory, runs, objective=objective)
    return _records.read(directory)


class TestStableRange:
    def test_spans_what_is_near_the_best(self, tmp_path):
        rows = [
            (16, 1e-4, 0.80),
            (16, 1e-3, 0.95),  # 0.97 less 0.02: just near.
            (16, 1e-2, 0.97),
            (16, 1e-1, DIVERGED),
        ]
        (found,) = _rates.ranges(study_of(tmp_path, rows))
        assert (found.below, found.low) == (1e-4, 1e-3)
        assert (found.high, found.above) == (1e-2, 1e-1)
        assert found.least == pytest.approx(1)
        assert found.most == pytest.approx(3)
        assert found.inside == 0
        assert [status for _, status in found.tried] == [
            "worse",
            "stable",
            "stable",
            "diverged",
        ]

    def test_is_open_where_nothing_beyond_was_tried(self, tmp_path):
        rows = [(16, 1e-3, 0.97), (16, 1e-2, 0.96), (16, 1e-1, 0.5)]
        (found,) = _rates.ranges(study_of(tmp_path, rows))
        assert (found.below, found.above) == (None, 1e-1)
        assert found.least == pytest.approx(1)
        assert found.most is None

    def test_counts_worse_trials_inside(self, tmp_path):
        rows = [(8, 1e-3, 0.97), (8, 2e-3, 0.6), (8, 1e-2, 0.97)]
        rows.append((8, 5e-3, DIVERGED))
        (found,) = _rates.ranges(study_of(tmp_path, rows))
        assert found.inside == 2
        assert found.least == pytest.approx(1)

    def test_is_relative_for_losses(self, tmp_path):
        # Near 0.2 is up to 0.22.
        rows = [(8, 1e-4, 0.23), (8, 1e-3, 0.22), (8, 1e-2, 0.2)]
        (found,) = _rates.ranges(study_of(tmp_path, rows, LOSS))
        assert (found.below, found.low, found.high) == (1e-4, 1e-3, 1e-2)

    def test_each_batch_size_has_its_own_best(self, tmp_path):
        rows = [(16, 1e-3, 0.97), (16, 1e-2, 0.90)]
        rows += [(64, 1e-3, 0.80), (64, 1e-2, 0.81)]
        small, large = _rates.ranges(study_of(tmp_path, rows))
        assert (small.best, large.best) == (0.97, 0.81)
        assert (small.least, large.least) == (0, pytest.approx(1))

    def test_leaves_out_failed_trials_and_those_ended_early(self, tmp_path):
        rows = [
            (16, 1e-4, FAILED),
            (16, 3e-4, (0.99,)),
            (16, 1e-3, 0.96),
            (16, 1e-2, 0.97),
            (16, 1e-1, (0.2,)),
            (32, 1e-2, DIVERGED),
        ]
        (found,) = _rates.ranges(study_of(tmp_path, rows))
        assert found.best == 0.97
        assert [rate for rate, _ in found.tried] == [1e-3, 1e-2]
        assert (found.below, found.above) == (None, None)

    @pytest.mark.parametrize(
        ("large", "words"),
        [
            # 16 spans two decades at least; 64 spans less than 1.5 or so.
            ([(64, 1e-3, 0.5), (64, 1e-2, 0.9), (64, 2e-2, 0.5)], "narrower"),
            ([(64, 1e-2, 0.9), (64, 2e-2, 0.5)], "do not tell"),
            ([(64, 1e-6, 0.9), (64, 1e-1, 0.9)], "wider"),
        ],
    )
    def test_claims_only_what_the_bounds_allow(self, tmp_path, large, words):
        small = [(16, 1e-4, 0.97), (16, 1e-2, 0.97)]
        small += [(16, 5e-5, 0.1), (16, 2e-2, DIVERGED)]
        record = study_of(tmp_path, [*small, *large])
        pictures = _rate_figures.pictures(record, _rates.ranges(record))
        assert words in pictures[-1].caption
        assert "Decades by batch size: 2.0 to 2.6 at 16;" in (
            pictures[-1].caption
        )

    def test_table_lists_bounds(self, tmp_path):
        rows = [(16, 1e-3, 0.97), (16, 1e-2, 0.96), (16, 1e-1, 0.5)]
        record = study_of(tmp_path, rows)
        table = _tables.ranges(_rates.ranges(record), record)
        assert [text for text, _ in table.rows[0]] == [
            "16",
            "3",
            "0.9700",
            "\N{EN DASH}",
            "0.001",
            "0.01",
            "0.1",
            "1.00",
            "\N{EN DASH}",
        ]

    def test_words_state_the_tolerance(self, tmp_path):
        rows = [(16, 1e-3, 0.97), (16, 1e-2, 0.96)]
        for objective, words in ((ACCURACY, "2.0 points"), (LOSS, "10% of it")):
            record = study_of(tmp_path / words, rows, objective)
            ranges = _rates.ranges(record)
            assert words in _rate_figures.words(record, ranges)

    def test_no_learning_rate_no_section(self, tmp_path):
        record = study_of(tmp_path, [(16, 1e-3, 0.9), (32, 1e-3, 0.8)])
        assert _rate_figures.pictures(record, _rates.ranges(record)) == []


class TestBestRate:
    ROWS = ((4, 1e-3, 0.9), (4, 1e-2, 0.8), (16, 2e-3, 0.9), (64, 4e-3, 0.9))

    def test_follows_a_power_of_the_batch_size(self, tmp_path):
        # The rate doubles as the batch size is multiplied by four.
        record = study_of(tmp_path, self.ROWS)
        assert _rates.trend(record) == pytest.approx(0.5)
        caption = _rate_figures.pictures(record, _rates.ranges(record))[0]
        assert "to the power of 0.5 (" in caption.caption
        assert "from 1 to 2 trials a batch size" in caption.caption

    def test_needs_three_batch_sizes(self, tmp_path):
        assert _rates.trend(study_of(tmp_path, self.ROWS[:3])) is None

    def test_is_judged_by_the_loss_where_all_have_one(self, tmp_path):
        losses = [0.3, 0.2, 0.1, 0.4]
        record = study_of(tmp_path, self.ROWS, losses=losses)
        assert _rates.measure(record) == "val_loss"
        found = {s: p.rate for s, p in _rates.peaks(record).items()}
        assert found == {4: 1e-2, 16: 2e-3, 64: 4e-3}

    def test_is_judged_by_the_score_where_the_loss_is_missing(self, tmp_path):
        losses = [0.3, None, 0.1, 0.4]
        record = study_of(tmp_path, self.ROWS, losses=losses)
        assert _rates.measure(record) == "val_accuracy"
        assert _rates.peaks(record)[4].rate == 1e-3

    def test_label_smoothing_makes_losses_incomparable(self, tmp_path):
        runs = []
        for index, choices in enumerate(random_choices(4)):
            choices["label_smoothing"] = 0.1 * index
            runs.append(simulated_run(f"{index:04d}", 0, choices))
        space = {"label_smoothing": {}, "learning_rate": {}}
        record = _records.read(write_study(tmp_path, runs, space=space))
        assert _rates.measure(record) == "val_accuracy"

    def test_takes_the_lowest_loss_of_any_epoch_and_the_mean_of_runs(self):
        runs = tuple(
            _records.Run("0", seed, COMPLETED, {}, curves={"val_loss": losses})
            for seed, losses in enumerate([[3.0, 1.0, 2.0], [None, 2.0, 4.0]])
        )
        assert _rates.lowest_loss(_records.Trial("0", {}, runs)) == 1.5

    def test_diverged_and_early_ones_are_drawn_and_not_best(self, tmp_path):
        rows = [(4, 1e-3, 0.8), (4, 1e-2, (0.9,)), (4, 1e-1, DIVERGED)]
        record = study_of(tmp_path, rows)
        points = _rates.points(record)[4]
        assert [(p.value, p.pruned) for p in points] == [
            (0.8, False),
            (0.9, True),
            (None, False),
        ]
        assert _rates.peaks(record)[4].rate == 1e-3


class TestScaling:
    def rows(self, updates):
        """Batch sizes from 16 on that reach the target in such updates."""
        return [
            _analysis.BatchSize(
                16 * 2**power,
                1,
                0,
                0,
                1,
                1,
                1,
                1,
                1,
                _analysis.Reach("0", 1, count, count / 100, 0.01),
            )
            for power, count in enumerate(updates)
        ]

    def test_perfect_scaling_is_minus_one(self):
        rows = self.rows([160, 80, 40, 20])
        assert _analysis.scaling_power(rows) == pytest.approx(-1)
        assert _analysis.scaling_power(self.rows([7, 7, 7])) == pytest.approx(0)
        assert _analysis.scaling_power(self.rows([7, 7])) is None

    def test_hyperbola_gives_back_its_constants(self):
        # 10 steps and 1600 examples at least: 10 + 1600 / 16 = 110.
        steps, examples = _analysis.hyperbola(self.rows([110, 60, 35, 22.5]))
        assert (steps, examples) == (pytest.approx(10), pytest.approx(1600))
        assert _analysis.hyperbola(self.rows([110, 60, 35])) is None

    @pytest.mark.parametrize(
        ("updates", "words"),
        [
            # 480 / 10 = 48 lies between 16 and 128.
            ([40, 25, 17.5, 13.75], "at about 48."),
            ([160, 80, 40, 20], "Up to 128 no critical batch size"),
            ([20, 40, 60, 80], "save no updates"),
        ],
    )
    def test_says_where_batches_become_wasteful(self, updates, words):
        (picture,) = _figures.batch_sizes(self.rows(updates))
        assert words in picture.caption

    def test_names_the_soonest(self):
        (picture,) = _figures.batch_sizes(self.rows([160, 80, 120]))
        assert (
            "Batch size 32 with a learning rate of 0.01 is there first, in "
            "0.8 s."
        ) in picture.caption

    def test_table_names_the_learning_rate_to_the_target(self, tmp_path):
        record = _records.read(digits_study(tmp_path))
        for row in _analysis.batch_sizes(record):
            if row.reach:
                trial = next(
                    t for t in record.trials if t.id == row.reach.trial
                )
                rate = trial.hyperparameters["learning_rate"]
                assert row.reach.learning_rate == rate


class TestHalving:
    def test_rungs_count_who_was_compared_and_who_went_on(self, tmp_path):
        record = _records.read(halving_study(tmp_path))
        # Trial 0003 diverges in epoch 4, between the rungs.
        assert _analysis.rungs(record) == [
            _analysis.Rung(2, 18, 6),
            _analysis.Rung(5, 5, 2),
        ]
        assert len(_analysis.pruned(record)) == 15

    def test_comparisons_leave_out_trials_ended_early(self, tmp_path):
        rows = [(16, 1e-3, 0.9), (16, 1e-2, (0.95,)), (32, 1e-2, 0.7)]
        rows += [(32, 1e-1, (0.2,)), (32, 1e-1, DIVERGED)]
        record = study_of(tmp_path, rows)
        assert _analysis.scores(record) == [0.9, 0.7]
        assert _analysis.target(record) == pytest.approx(0.8)
        small, large = _analysis.batch_sizes(record)
        assert (small.trials, small.pruned, small.best) == (2, 1, 0.9)
        assert (large.trials, large.pruned, large.median) == (3, 1, 0.7)
        assert set(_analysis.quality(record)) == {"0000", "0002"}
        found = _analysis.heat_map(record)
        assert np.nansum(found.best) == pytest.approx(0.9 + 0.7)
        assert found.completed.sum() == 2
        assert found.pruned.sum() == 2
        assert found.lost.sum() == 1

    def test_trials_ended_early_are_compared_if_there_are_no_others(
        self, tmp_path
    ):
        rows = [(16, 1e-3, (0.9,)), (16, 1e-2, (0.8,)), (16, 1e-1, DIVERGED)]
        record = study_of(tmp_path, rows)
        assert _analysis.scores(record) == [0.9, 0.8]

    def test_a_trial_ended_early_may_still_reach_the_target(self, tmp_path):
        record = study_of(tmp_path, [(16, 1e-3, 0.9), (16, 1e-2, (0.95,))])
        found = _analysis.reach(record.trials[1], 0.9, record)
        assert found.epochs == 1
        assert math.isclose(found.learning_rate, 1e-2)
