"""What the benchmarks rest on: the format of the literature's splits, and agreement before anything is timed."""

import gzip
import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import stats

import tfbnn
from tfbnn.core.checks import InvalidInput


@pytest.fixture(scope="module")
def load():
    """Imports a module of benchmarks/, which is not installed; the installed tfbnn stays the one that is found."""
    root = str(Path(__file__).resolve().parents[2])
    sys.path.append(root)
    yield lambda name: importlib.import_module(f"benchmarks.{name}")
    sys.path.remove(root)


@pytest.fixture
def folder(tmp_path):
    """A set of 12 rows: two features, one of them constant, the target in column 2; one split."""
    rng = np.random.default_rng(0)
    data = np.column_stack([rng.normal(size=12), np.full(12, 3.0), rng.normal(size=12)])
    files = {"data": data, "index_features": [0, 1], "index_target": [2],
             "index_train_0": range(9), "index_test_0": range(9, 12)}  # fmt: skip
    for name, numbers in files.items():
        np.savetxt(tmp_path / f"{name}.txt", np.asarray(list(numbers)))
    return tmp_path


def test_a_split_is_standardised_by_its_training_rows_and_constant_columns_stay_finite(load, folder):
    [split] = load("uci").read_set(folder)
    np.testing.assert_allclose(split.x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(split.x.std(axis=0), [1, 0], atol=1e-6)
    assert split.x_test.shape == (3, 2)
    assert np.isfinite(split.x_test).all()


BAD = {
    "a row outside the data": ("index_test_0", "9 10 12", "rows of data.txt, 0 to 11"),
    "a negative row": ("index_train_0", "0 -1", "rows of data.txt, 0 to 11"),
    "half a row": ("index_train_0", "0 1.5", "rows of data.txt, 0 to 11"),
    "text": ("index_train_0", "0 one", "numbers, separated by blanks"),
    "empty": ("data", "", "an empty file"),
    "not finite": ("data", "1 2 nan", "finite numbers"),
    "two targets": ("index_target", "1 2", "one column"),
    "the target among the features": ("index_features", "0 2", "columns other than the target's"),
    "one training row": ("index_train_0", "3", "two training rows or more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_told_by_their_name(load, folder, name):
    file, content, told = BAD[name]
    (folder / f"{file}.txt").write_text(content)
    with pytest.raises(InvalidInput, match=told) as refused:
        load("uci").read_set(folder)
    assert f"{file}.txt" in str(refused.value)


def test_folders_without_splits_or_sets_are_refused(load, folder, tmp_path_factory):
    with pytest.raises(InvalidInput, match=r"with data\.txt"):
        load("uci").set_folders(tmp_path_factory.mktemp("empty"))
    (folder / "index_train_0.txt").unlink()
    with pytest.raises(InvalidInput, match="splits"):
        load("uci").read_set(folder)


def test_rows_that_are_trained_and_tested_on_are_told(load, folder, capsys):
    (folder / "index_test_0.txt").write_text("8 9")
    load("uci").read_set(folder)
    assert "1 rows" in capsys.readouterr().out


def test_results_are_written_after_each_set(load, folder, tmp_path, monkeypatch, capsys):
    uci, made = load("uci"), []
    result = {"splits": [{"rmse": 1.0, "ll": -1.0, "inside": 9, "rows": 10}] * 2, "seconds": 1.0}
    monkeypatch.setattr(uci, "run_method", lambda method, splits: made.append(method) or result)
    uci.main(["--data", str(folder), "--out", str(tmp_path / "out")])
    assert made == uci.UNLESS_TOLD
    assert "tfbnn, ensemble" in (tmp_path / "out" / "uci.md").read_text(encoding="utf-8")
    assert "Written" in capsys.readouterr().out


def test_the_tables_hold_ours_and_the_published(load):
    uci = load("uci")
    splits = [{"rmse": value, "ll": -value, "inside": 9, "rows": 10} for value in (1.0, 3.0)]
    result = {"set": "toy", "method": "vi", "splits": splits, "seconds": 1.0}
    published = [{"dataset": "toy", "method": "PBP", "metric": "rmse", "mean": "5.67", "stderr": "0.09"}]
    text = uci.report([result], published)
    assert "| tfbnn, vi | 2.00 ± 0.71 |" in text  # std / sqrt(n), as published
    assert "| PBP | 5.67 ± 0.09 |" in text
    assert "90.0%" in text
    assert np.isnan(uci.mean_and_error({**result, "splits": splits[:1]}, "rmse")[1])


def idx(values, code=8):
    """An array of bytes as the sets of images have it, gzipped."""
    sizes = np.asarray(values.shape, ">u4").tobytes()
    return gzip.compress(bytes([0, 0, code, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


def test_images_are_read_with_their_classes(load, tmp_path):
    pixels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(pixels))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.array([7, 0])))
    images = load("mnist").read_images(tmp_path, "test")
    np.testing.assert_allclose(images.x[..., 0], pixels / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(images.y, [7, 0])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.array([7])))
    with pytest.raises(InvalidInput, match="2 images, 1 labels"):
        load("mnist").read_images(tmp_path, "test")


IMAGE = idx(np.zeros([2, 2, 2]))
BAD_IMAGES = {
    "text": b"not gzipped",
    "cut off": IMAGE[:-9],
    "too few": gzip.compress(gzip.decompress(IMAGE)[:-1]),
    "numbers of another kind": idx(np.zeros([2, 2, 2]), code=13),
    "empty": gzip.compress(b""),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_of_another_format_are_told_by_their_file(load, tmp_path, name):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(BAD_IMAGES[name])
    with pytest.raises(InvalidInput, match="train-images"):
        load("mnist").read_idx(file)
    file.unlink()
    with pytest.raises(InvalidInput, match="missing"):
        load("mnist").read_idx(file)


@pytest.mark.parametrize(("shift", "scale", "agrees"), [(0, 1, True), (0.3, 1, False), (0, 1.2, False)])
def test_contestants_of_another_mean_or_spread_are_not_timed(load, shift, scale, agrees):
    rng = np.random.default_rng(0)
    truth, got = rng.normal(size=(2, 2000, 4))
    assert load("peers.agreement").compare(shift + scale * got, truth).reached == agrees


TOY_WORKER = """
import os, sys, time
import numpy as np
import pandas as pd
from benchmarks.peers.serve import serve

class Net:
    def __init__(self, task, arrays):
        self.task, self.x = task, arrays["x"]
    def kl(self):
        return float(self.x.sum())
    def outputs(self, draws):
        print("what libraries say is no answer")
        return np.full((draws, 1), self.task["value"])
    def run(self):
        if self.task["value"] == "dies":
            sys.exit("last words")
        time.sleep(self.task["value"])

serve(Net, ["numpy"])
"""


@pytest.fixture
def worker(load, tmp_path):
    """A worker as the peers' are, and its task's arrays."""
    process = load("peers.process")
    (tmp_path / "toy_worker.py").write_text(TOY_WORKER)
    np.savez(tmp_path / "arrays.npz", x=np.arange(3.0))
    running = process.Worker([sys.executable, str(tmp_path / "toy_worker.py")], seconds=20.0)
    yield running, {"arrays": str(tmp_path / "arrays.npz")}
    running.close()


def test_workers_answer_one_request_after_another(worker, tmp_path):
    running, task = worker
    assert running.ask("hello") == {"versions": {"numpy": np.__version__}}
    assert running.ask("prepare", name="net", task={**task, "value": 0.05}) == {"kl": 3.0}
    running.ask("outputs", name="net", draws=4, to=str(tmp_path / "outputs.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), np.full((4, 1), 0.05))
    assert 0.05 <= running.ask("run", name="net")["seconds"] < 5
    assert running.ask("forget") == {}


def test_workers_that_fail_die_or_are_late_are_told(load, worker):
    running, task = worker
    failed = load("peers.process").WorkerFailed
    with pytest.raises(failed, match="KeyError: 'net'"):
        running.ask("run", name="net")
    with pytest.raises(failed, match="unknown request 'dance'"):
        running.ask("dance")
    running.ask("prepare", name="slow", task={**task, "value": 60})
    running.seconds = 0.5
    with pytest.raises(failed, match=r"no answer within 0\.5 s"):
        running.ask("run", name="slow")


def test_a_worker_that_ends_tells_its_last_words(load, worker):
    running, task = worker
    running.ask("prepare", name="net", task={**task, "value": "dies"})
    with pytest.raises(load("peers.process").WorkerFailed, match="last words"):
        running.ask("run", name="net")


SMALL_LENET = ((5, 5, 1, 2), (5, 5, 2, 3), (75, 4))


@pytest.fixture(scope="module")
def weights(load):
    """Weights and rows of a small LeNet."""
    tasks = load("peers.tasks")
    return tasks.Work("toy", "", "predict", "classes", SMALL_LENET, rows=2, batch=2, samples=3).arrays()


def plain_lenet(weights):
    """The same net of Keras' own layers."""
    layers = [keras.layers.Conv2D(2, 5, padding="same", activation="relu"), keras.layers.MaxPooling2D(2),
              keras.layers.Conv2D(3, 5, activation="relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten(),
              keras.layers.Dense(4)]  # fmt: skip
    net = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    net.set_weights([weights[f"{name}_loc_{i}"] for i in range(3) for name in ("kernel", "bias")])
    return net


def test_explicit_passes_of_images_are_those_of_keras(load, weights):
    found = load("peers.agreement").pass_at_the_means(weights)
    np.testing.assert_allclose(found, plain_lenet(weights)(weights["x"])[0], rtol=1e-4, atol=1e-5)


def test_weights_for_images_with_channels_first_are_the_same_net(load, weights):
    serve = load("peers.serve")
    first, last = (
        net[-1].part["kernel_loc"] for net in (serve.channels_first(serve.steps(weights)), serve.steps(weights))
    )
    features = np.random.default_rng(0).normal(size=(5, 5, 3))  # height, width, channels
    np.testing.assert_allclose(features.transpose(2, 0, 1).ravel() @ first, features.ravel() @ last, rtol=1e-6)
    assert np.abs(first - last).max() > 0.1


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.3, False)])
def test_a_net_of_images_with_another_scale_in_one_layer_is_not_timed(load, weights, factor, agrees):
    agreement = load("peers.agreement")
    twin = {**weights, "kernel_scale_1": factor * weights["kernel_scale_1"]}
    found = agreement.compare(agreement.explicit_draws(twin, seed=2), agreement.explicit_draws(weights, seed=1))
    assert found.reached == agrees


def test_contestants_names_are_their_own_and_their_works_exist(load):
    tasks = load("peers.tasks")
    assert len({one.name for one in tasks.CONTESTANTS}) == len(tasks.CONTESTANTS)
    assert {name for one in tasks.CONTESTANTS for name in one.works} == {work.name for work in tasks.WORKS}
    assert set(tasks.ON_GPU) < set(tasks.WORKERS)


def test_the_limit_counts_the_products_of_a_pass_and_of_a_step(load):
    limit, tasks = load("limit"), load("peers.tasks")
    mlp = limit.dense(784, 400, 400, 10)
    assert limit.flops(mlp, 7) == 2 * 7 * (784 * 400 + 400 * 400 + 400 * 10)
    assert limit.flops(mlp, 7, training=True) == 2 * 7 * (2 * 784 * 400 + 3 * (400 * 400 + 400 * 10))
    assert limit.flops(limit.LENET[:2], 1) == 2 * 28 * 28 * 150 + 2 * 10 * 10 * 2400
    assert {work.name: work.layers for work in tasks.WORKS}["lenet"] == limit.LENET
    for training in (False, True):
        limit.products([*limit.LENET[:2], *limit.dense(4, 3)], 2, training)()


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(load):
    """Three rounds of milliseconds that grow, so that ratios of medians and medians of ratios differ."""
    report, tasks = load("peers.report"), load("peers.tasks")

    def row(name, worker, *milliseconds, reason=""):
        return report.Row(name, worker, [1e-3 * each for each in milliseconds], reason)

    rows = [
        row(tasks.REFERENCE, "plain_keras", 50, 40, 80), row(tasks.LIMIT, "plain_keras", 30, 30, 30),
        row(tasks.MARGINAL, "ours", 40, 44, 60), row("fast peer", "tfp_layers", 200, 528, 300),
        row("slow peer", "blitz", 900, 900, 900), row("absent peer", "bayesian_torch", reason="not installed"),
        row(tasks.EAGER[0], "tfp_layers", 4000, 4400, 6600), row(tasks.EAGER[1], "tfp_layers", reason="fails: x | y"),
    ]  # fmt: skip
    return report.Table("predict", "a title", "prediction", 0.0, rows)


def test_targets_are_medians_of_ratios_to_the_fastest_that_was_timed(load, table):
    outcome = load("targets.outcome")
    flat, peer, eager = load("targets.ratios").outcomes([table], [1])
    assert flat.measured == pytest.approx(0.8)  # of 0.8, 1.1, 0.75
    assert flat.verdict == "met"
    assert peer.measured == pytest.approx(5)  # of 5, 12, 5: the loops of the tutorials are no compiled peers
    assert peer.verdict == "missed by 1.60 x"
    assert peer.details[0] == "compared with fast peer"
    assert "absent peer: not installed" in peer.details
    assert peer.details[-1] == "bare matrix products: 30 ms (30 - 30): 0.68 of tfbnn, marginal"
    assert eager.measured == pytest.approx(100)
    assert (
        "| 1 | predict, MLP 784-400-400-10, B=128, S=100: fastest compiled peer | >= 8 x | 5.00 x | missed by 1.60 x |"
        in (outcome.markdown([flat, peer, eager]))
    )


def test_targets_without_peers_say_why(load, table):
    for row in table.rows:
        if row.worker not in ("ours", "plain_keras"):
            row.seconds, row.reason = [], "could not be installed: ERROR: x | y"
    flat, peer, eager = load("targets.ratios").outcomes([table], [1])
    assert flat.measured == pytest.approx(0.8)
    assert (peer.measured, eager.measured) == (None, None)
    assert not peer.is_met
    assert "absent peer: could not be installed" in peer.verdict
    [line] = load("targets.outcome").markdown([peer]).splitlines()[2:]
    assert line.count("|") == 6


def test_every_target_is_there_once_and_a_twin_that_misses_is_told(load):
    command, ratios, outcome = (load(f"targets.{name}") for name in ("command", "ratios", "outcome"))
    numbers = [target.number for target, *_ in ratios.TARGETS] + list(command.OTHERS)
    assert sorted(set(numbers)) == list(command.NUMBERS)
    assert not set(command.OTHERS) & set(ratios.WORKS)
    for target in [target for target, *_ in ratios.TARGETS] + [
        aim for aims, _ in command.OTHERS.values() for aim in aims
    ]:
        better, worse = (1.01, 0.99) if target.is_least else (0.99, 1.01)
        assert outcome.Outcome(target, better * target.bound).is_met
        assert outcome.Outcome(target, worse * target.bound).verdict.startswith("missed by 1.01")


def test_what_cannot_be_measured_says_so_and_the_rest_goes_on(load, monkeypatch):
    command, apart, outcome = (load(f"targets.{name}") for name in ("command", "apart", "outcome"))

    def fails(given):
        raise apart.Failed("no memory")

    aim = outcome.Target(8, "work", 1.5)
    monkeypatch.setattr(command, "OTHERS", {8: ([aim], fails), 9: ([aim], lambda given: [outcome.Outcome(aim, 1.0)])})
    found = command.others(command.settings(["--only", "8", "9", "--quick"]))
    assert [each.verdict for each in found] == ["not measured: no memory", "met"]
    assert command.others(command.settings(["--only", "1"])) == []


PEAK = """
import json
import numpy as np
from benchmarks.targets.memory import peak_of
print(json.dumps(peak_of(lambda: np.ones(40 * 2**20, np.uint8)[: 8 * 2**20].copy())))
"""


def test_peaks_of_memory_are_seen_and_the_result_is_told(load):
    told, mib = load("targets.apart").run_code(PEAK), 2**20  # in a process that has freed no memory to use again
    assert told["result"] == 8 * mib
    assert 40 * mib <= told["peak"] - told["before"] < 60 * mib


def test_processes_of_their_own_answer_by_their_last_line_and_tell_their_errors(load):
    apart = load("targets.apart")
    assert apart.run_code("print('chatter'); print('[1, 2]')") == [1, 2]
    with pytest.raises(apart.Failed, match="ValueError: no"):
        apart.run_code("raise ValueError('no')")


def test_imports_are_timed_one_after_the_other_in_a_new_process(load):
    import_of_nothing, sleep = load("targets.imports").seconds_of(["import sys", "time.sleep(0.2)"])
    assert import_of_nothing < 0.1
    assert 0.2 <= sleep < 2


def test_without_a_gpu_one_line_says_so(load):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    for name in ("prediction", "training", "layers", "targets", "peers", "cost"):
        with pytest.raises(SystemExit, match="TensorFlow sees no GPU") as told:
            load(name).main(["--device", "gpu"])
        assert "\n" not in str(told.value)
    assert load("timing").device("cpu") == "/CPU:0"


@pytest.mark.slow
def test_the_command_measures_in_processes_of_their_own_and_writes_what_it_found(load, tmp_path, capsys):
    load("targets").main(["--quick", "--only", "4", "8", "--out", str(tmp_path)])
    told = json.loads((tmp_path / "targets.json").read_text(encoding="utf-8"))["targets"]
    assert [each["target"]["number"] for each in told] == [4, 4, 8]
    p50, p99, memory = (each["measured"] for each in told)
    assert 0 < p50 <= p99
    assert memory > 0
    assert "| 8 | peak memory of predict" in capsys.readouterr().out


def test_costs_are_drawn_and_told_for_every_size(load, tmp_path):
    cost = load("cost")
    drawn = cost.panels(quick=True)
    measured = {
        panel.letter: {name: [[1e-3 * (i + 1), 2e-3] for i in range(2)] for name in cost.WAYS} for panel in drawn
    }
    cost.plot(tmp_path / "cost.png", drawn, measured, "a caption")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    lines = cost.table(drawn[0], measured["S"]).splitlines()
    assert lines[2:] == ["| 1 | 1.5 | 1.5 | 1.5 | 1.5 |", "| 3 | 2 | 2 | 2 | 2 |"]
    assert {panel.letter: [panel.sizes[-1], len(panel.cases)] for panel in cost.panels()} == {
        "S": [1000, 7], "B": [1024, 6], "units": [800, 6], "N": [8192, 4]
    }  # fmt: skip


@pytest.mark.slow
def test_the_ways_of_one_size_give_as_many_numbers(load):
    ways = load("cost").ways(load("cost").Case(samples=3, rows=2, units=4))
    marginal, coherent, flat, _ = (way() for way in ways.values())
    assert marginal.parameters.shape == coherent.parameters.shape == (3, 2, 10)
    assert sum(part.size for part in flat) == marginal.parameters.size


# --- active -----------------------------------------------------------------------------------------------------------


def test_labels_needed_are_the_fewest_that_reached_the_accuracy(load):
    active = load("active")
    history = {"labels": [20, 30, 40], "accuracy": [0.9, 0.96, 0.94]}
    assert active.labels_for(history, 0.95) == 30
    assert active.labels_for(history, 0.97) == np.inf
    runs = [{"by": "bald", "seed": seed, "seconds": 120.0, "history": history} for seed in (0, 1)]
    assert "| bald | 30 | not reached | 94.00% (40) | 2.0 | 2 |" in active.table(runs)


def test_the_start_has_as_many_rows_of_each_class(load):
    y = np.random.default_rng(0).integers(0, 4, 100)
    start = load("active").balanced(y, 2, seed=0)
    assert sorted(y[start].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(start.tolist())) == 8


# --- referral and conformal -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_referral_is_compared_with_logistic_regression_on_each_split(load, tmp_path):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
    rows["outcome"] = (rows["a"] + rng.normal(size=120) > 0).astype(int)
    rows.to_csv(tmp_path / "pima.csv", index=False)
    referral = load("referral")
    outcomes = referral.run("pima", tmp_path / "pima.csv", 2, ["training.epochs=2"])
    assert [outcome.rows for outcome in outcomes] == [(76, 20, 24)] * 2
    for scores in outcomes[0].scores.values():
        assert 0 <= scores["kept"] <= 1
        assert scores["cost"] <= max(scores["cost_of_treat"], scores["cost_of_send home"], 0.4)
    assert "| logistic regression |" in referral.report("pima", outcomes)
    data = referral.prepare_data(referral.recipe("pima", tmp_path / "pima.csv", []))
    inner = pd.read_csv(referral.training_rows(referral.recipe("pima", tmp_path / "pima.csv", []), tmp_path / "in.csv"))
    assert len(inner) == 96
    assert not set(inner["a"].round(9)) & set(data.held_out.features["a"].round(9))


@pytest.mark.slow
def test_logistic_regression_refers_as_the_net_does(load):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    y = (3 * x[:, 0] + rng.logistic(size=300) > 0).astype(int)
    told = load("referral").logistic(x, y, x)
    scores = {name: load("referral").scores(prediction, y, load("referral").PIMA) for name, prediction in told.items()}
    for each in scores.values():
        assert each["kept"] < each["error"] < 0.25
        assert each["cost"] < min(each["cost_without_referral"], each["cost_of_referring_all"])


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (-1.0, 0.0)])
def test_paired_differences_are_those_of_scipy_and_corrected_ones_are_more_careful(load, shift, p):
    differences = np.array([0.1, -0.2, 0.05, 0.05, 0.0]) + shift
    mean, test, corrected, counts = load("referral").compared(differences, 0.25).split(" | ")
    expected = stats.ttest_1samp(differences, 0.0)
    assert float(mean.split()[0]) == pytest.approx(differences.mean(), abs=1e-4)
    assert float(test.removeprefix("p = ")) == pytest.approx(expected.pvalue, rel=0.05)
    assert float(corrected.removeprefix("p = ")) >= float(test.removeprefix("p = "))
    assert expected.pvalue == pytest.approx(p, abs=1e-2)
    assert counts == ("1, 1, 3" if shift == 0 else "5, 0, 0")


def test_a_split_has_rows_of_each_kind_and_none_twice(load):
    train, others = load("conformal").order(50, seed=3)
    assert (len(train), len(others)) == (30, 20)
    assert sorted([*train, *others]) == list(range(50))


def test_residuals_of_plain_nets_have_one_width_and_cover_what_they_promise(load):
    conformal, n = load("conformal"), 4000
    y = np.random.default_rng(0).normal(size=n)
    members = [tfbnn.Prediction(np.tile([loc, 0.3], (1, n, 1)).astype(np.float32), tfbnn.likelihoods.Normal())
               for loc in (-1.0, 1.0)]  # fmt: skip
    split = load("uci").Split(np.zeros([9, 1]), np.zeros(9), np.zeros([n, 1]), y)
    contestant = conformal.Contestant("plain", 2, conformal.StandardisedResidual, averaged=True)
    covered, width = conformal.intervals(contestant, members, split)
    assert width == pytest.approx(2 * np.sort(np.abs(y[:2000]))[1800], rel=1e-3)  # ceil(2001 x 0.9) = 1801
    # standard error sqrt(0.1 x 0.9 (1 / 2000 + 1 / 2000)) = 0.0095; fails by chance 1 in 10,000
    assert covered == pytest.approx(0.9, abs=0.037)


@pytest.mark.slow
def test_conformal_intervals_are_compared_on_random_splits(load, folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    np.savetxt(folder / "data.txt", np.column_stack([x, x[:, 0] + 0.1 * rng.normal(size=60)]))
    load("conformal").main(["--data", str(folder), "--sets", folder.name, "--splits", "2", "--steps", "20",
                            "--out", str(tmp_path / "out")])  # fmt: skip
    told = (tmp_path / "out" / "conformal.md").read_text(encoding="utf-8")
    assert "2 random splits, 36 rows to train on, 12 to calibrate on, 12 to test on" in told
    assert "| plain net, residual |" in told
    assert "Written" in capsys.readouterr().out


def test_sets_too_small_to_calibrate_on_are_told(load, folder, capsys):
    with pytest.raises(SystemExit, match="45 rows or more"):
        load("conformal").main(["--data", str(folder), "--sets", folder.name])


# --- the tables of the docs -------------------------------------------------------------------------------------------


def test_the_tables_of_layers_are_those_of_the_docstrings(load):
    tables = load("tables")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.with_tables(page) == page, "python -m benchmarks tables"
    rows = [row for family in tables.FAMILIES.values() for row in tables.table(family).splitlines()[2:]]
    assert len(rows) > 60
    assert not [row for row in rows if not all(cell.strip() for cell in row.strip("|").split(" | "))]
    assert {row.count(" | ") for row in rows} == {4}
