"""sublayers stands on a private walk of Keras (`Layer._flatten_layers`): these tests tell when that changes."""

import keras

from tfbnn.core.traversal import freeze, sublayers, unfrozen


@keras.saving.register_keras_serializable("test_traversal")
class Holder(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.direct = keras.layers.Dense(1, name="direct")
        self.listed = [keras.layers.Dense(1, name="listed")]
        self.mapped = {"a": keras.layers.Dense(1, name="mapped")}

    def build(self, input_shape):
        for layer in (self.mapped["a"], self.listed[0], self.direct):
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs):
        return self.direct(self.listed[0](self.mapped["a"](inputs)))


def nested():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="inner_dense")], name="inner")
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2, name="shared")
    outputs = Holder(name="holder")(shared(inner(shared(inputs))))
    return keras.Model(inputs, outputs, name="outer")


def test_finds_nested_models_lists_and_mappings():
    names = {layer.name for layer in sublayers(nested())}
    assert {"outer", "shared", "inner", "inner_dense", "holder", "direct", "listed", "mapped"} <= names


def test_the_layer_itself_is_first_and_each_is_there_once():
    model = nested()
    layers = sublayers(model)
    assert layers[0] is model
    assert len({id(layer) for layer in layers}) == len(layers)


def test_the_order_survives_saving(tmp_path):
    model = nested()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in sublayers(loaded)] == [layer.name for layer in sublayers(model)]


def test_weights_that_are_frozen_are_known_as_trainable_but_for_the_freezing():
    def paths(model):
        return [variable.name for variable in unfrozen(model)]

    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    free = ["gamma", "beta", "kernel", "bias"]
    assert paths(model) == free
    model.trainable = False
    assert paths(model) == free
    assert paths(keras.models.clone_model(model)) == free
    assert not model.trainable_variables
    frozen = keras.layers.Dense(1, trainable=False)
    frozen.build((None, 2))
    assert paths(frozen) == ["kernel", "bias"]


def test_all_parts_are_frozen_those_too_that_a_frozen_layer_made_when_it_was_built():
    layer, x = keras.layers.MultiHeadAttention(1, 2, trainable=False), keras.Input((3, 2))
    layer(x, x)
    assert any(variable.trainable for variable in layer.variables)  # Keras leaves them
    freeze(layer)
    assert not any(variable.trainable for variable in layer.variables)
