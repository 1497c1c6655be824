"""The schema of recipes: what it refuses, in the words of the recipe, and what it fills in."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tfbnn.core.checks import InvalidInput
from tfbnn.recipes import Recipe

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
CONFIG_OF_KERAS = {"class_name": "Popen", "module": "subprocess", "config": {"args": ["true"]}, "registered_name": None}


def content(**keys):
    """A recipe with `keys` set, dots in names written as double underscores."""
    recipe = {"name": "demo", "data": {"source": "rows.csv", "target": "y"}, "likelihood": "Normal"}
    for path, value in keys.items():
        *sections, key = path.split("__")
        place = recipe
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return recipe


def refuses(*parts: str):
    return pytest.raises(InvalidInput, match=".*".join(map(re.escape, parts)))


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("trainin", "training"),
        ("data__sourc", "source"),
        ("training__epoch", "epochs"),
        ("prediction__nsamples", "num_samples"),
        ("export__pat", "path"),
        ("model__hiden", "hidden"),
        ("model__Layer", "layer"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(key, nearest):
    with refuses(f"Unknown key `{key.replace('__', '.')}`", "Known here", f"Did you mean '{nearest}'?"):
        Recipe.from_dict(content(**{key: 1}))


def test_an_unknown_key_that_is_like_none_gets_the_known_ones():
    with refuses("Unknown key `zzz`", "name, description, seed, data") as refused:
        Recipe.from_dict(content(zzz=1))
    assert "Did you mean" not in str(refused.value)


@pytest.mark.parametrize(
    ("missing", "path"), [("name", "name"), ("likelihood", "likelihood"), ("data", "data"), ("target", "data.target")]
)
def test_a_key_without_default_is_asked_for(missing, path):
    recipe = content()
    (recipe if missing in recipe else recipe["data"]).pop(missing)
    with refuses(f"`{path}`", "no default", f"Add {path}: ... to the recipe"):
        Recipe.from_dict(recipe)


@pytest.mark.parametrize(
    ("recipe", "path"),
    [
        ({**content(), 1: 2}, "1"),
        (content(model={1: 2}), "model.1"),
        (content(data__columns={1: "numeric"}), "data.columns.1"),
        (content(model__prior={"class": "Normal", 1: 2}), "model.prior"),
    ],
)
def test_keys_are_text(recipe, path):
    with refuses(f"`{path}`"):
        Recipe.from_dict(recipe)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training__epochs", "many", "integer"),
        ("training__epochs", 0, "greater than 0"),
        ("training__epochs", 1.5, "integer"),
        ("training__epochs", None, "integer"),
        ("training__epochs", True, "no truth value"),
        ("training__batch_size", -32, "greater than 0"),
        ("training__train_samples", 0, "greater than 0"),
        ("training__learning_rate", 0, "above 0"),
        ("training__learning_rate", float("inf"), "finite"),
        ("training__learning_rate", "fast", "number"),
        ("training__clipnorm", 0, "greater than 0"),
        ("training__validation_fraction", 1, "less than 1"),
        ("training__patience", 0, "greater than 0"),
        ("data__test_fraction", 0, "greater than 0"),
        ("data__test_fraction", 1.0, "less than 1"),
        ("data__test_fraction", float("nan"), "finite"),
        ("data__target", 5, "string"),
        ("data__source", ["a.csv"], "string"),
        ("data__exclude", "age", "list"),
        ("data__columns", ["age"], "mapping"),
        ("prediction__num_samples", 0, "greater than 0"),
        ("prediction__level", 1.5, "less than 1"),
        ("export__path", 5, "string"),
        ("model__hidden", 20, "list"),
        ("model__layer", 5, "string"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**31, "less than"),
        ("seed", True, "no truth value"),
        ("name", 5, "string"),
        ("description", None, "string"),
        ("data", "rows.csv", "mapping"),
        ("training", None, "mapping"),
        ("model", ["mlp"], "mapping"),
    ],
)
def test_a_wrong_value_is_told_with_its_path_and_what_came(key, value, expected):
    with refuses(f"`{key.replace('__', '.')}`. Expected", expected, f"Received: {value!r}"):
        Recipe.from_dict(content(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("model__hidden", [20, 0], "model.hidden.1"),
        ("model__hidden", ["wide"], "model.hidden.0"),
        ("data__columns", {"age": "number"}, "data.columns.age"),
        ("data__exclude", ["age", 5], "data.exclude.1"),
    ],
)
def test_a_wrong_entry_is_told_with_its_place(key, value, path):
    with refuses(f"`{path}`"):
        Recipe.from_dict(content(**{key: value}))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "a\\b", "2024"])
def test_a_name_is_one_for_a_folder_and_no_version(name):
    with refuses("`name`", "folder below saved_models/", f"Received: {name!r}"):
        Recipe.from_dict(content(name=name))


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(
        "data: {source: a.csv, target: y}\nlikelihood: Normal\ntraining: {learning_rate: 1e-3, beta: 5e-1}\n"
    )
    assert yaml.safe_load(path.read_text())["training"] == {"learning_rate": "1e-3", "beta": "5e-1"}
    training = Recipe.from_yaml(path).training
    assert (training.learning_rate, training.beta) == (1e-3, 0.5)


def test_a_learning_rate_may_be_a_schedule_of_keras():
    """Numbers that YAML takes for text are numbers here too."""
    schedule = {"class": "ExponentialDecay", "initial_learning_rate": "1e-2", "decay_steps": 10, "decay_rate": 0.5}
    training = Recipe.from_dict(content(training__learning_rate=schedule)).training
    assert [float(training.rate()(step)) for step in (0, 10)] == pytest.approx([0.01, 0.005])
    assert training.learning_rate == schedule


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"class": "CosineDcay"}, ["`training.learning_rate.class`", "CosineDecay"]),
        ({"class": "deserialize"}, ["`training.learning_rate.class`", "CosineDecay"]),
        ({"class": None}, ["`training.learning_rate.class`", "CosineDecay"]),
        ({"decay": 3}, ["`training.learning_rate`", "'decay'"]),
        ({"decay_steps": 0}, ["`training.learning_rate`", "must be > 0"]),
        ({"initial_learning_rate": "fast"}, ["`training.learning_rate`", "the arguments of CosineDecay"]),
        ({"initial_learning_rate": None}, ["`training.learning_rate`", "the arguments of CosineDecay"]),
        ({"initial_learning_rate": -0.1}, ["`training.learning_rate`", "begins at 0 or more"]),
    ],
)
def test_schedules_that_cannot_work_are_refused(changes, parts):
    schedule = {"class": "CosineDecay", "initial_learning_rate": 0.1, "decay_steps": 10, **changes}
    with refuses(*parts):
        Recipe.from_dict(content(training__learning_rate=schedule))


def test_patience_needs_rows_to_watch():
    with refuses("`training.patience`", "no validation rows", "Set training.validation_fraction"):
        Recipe.from_dict(content(training__patience=3))
    assert Recipe.from_dict(content(training={"patience": 3, "validation_fraction": 0.1})).training.patience == 3


# --- parts that have a class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("likelihood", "Norml", ["`likelihood`", "Did you mean 'Normal'"]),
        ("likelihood", {"class": "Normal", "scal": 1}, ["`likelihood.scal`", "Did you mean 'scale'"]),
        ("likelihood", {"class": "Normal", "scale": -1}, ["`likelihood.scale`", "above 0", "-1"]),
        ("likelihood", {"class": "Categorical", "num_classes": 1}, ["`likelihood.num_classes`", "2 or more"]),
        ("model__prior", "Norml", ["`model.prior`", "Did you mean 'Normal'"]),
        ("model__prior", {"class": "Normal", "scale": 0}, ["`model.prior.scale`", "above 0", "0"]),
        ("model__prior", {"class": "Normal", "scal": 1}, ["`model.prior.scal`", "Did you mean 'scale'"]),
        ("model__posterior", "MeanFeld", ["`model.posterior`", "Did you mean 'MeanField'"]),
        ("model__posterior", {"class": "MeanField", "rho": 1}, ["`model.posterior.rho`", "initial_rho"]),
        ("model__posterior", None, ["`model.posterior`", "Received: None"]),
        ("likelihood", 5.5, ["`likelihood`", "5.5"]),
        ("model__prior", 5.5, ["`model.prior`", "5.5"]),
        ("training__beta", -0.1, ["`training.beta`", "0 or more", "-0.1"]),
        ("training__beta", None, ["`training.beta`", "Received: None"]),
        ("training__beta", "Linear", ["`training.beta`", "Linear needs", "steps"]),
        ("training__beta", {"class": "Linear", "steps": 0}, ["`training.beta.steps`", "1 or more"]),
        ("training__beta", {"class": "Cyclical", "steps": 9, "ramp": 2}, ["`training.beta.ramp`", "at most 1"]),
        ("training__beta", {"class": "Linr", "steps": 5}, ["`training.beta`", "Did you mean 'Linear'"]),
    ],
)
def test_mistakes_in_a_part_are_told_with_their_path(key, value, parts):
    with refuses(*parts):
        Recipe.from_dict(content(**{key: value}))


@pytest.mark.parametrize("key", ["likelihood", "model__prior", "model__posterior", "training__beta"])
@pytest.mark.parametrize(
    "value",
    [["Normal"], {"scale": 1}, {"class": ["Normal"]}, {"class": None}, CONFIG_OF_KERAS,
     {"class": "Normal", **CONFIG_OF_KERAS}, True],
    ids=["list", "no class", "class a list", "class none", "config of Keras", "both", "truth value"],
)  # fmt: skip
def test_a_part_is_a_name_or_a_mapping_with_class(key, value):
    with refuses(f"`{key.replace('__', '.')}`"):
        Recipe.from_dict(content(**{key: value}))


def test_a_recipe_imports_nothing_that_it_names(monkeypatch):
    """Keras imports the `module` of its configs: a recipe that holds one must not reach it."""
    imported = []
    monkeypatch.setattr("importlib.import_module", lambda name, *_: imported.append(name))
    for key in ("likelihood", "model__prior", "model__posterior", "training__beta"):
        with pytest.raises(InvalidInput):
            Recipe.from_dict(content(**{key: CONFIG_OF_KERAS}))
    assert "subprocess" not in imported


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("layer", "DenseFlip", ["`model.layer`", "Did you mean 'DenseFlipout'"]),
        ("activation", "reluu", ["`model.activation`", "Did you mean 'relu'"]),
        ("activation", "serialize", ["`model.activation`"]),
        ("bayesian", "first", ["`model.bayesian`", "'all' or 'last'"]),
        ("bayesian", [], ["`model.bayesian`", "indices of layers from 0 to 1"]),
        ("bayesian", [2], ["`model.bayesian`", "indices of layers from 0 to 1", "[2]"]),
        ("bayesian", [-1], ["`model.bayesian`"]),
    ],
)
def test_mistakes_in_the_network_are_told_with_their_path(key, value, parts):
    with refuses(*parts):
        Recipe.from_dict(content(**{f"model__{key}": value}))


# --- files and --set --------------------------------------------------------------------------------------------------


def yaml_file(folder: Path, text: str) -> Path:
    path = folder / "demo.yaml"
    path.write_text(text)
    return path


DEMO = "data: {source: a.csv, target: y}\nlikelihood: Normal\n"


@pytest.mark.parametrize("where", ["nowhere.yaml", "."])
def test_what_is_no_file_is_refused(tmp_path, where):
    with refuses("`recipe`", "a YAML file", str(tmp_path / where), "tfbnn recipes"):
        Recipe.from_yaml(tmp_path / where)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\n  b: 2", "\ta: 1", "a: !!python/object:os.system x"])
def test_broken_yaml_is_told_with_the_place(tmp_path, text):
    path = yaml_file(tmp_path, text)
    with refuses("`recipe`", "YAML that can be read", str(path), "line "):
        Recipe.from_yaml(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "5"])
def test_yaml_without_sections_is_refused(tmp_path, text):
    with refuses("`recipe`", "a mapping of sections"):
        Recipe.from_yaml(yaml_file(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with refuses("`recipe`", "YAML that can be read"):
        Recipe.from_yaml(path)


def test_the_name_is_that_of_the_file_unless_it_is_given(tmp_path):
    path = yaml_file(tmp_path, DEMO)
    assert Recipe.from_yaml(path).name == "demo"
    assert Recipe.from_yaml(path, ["name=other"]).name == "other"


def test_settings_win_over_the_file_and_make_sections(tmp_path):
    path = yaml_file(tmp_path, DEMO + "training: {epochs: 7, batch_size: 8}\n")
    settings = ["training.epochs=9", "prediction.level=0.5", "model.hidden=[3, 4]", " seed = 5", "data.target=a=b"]
    recipe = Recipe.from_yaml(path, settings)
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.prediction.level) == (9, 8, 0.5)
    assert (recipe.model["hidden"], recipe.seed, recipe.data.target) == ([3, 4], 5, "a=b")


def test_a_setting_may_be_a_mapping(tmp_path):
    settings = ["training.beta={class: Linear, steps: 10}", "training.beta.end=0.5"]
    recipe = Recipe.from_yaml(yaml_file(tmp_path, DEMO), settings)
    assert recipe.training.beta == {"class": "Linear", "steps": 10, "end": 0.5}


@pytest.mark.parametrize("setting", ["training.epochs", "=3", "..=3", "training..epochs=3", ".epochs=3", ""])
def test_a_setting_is_a_path_and_a_value(tmp_path, setting):
    with refuses("`--set`", "SECTION.KEY=VALUE", f"Received: {setting!r}"):
        Recipe.from_yaml(yaml_file(tmp_path, DEMO), [setting])


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("training.epochs.x=3", ["`--set`", "`epochs` holds a value"]),
        ("likelihood.x=3", ["`--set`", "`likelihood` holds a value"]),
        ("seed=[", ["`--set`", "a value in YAML", "'seed=['"]),
        ("training.epochs=", ["`training.epochs`", "Received: None"]),
        ("training=3", ["`training`", "mapping"]),
        ("trainin.epochs=3", ["Unknown key `trainin`", "Did you mean 'training'"]),
    ],
)
def test_mistakes_in_settings(tmp_path, setting, parts):
    with refuses(*parts):
        Recipe.from_yaml(yaml_file(tmp_path, DEMO + "training: {epochs: 7}\n"), [setting])


# --- builders of one's own --------------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, request):
    """Writes a module that only this test can import, and returns its name."""
    name = "builder_" + re.sub(r"\W", "_", request.node.name)
    yield lambda text: (tmp_path / f"{name}.py").write_text("import keras\n" + text) and name
    sys.modules.pop(name, None)


def test_python_code_is_named_only_where_it_is_allowed(tmp_path, module):
    marker = tmp_path / "ran"
    name = module(f"open({str(marker)!r}, 'w').close()\ndef build(*_): ...\n")
    recipe = content(model__builder=f"{name}:build")
    with refuses("`model.builder`", f"{name}:build", "add --allow-imports"):
        Recipe.from_dict(recipe, folder=tmp_path)
    assert not marker.exists()
    path_before = list(sys.path)
    assert Recipe.from_dict(recipe, allow_imports=True, folder=tmp_path).builder.options is None
    assert marker.exists()
    assert sys.path == path_before


@pytest.mark.parametrize(
    ("builder", "parts"),
    [
        ("mpl", ["one of", "mlp", "Did you mean 'mlp'"]),
        (5, ["MODULE:FUNCTION", "Received: 5"]),
        (["mlp"], ["MODULE:FUNCTION", "['mlp']"]),
        (":build", ["MODULE:FUNCTION"]),
        (".sibling:build", ["MODULE:FUNCTION"]),
        ("no_such_module:build", ["module that can be imported", "No module named 'no_such_module'"]),
        ("json:nothing", ["a function of module json", "'nothing'"]),
        ("json:", ["a function of module json"]),
        ("json:__doc__", ["a function of module json", "'__doc__'"]),
    ],
)
def test_a_builder_that_is_not_found(tmp_path, builder, parts):
    with refuses("`model.builder`", *parts):
        Recipe.from_dict(content(model__builder=builder), allow_imports=True, folder=tmp_path)


@pytest.mark.parametrize(("text", "reason"), [("def build(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError")])
def test_a_module_that_fails_is_told(tmp_path, module, text, reason):
    with refuses("`model.builder`", "module that can be imported", reason):
        Recipe.from_dict(content(model__builder=f"{module(text)}:build"), allow_imports=True, folder=tmp_path)


WANTED = "a Keras model [B, 3] -> [B, 1]"


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("return 'network'", [WANTED, "Received: 'network'"]),
        ("pass", [WANTED, "Received: None"]),
        ("return keras.layers.Dense(1)", [WANTED, "Dense"]),
        ("return 1 / 0", [WANTED, "It raised ZeroDivisionError: division by zero"]),
        ("return options['width']", [WANTED, "It raised KeyError: 'width'"]),
        ("return keras.Sequential([keras.Input((num_features,)), keras.layers.Dense(3)])", [WANTED, "(None, 3)"]),
        ("return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])", [WANTED, "It raised ValueError"]),
    ],
)
def test_a_builder_that_gives_something_else_is_told(tmp_path, module, body, parts):
    name = module(f"def build(options, num_features, num_outputs, seed):\n    {body}\n")
    recipe = Recipe.from_dict(content(model__builder=f"{name}:build"), allow_imports=True, folder=tmp_path)
    with refuses("`model.builder`", *parts):
        recipe.network(3, 1)


def test_a_builder_that_takes_something_else_is_told(tmp_path, module):
    name = module("def build(options):\n    ...\n")
    recipe = Recipe.from_dict(content(model__builder=f"{name}:build"), allow_imports=True, folder=tmp_path)
    with refuses("`model.builder`", "(options, num_features, num_outputs, seed)", "TypeError"):
        recipe.network(3, 1)


def test_a_builder_gets_the_other_keys_and_the_seed(tmp_path, module):
    name = module(
        "def build(options, num_features, num_outputs, seed):\n"
        "    assert options == {'width': 7} and seed == 11\n"
        "    return keras.Sequential([keras.Input((num_features,)), keras.layers.Dense(num_outputs)])\n"
    )
    recipe = content(model={"builder": f"{name}:build", "width": 7}, seed=11)
    made = Recipe.from_dict(recipe, allow_imports=True, folder=tmp_path).network(3, 2)
    assert made.output_shape == (None, 2)


# --- resolved ---------------------------------------------------------------------------------------------------------


def test_a_resolved_recipe_holds_every_default():
    resolved = Recipe.from_dict(content()).resolved()
    assert resolved["training"]["epochs"] == 200
    assert resolved["training"]["beta"] == 1.0
    assert resolved["model"]["builder"] == "mlp"
    assert resolved["model"]["layer"] == "DenseFlipout"
    assert resolved["prediction"] == {"num_samples": 100, "level": 0.9}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_resolved_recipe_is_the_recipe_again(path):
    recipe = Recipe.from_yaml(path, ["training.beta={class: Linear, steps: 9}"], allow_imports=True)
    through_json = json.loads(json.dumps(recipe.resolved()))
    again = Recipe.from_dict(through_json, allow_imports=True, folder=path.parent)
    assert again == recipe
    assert again.resolved() == recipe.resolved()


# --- the recipes that come with tfbnn ---------------------------------------------------------------------------------


def test_the_recipes_are_found():
    assert {"diabetes", "breast_cancer", "wine"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_are_short_told_in_a_line_and_load(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    given = yaml.safe_load(text)
    assert given["description"]
    assert "\n" not in given["description"]
    assert Recipe.from_yaml(path, allow_imports=True).name == path.stem
    if given["model"].get("builder", "mlp") == "mlp":
        assert given["model"]["layer"] in ("DenseFlipout", "DenseVariational")
        assert given["model"]["prior"]["class"]
        assert given["model"]["posterior"]["class"]
