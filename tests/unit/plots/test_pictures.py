"""Each picture shows the numbers that it is of, and refuses what it cannot show."""

import keras
import numpy as np
import pandas as pd
import pytest

import tfbnn
from tfbnn import likelihoods
from tfbnn.core.checks import InvalidInput
from tfbnn.prediction import NetworkDraws, Prediction, StoredDraws

pytest.importorskip("matplotlib", reason="needs the extra tfbnn[plots]")
from tfbnn import plots

RNG = np.random.default_rng(0)
B = 60
LOC = RNG.normal(5.0, 1.0, [20, B])
NUMBERS = Prediction(np.stack([LOC, np.full([20, B], 1.5)], axis=-1), likelihoods.Normal())
Y = RNG.normal(5.0, 1.8, B)
TWO = Prediction(RNG.normal(0.0, 2.0, [20, B, 1]), likelihoods.Bernoulli())
THREE = Prediction(RNG.normal(0.0, 2.0, [20, B, 3]), likelihoods.Categorical(3))
COUNTS = Prediction(np.log(RNG.gamma(3.0, 1.0, [20, B, 1])), likelihoods.Poisson())
CLASSES = RNG.integers(0, 2, B)


def written(figure, tmp_path):
    """The panels that are seen, after the figure was drawn."""
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 2000
    return [axis for axis in figure.axes if axis.get_visible()]


def line(axis, label):
    return next(found for found in axis.lines if found.get_label() == label)


@pytest.mark.parametrize("prediction", [TWO, THREE], ids=["two", "three"])
def test_reliability_of_classes_shows_its_bins(prediction, tmp_path):
    upper, lower = written(plots.plot_reliability(prediction, CLASSES), tmp_path)
    p = prediction.probabilities
    bins = tfbnn.evaluation.reliability(p[:, 1] if prediction is TWO else p, CLASSES, 10)
    shown = upper.lines[-1].get_xydata()
    np.testing.assert_allclose(shown, np.stack([bins.confidence, bins.frequency], axis=1))
    assert [bar.get_height() for bar in lower.patches] == list(bins.count)


def test_reliability_of_numbers_is_the_share_below_each_quantile(tmp_path):
    [axis] = written(plots.plot_reliability(NUMBERS, Y), tmp_path)
    q, share = line(axis, "targets").get_data()
    at = np.argmin(np.abs(q - 0.3))
    assert share[at] == pytest.approx(np.mean(NUMBERS.quantile(0.3)[:, 0] >= Y))


def test_sharpness_counts_the_widths_of_the_intervals(tmp_path):
    [axis] = written(plots.plot_sharpness(NUMBERS, 0.8, "mmol/l"), tmp_path)
    lower, upper = NUMBERS.interval(0.8)
    assert sum(bar.get_height() for bar in axis.patches) == B
    assert line(axis, "mean").get_xdata()[0] == pytest.approx((upper - lower).mean())
    assert "80% interval, units of mmol/l" in axis.get_xlabel()
    [axis] = written(plots.plot_sharpness(THREE), tmp_path)
    assert line(axis, "all classes alike").get_xdata()[0] == pytest.approx(np.log(3))
    assert sum(bar.get_height() for bar in axis.patches) == B


def test_uncertainties_are_shown_by_what_was_missed(tmp_path):
    [axis] = written(plots.plot_uncertainties(NUMBERS, Y, 0.5), tmp_path)
    lower, upper = NUMBERS.interval(0.5)
    outside = ((lower[:, 0] > Y) | (upper[:, 0] < Y)).nonzero()[0]
    shown = np.stack([NUMBERS.aleatoric_stddev[outside, 0], NUMBERS.epistemic_stddev[outside, 0]], axis=1)
    np.testing.assert_allclose(line(axis, "outside").get_xydata(), shown)
    [axis] = written(plots.plot_uncertainties(TWO, CLASSES), tmp_path)
    wrong = TWO.probabilities.argmax(axis=1) != CLASSES
    np.testing.assert_allclose(line(axis, "named wrongly").get_ydata(), TWO.mutual_information[wrong])
    assert len(line(axis, "named rightly").get_xydata()) == B - wrong.sum()


def test_a_part_of_the_elbo_stands_alone(tmp_path):
    history = {"log_likelihood": [-9.0, -8.0], "kl": [2.0, 1.0], "elbo": [-11.0, -9.0], "val_log_likelihood": [-1, -2]}
    assert plots.parts_of_elbo(history) == ["terms", "kl", "validation"]
    assert plots.parts_of_elbo({"log_likelihood": [1.0], "kl": [0.0]}) == ["terms"]
    [axis] = written(plots.plot_elbo(history, "kl"), tmp_path)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [2.0, 1.0])
    with pytest.raises(InvalidInput, match="`part`"):
        plots.plot_elbo({"log_likelihood": [1.0]}, "kl")


def test_costs_of_the_kept_rows_and_the_decision_are_shown(tmp_path):
    costs = RNG.uniform(0.0, 3.0, B)
    [axis] = written(plots.plot_risk_coverage(TWO, CLASSES, kept=0.75, costs=costs), tmp_path)
    assert axis.lines[0].get_ydata()[-1] == pytest.approx(costs.mean())
    assert line(axis, "75% are kept by the decision").get_xdata()[0] == 0.75
    assert "cost" in axis.get_ylabel()


def test_risk_coverage_ends_at_the_risk_of_all(tmp_path):
    [axis] = written(plots.plot_risk_coverage(NUMBERS, Y), tmp_path)
    rmse = np.sqrt(np.mean((NUMBERS.mean[:, 0] - Y) ** 2))
    for found in axis.lines[:2]:
        assert found.get_ydata()[-1] == pytest.approx(rmse)
    [axis] = written(plots.plot_risk_coverage(TWO, CLASSES, -TWO.mutual_information), tmp_path)
    assert axis.lines[0].get_ydata()[-1] == pytest.approx(np.mean(TWO.probabilities.argmax(axis=1) != CLASSES))
    with pytest.raises(InvalidInput, match="`certainty`"):
        plots.plot_risk_coverage(TWO, CLASSES, np.ones(3))


def test_pit_counts_every_target(tmp_path):
    for prediction, y in ((NUMBERS, Y), (COUNTS, RNG.integers(0, 6, B))):
        [axis] = written(plots.plot_pit(prediction, y, bins=5), tmp_path)
        assert sum(bar.get_height() for bar in axis.containers[0]) == B


def test_densities_are_those_of_the_mixture(tmp_path):
    axes = written(plots.plot_densities(NUMBERS, [3, 7], Y), tmp_path)
    assert [axis.get_title(loc="left") for axis in axes] == ["row 3", "row 7"]
    corners = axes[0].collections[0].get_paths()[0].vertices
    area = np.trapezoid(*corners[1:201, ::-1].T)
    assert area == pytest.approx(1.0, abs=0.02)
    heights = [bar.get_height() for bar in written(plots.plot_densities(THREE, [0]), tmp_path)[0].patches]
    np.testing.assert_allclose(heights, THREE.probabilities[0], rtol=1e-5)
    assert written(plots.plot_densities(COUNTS, [0], np.arange(B)), tmp_path)


@pytest.mark.parametrize("rows", [[], [B], [-1], [0.5]])
def test_rows_that_there_are_not_are_refused(rows):
    with pytest.raises(InvalidInput, match="`rows`"):
        plots.plot_densities(NUMBERS, rows)


HISTORY = {"elbo": [-90.0, -50.0, -40.0], "log_likelihood": [-60.0, -35.0, -30.0], "kl": [30.0, 15.0, 10.0]}


def test_elbo_shows_its_terms(tmp_path):
    parts = {"kl/a": [20.0, 10.0, 7.0], "kl/b": [10.0, 5.0, 3.0], "val_log_likelihood": [-2.0, -1.0, -0.9]}
    axes = written(plots.plot_elbo(pd.DataFrame({**HISTORY, **parts})), tmp_path)
    assert len(axes) == 3
    np.testing.assert_allclose(line(axes[0], "ELBO").get_ydata(), HISTORY["elbo"])
    assert [found.get_label() for found in axes[1].lines] == ["all layers", "a", "b"]
    [alone] = written(plots.plot_elbo({"log_likelihood": [-60.0, -30.0], "kl": [0.0, 0.0]}), tmp_path)
    assert [found.get_label() for found in alone.lines] == ["log likelihood"]  # points have no KL and no ELBO
    with pytest.raises(InvalidInput, match="`history`"):
        plots.plot_elbo({"loss": [1.0]})


def test_weights_of_layers_and_of_kept_draws(tmp_path):
    net = keras.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(8), tfbnn.layers.DenseFlipout(1)])
    for model in (tfbnn.BayesianModel(net, "Normal"), NetworkDraws(net, likelihoods.Normal())):
        axes = written(plots.plot_weights(model), tmp_path)
        assert [axis.get_title(loc="left").split(": ")[1] for axis in axes] == ["24 weights", "8 weights"]
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="last")])
    likelihood = likelihoods.Normal()
    rest = [np.zeros(variable.shape) for variable in (*plain.trainable_variables[1:], *likelihood.trainable_variables)]
    kept = StoredDraws(plain, likelihood, [[np.full([3, 1], float(i)), *rest] for i in range(3)])
    [axis] = written(plots.plot_weights(kept), tmp_path)
    assert axis.get_title(loc="left") == "last: 3 weights"
    with pytest.raises(InvalidInput, match="`model`"):
        plots.plot_weights(plain)


@pytest.mark.parametrize("draw", [plots.plot_reliability, plots.plot_risk_coverage, plots.plot_uncertainties])
def test_another_number_of_labels_is_told(draw):
    with pytest.raises(InvalidInput, match="60 rows, as were predicted"):
        draw(NUMBERS, Y[:1])


@pytest.mark.parametrize("draw", [plots.plot_reliability, plots.plot_risk_coverage, plots.plot_pit])
def test_targets_that_do_not_fit_are_refused(draw):
    with pytest.raises(InvalidInput):
        draw(NUMBERS, np.where(Y > 5, np.nan, Y))


def test_bands_are_two_standard_deviations_about_the_mean(tmp_path):
    grid = np.linspace(-1, 1, B)
    [axis] = written(plots.plot_bands(NUMBERS, grid, (grid[::6], Y[::6]), ("dose", "response")), tmp_path)
    np.testing.assert_allclose(line(axis, "mean").get_xydata(), np.stack([grid, NUMBERS.mean[:, 0]], axis=1))
    np.testing.assert_allclose(line(axis, "rows").get_ydata(), Y[::6])
    for shade, stddev in zip(axis.collections, (NUMBERS.stddev, NUMBERS.epistemic_stddev), strict=True):
        edges = shade.get_paths()[0].vertices
        middle = edges[np.isclose(edges[:, 0], grid[7])]
        assert np.ptp(middle[:, 1]) == pytest.approx(4 * stddev[7, 0])
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title(loc="left")) == ("dose", "response", "")


def test_a_panel_a_method_and_the_golds_bands_in_the_others(tmp_path):
    grid = np.linspace(-1, 1, B)
    told = {"NUTS": NUMBERS, "other": Prediction(NUMBERS.parameters + 1.0, NUMBERS.likelihood)}
    gold, other = written(plots.plot_bands(told, grid, (grid, Y), gold="NUTS"), tmp_path)
    assert [axis.get_title(loc="left") for axis in (gold, other)] == ["NUTS", "other"]
    upper = NUMBERS.mean[:, 0] + 2 * NUMBERS.epistemic_stddev[:, 0]
    np.testing.assert_allclose(line(other, "NUTS's").get_ydata(), upper)
    assert "NUTS's" not in [found.get_label() for found in gold.lines]


def test_regions_are_of_the_likelier_class(tmp_path):
    grid = np.linspace(0, 1, 10), np.linspace(0, 1, 6)
    rows = RNG.uniform(size=[8, 2]), np.array(["no", "yes"] * 4)
    axis, bar = written(plots.plot_classes(TWO, grid, rows), tmp_path)
    assert bar.get_ylabel() == "probability of the likelier class"
    np.testing.assert_allclose(axis.lines[1].get_xydata(), rows[0][1::2])


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    figure = plots.plot_sharpness(NUMBERS)
    assert plots.write(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "a.png").read_bytes()
    figure.savefig = lambda *_, **__: (_ for _ in ()).throw(OSError("full"))
    with pytest.raises(OSError, match="full"):
        plots.write(figure, tmp_path / "a.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", before)]


def kl_of(count, name="layer_{}"):
    values = {f"kl/{name.format(i)}": np.array([20.0, 10.0 + i]) for i in range(count)}
    return {"elbo": [-2.0, -1.0], "log_likelihood": [-1.0, -0.5], "kl": sum(values.values()), **values}


def test_of_many_layers_the_largest_are_told_and_the_others_summed():
    (axis,) = plots.plot_elbo(kl_of(9), "kl").axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert list(lines) == ["all layers", *(f"layer_{i}" for i in range(4, 9)), "4 others"]
    np.testing.assert_allclose(lines["4 others"], [80.0, 46.0])
    np.testing.assert_allclose(sum(list(lines.values())[1:]), lines["all layers"])


def test_twin_of_few_layers_each_is_told():
    (axis,) = plots.plot_elbo(kl_of(6), "kl").axes
    assert [line.get_label() for line in axis.lines] == ["all layers", *(f"layer_{i}" for i in range(6))]


def test_long_names_of_layers_leave_room_for_the_picture(tmp_path):
    """In the report's size; Matplotlib warns, which is an error here, where a legend leaves none."""
    figure = plots.plot_elbo(kl_of(9, "block_0_feed_forward_hidden_{}"), "kl")
    figure.set_size_inches(4.2, 3.2)
    figure.savefig(tmp_path / "kl.svg")
