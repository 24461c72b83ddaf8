"""The tutorial's network, layer by layer, agrees with hand-written shapes, counts and arithmetic."""

from mnist_lit.evaluation.layers import layer_rows
from mnist_lit.model import TutorialCNN

TABLE = {  # layer: output shape, parameters, receptive field; from the tutorial's code, its text is wrong in places
    "conv1": ((32, 26, 26), 320, 3),
    "conv2": ((64, 24, 24), 18_496, 5),
    "pool1": ((64, 12, 12), 0, 6),
    "conv3": ((128, 10, 10), 73_856, 10),
    "conv4": ((256, 8, 8), 295_168, 14),
    "pool2": ((256, 4, 4), 0, 16),
    "fc1": ((50,), 204_850, 0),
    "fc2": ((10,), 510, 0),
}


def test_each_layer_has_the_tutorials_shape_parameters_and_receptive_field() -> None:
    rows = layer_rows(TutorialCNN())
    assert [(row.shape, row.parameters, row.receptive_field) for row in rows] == list(TABLE.values())
    assert sum(row.parameters for row in rows) == 593_200


def test_multiply_adds_match_a_hand_count() -> None:
    by_hand = [26 * 26 * 32 * 9, 24 * 24 * 64 * 32 * 9, 0, 10 * 10 * 128 * 64 * 9, 8 * 8 * 256 * 128 * 9, 0]
    assert [row.multiply_adds for row in layer_rows(TutorialCNN())] == [*by_hand, 4096 * 50, 50 * 10]
