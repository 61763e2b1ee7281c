import dataclasses
import gzip
import sys

import keras
import numpy as np
import pytest

from kerascomp import datasets
from kerascomp.datasets import DataError, from_arrays, load

pytestmark = pytest.mark.one_backend

EMBEDDED = ("digits", "breast_cancer", "wine", "diabetes")


def numbered(num_samples=60, num_classes=3):
    """Features that tell the row, and classes of unequal sizes."""
    x = np.arange(num_samples, dtype="float32")[:, None]
    y = np.minimum(np.arange(num_samples) % (num_classes + 2), num_classes - 1)
    return x, y


def rows_of(part):
    return sorted(part.x[:, 0].astype(int).tolist())


@pytest.fixture
def csv_file(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        content = text.encode()
        path.write_bytes(
            gzip.compress(content) if name.endswith("gz") else content
        )
        return path

    return write


def simple_rows(num_rows=12):
    """A number, a color and a class for each row."""
    return [
        f"{i / 4},{('red', 'blue')[i % 2]},{('no', 'yes')[i // 2 % 2]}"
        for i in range(num_rows)
    ]


def simple_csv(*replaced, header="size,color,bought"):
    rows = simple_rows()
    rows[: len(replaced)] = replaced
    return "\n".join([header, *rows]) + "\n"


# The parts


def test_parts_are_disjoint_and_cover_everything():
    data = from_arrays(*numbered())
    rows = [row for part in data.parts.values() for row in rows_of(part)]
    assert sorted(rows) == list(range(60))


def test_parts_keep_inputs_and_targets_together():
    x, y = numbered()
    for part in from_arrays(x, y).parts.values():
        np.testing.assert_array_equal(y[part.x[:, 0].astype(int)], part.y)


def test_parts_have_the_requested_sizes():
    data = from_arrays(
        *numbered(100, 2), validation_fraction=0.1, test_fraction=0.3
    )
    # 25 samples of class 0 and 75 of class 1.
    assert [len(part) for part in data.parts.values()] == [60, 10, 30]


def test_every_class_is_divided_in_the_same_proportions():
    _, y = numbered(100, 3)
    data = from_arrays(*numbered(100, 3))
    whole = np.bincount(y)
    for fraction, part in zip(
        (0.6, 0.2, 0.2), data.parts.values(), strict=True
    ):
        np.testing.assert_allclose(
            np.bincount(part.y), fraction * whole, atol=0.5
        )


def test_every_part_holds_a_class_of_three_samples():
    y = np.array([0] * 3 + [1] * 40)
    data = from_arrays(np.zeros((43, 2)), y, test_fraction=0.7)
    for part in data.parts.values():
        assert (part.y == 0).sum() == 1


def test_training_samples_do_not_stand_ordered_by_class():
    data = from_arrays(np.zeros((200, 1)), np.repeat([0, 1], 100))
    changes = int((np.diff(data.train.y) != 0).sum())
    # 119 neighbors, each pair unequal with a chance of about one half.
    assert 30 < changes < 90


def test_same_seed_gives_the_same_parts_and_another_one_others():
    data = [from_arrays(*numbered(), seed=seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(data[0].train.x, data[1].train.x)
    assert rows_of(data[0].test) != rows_of(data[2].test)


def test_split_does_not_touch_the_global_random_state():
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    from_arrays(*numbered())
    assert np.random.random() == expected  # noqa: NPY002


def test_equal_rows_are_divided_like_any_others():
    data = from_arrays(np.ones((10, 2)), [0, 1] * 5)
    assert sum(len(part) for part in data.parts.values()) == 10


def test_quantities_are_divided_too():
    x = np.arange(50.0)[:, None]
    data = from_arrays(x, x[:, 0] / 7)
    assert data.task == "regression"
    assert [len(part) for part in data.parts.values()] == [30, 10, 10]
    np.testing.assert_allclose(data.test.y * 7, data.test.x[:, 0], rtol=2e-6)


# Targets


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (["b", "a", "c"], ("a", "b", "c")),
        ([10, 9, 100], ("9", "10", "100")),
        ([-1.0, 0.0, 1.0], ("-1", "0", "1")),
    ],
)
def test_labels_are_sorted_into_class_indices(y, names):
    data = from_arrays(np.zeros((30, 2)), np.repeat(y, 10))
    assert data.task == "classification"
    assert data.class_names == names
    assert data.num_classes == 3
    assert data.train.y.dtype == np.int32
    assert sorted(set(data.train.y.tolist())) == [0, 1, 2]


def test_class_indices_point_at_the_labels():
    labels = np.array(["sun", "rain", "fog"] * 10)
    x = np.arange(30.0)[:, None]
    train = (data := from_arrays(x, labels)).train
    for row, index in zip(train.x[:, 0].astype(int), train.y, strict=True):
        assert data.class_names[index] == labels[row]


def test_booleans_are_classes():
    data = from_arrays(np.zeros((20, 2)), np.arange(20) % 4 == 0)
    assert data.class_names == ("False", "True")


def test_many_whole_numbers_are_a_quantity_unless_told_otherwise():
    x, y = np.zeros((63, 2)), np.arange(63) % 21
    quantity = from_arrays(x, y)
    assert quantity.task == "regression"
    assert quantity.num_classes is None
    assert quantity.class_names == ()
    assert quantity.train.y.dtype == np.float32
    assert from_arrays(x, y, task="classification").num_classes == 21


def test_few_whole_numbers_can_be_a_quantity_if_told():
    data = from_arrays(*numbered(), task="regression")
    assert data.task == "regression"
    assert data.train.y.dtype == np.float32


def test_a_target_column_loses_its_last_axis():
    x, y = numbered()
    flat = from_arrays(x, y[:, None])
    assert flat.train.y.ndim == 1
    assert flat.fingerprint == from_arrays(x, y).fingerprint


# The data set


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_are_those_of_scikit_learn(name):
    from sklearn import datasets as sklearn_datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(sklearn_datasets, f"load_{name}")(**options)
    data = load(name)
    x = np.concatenate([part.x for part in data.parts.values()])
    y = np.concatenate([part.y for part in data.parts.values()])
    order = np.lexsort([*x.T, y])
    expected = bunch.data.astype("float32")
    expected_order = np.lexsort([*expected.T, bunch.target])
    np.testing.assert_array_equal(x[order], expected[expected_order])
    np.testing.assert_array_equal(y[order], bunch.target[expected_order])
    assert data.feature_names == tuple(bunch.feature_names)
    assert data.input_shape == (len(data.feature_names),)


def test_embedded_classes_have_names():
    assert load("breast_cancer").class_names == ("malignant", "benign")
    assert load("digits").class_names == tuple("0123456789")


def test_fingerprint_is_the_hash_of_split_and_values():
    import hashlib

    x, y = np.arange(12.0).reshape(6, 2), [0, 1] * 3
    data = from_arrays(x, y)
    digest = hashlib.sha256(b"('classification', ('0', '1'))")
    for name, part in data.parts.items():
        digest.update(f"('{name}', (2, 2))".encode())
        digest.update(part.x.astype("<f4").tobytes())
        digest.update(f"('{name}', (2,))".encode())
        digest.update(part.y.astype("<i4").tobytes())
    assert data.fingerprint == digest.hexdigest()


def test_fingerprint_tells_values_and_split_but_not_names_apart():
    x, y = numbered()
    changed = x.copy()
    changed[7] += 1e-4
    first = from_arrays(x, y).fingerprint
    assert from_arrays(x, y, name="other").fingerprint == first
    assert from_arrays(x.astype("float64"), y).fingerprint == first
    assert from_arrays(changed, y).fingerprint != first
    assert from_arrays(x, y, seed=1).fingerprint != first


def test_data_sets_are_frozen():
    data = from_arrays(*numbered())
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.task = "regression"
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.train.x = None


def test_description_tells_sizes_classes_and_fingerprint():
    data = from_arrays(*numbered(100, 2), name="toy")
    assert str(data) == (
        "toy: classification of inputs (1). 60 train, 20 validation, 20 test "
        "samples. 2 classes, from 25.0% (0) to 75.0% (1) of training. "
        f"Fingerprint {data.fingerprint[:12]}."
    )


def test_description_of_classes_of_one_size_tells_it_once():
    data = from_arrays(np.zeros((40, 2)), np.repeat([0, 1, 2, 3], 10))
    assert "4 classes, each 25.0% of training." in str(data)


def test_description_of_a_regression_tells_the_scale_of_the_target():
    # Half of 30 targets are equal: any 18 of them hold both values.
    y = np.repeat([0.5, 2.5], 15)
    data = from_arrays(np.zeros((30, 4)), y)
    share = (data.train.y == 2.5).mean()
    spread = 2 * np.sqrt(share * (1 - share))  # Of a coin with sides 2 apart.
    assert "regression" in str(data)
    assert (
        f"Target from 0.5 to 2.5, mean {0.5 + 2 * share:g}, "
        f"standard deviation {spread:g} in training"
    ) in str(data)


def test_names_are_listed_with_what_they_hold():
    names = datasets.names()
    assert set(EMBEDDED) < set(names)
    assert "regression" in names["diabetes"]
    assert len(names) == 8


def test_byte_images_get_a_channel_axis_and_keep_their_values():
    images = np.arange(10 * 4 * 6, dtype="uint8").reshape(10, 4, 6)
    data = from_arrays(images, [0, 1] * 5)
    assert data.input_shape == (4, 6, 1)
    assert data.train.x.dtype == np.float32
    assert max(part.x.max() for part in data.parts.values()) == 239


def test_sequences_stay_as_they_are():
    data = from_arrays(np.zeros((10, 4, 6), "float32"), [0, 1] * 5)
    assert data.input_shape == (4, 6)


# Data sets of Keras


def keras_arrays(num_train, num_test):
    images = np.arange(num_train + num_test, dtype="uint8")
    images = np.broadcast_to(images[:, None, None], (len(images), 28, 28))
    labels = np.arange(len(images), dtype="uint8") % 10
    return (images[:num_train], labels[:num_train]), (
        images[num_train:],
        labels[num_train:],
    )


def test_published_test_part_stays_as_it_is(monkeypatch):
    arrays = keras_arrays(100, 20)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: arrays)
    data = load("mnist", validation_fraction=0.3)
    assert [len(part) for part in data.parts.values()] == [70, 30, 20]
    assert data.input_shape == (28, 28, 1)
    assert data.class_names == tuple("0123456789")
    np.testing.assert_array_equal(
        data.test.x[:, 0, 0, 0], np.arange(100.0, 120.0)
    )
    np.testing.assert_array_equal(data.test.y, np.arange(100, 120) % 10)
    held = np.concatenate([data.train.x, data.validation.x])[:, 0, 0, 0]
    assert sorted(held.tolist()) == list(range(100))


def test_clothes_have_names(monkeypatch):
    arrays = keras_arrays(100, 20)
    monkeypatch.setattr(
        keras.datasets.fashion_mnist, "load_data", lambda: arrays
    )
    names = load("fashion_mnist").class_names
    assert names[0] == "T-shirt/top"
    assert names[9] == "Ankle boot"


def test_without_a_network_says_where_keras_looks(monkeypatch, tmp_path):
    def fail():
        raise Exception("URL fetch failure")  # As bare as Keras raises it.

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(DataError, match="URL fetch failure") as caught:
        load("mnist")
    assert str(tmp_path / "datasets" / "mnist.npz") in str(caught.value)


def test_without_scikit_learn_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "kerascomp\[studies\]'):
        load("digits")


# CSV files


def test_text_columns_become_a_column_a_category(csv_file):
    data = load(csv_file(simple_csv()), "bought")
    assert data.name == "data.csv"
    assert data.class_names == ("no", "yes")
    assert data.feature_names == ("size", "color=blue", "color=red")
    for part in data.parts.values():
        # Sizes are quarters of the row number; even rows are red.
        row = part.x[:, 0] * 4
        np.testing.assert_array_equal(part.x[:, 1], row % 2)
        np.testing.assert_array_equal(part.x[:, 2], 1 - row % 2)
        np.testing.assert_array_equal(part.y, row // 2 % 2)
    assert "2 columns became 3 features" in str(data)


def test_categories_unknown_in_training_are_all_zeros(csv_file):
    rows = [f"c{i},{i % 2}" for i in range(20)]
    data = load(csv_file("\n".join(["kind,y", *rows])), "y")
    assert data.train.x.shape == (12, 12)
    np.testing.assert_array_equal(data.train.x.sum(axis=1), np.ones(12))
    np.testing.assert_array_equal(data.test.x, np.zeros((4, 12)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_delimiter_is_found(csv_file, delimiter, name):
    text = simple_csv().replace(",", delimiter)
    data = load(csv_file(text, name), "bought")
    expected = load(csv_file(simple_csv()), "bought")
    assert data.fingerprint == expected.fingerprint


def test_quotes_marks_and_blanks_are_understood(csv_file):
    text = simple_csv(
        '0, "deep, ""dark"" red",no', header='"size", color,bought'
    )
    text = "\ufeff" + text.replace("\n", "\r\n") + "\r\n"
    data = load(csv_file(text), "bought", seed=2)
    assert data.feature_names[0] == "size"
    assert 'color=deep, "dark" red' in data.feature_names


def test_a_missing_text_is_a_category(csv_file):
    rows = [f"{i},{('', 'NA', 'x')[i % 3]},{i % 2}" for i in range(60)]
    data = load(csv_file("\n".join(["a,b,y", *rows])), "y")
    assert data.feature_names == ("a", "b=(empty)", "b=NA", "b=x")


def test_gaps_are_filled_with_the_training_median_and_marked(csv_file):
    values = ["" if i % 4 == 0 else str(i) for i in range(40)]
    rows = [f"{value},{i},{i % 2}" for i, value in enumerate(values)]
    path = csv_file("\n".join(["a,row,y", *rows]))
    data = load(path, "y", missing="median")
    assert data.feature_names == ("a", "a is missing", "row")
    present = [row for row in rows_of_column(data.train, 2) if row % 4]
    for part in data.parts.values():
        rows = part.x[:, 2]
        gap = rows % 4 == 0
        np.testing.assert_array_equal(part.x[:, 1], gap)
        np.testing.assert_array_equal(
            part.x[:, 0], np.where(gap, np.median(present), rows)
        )


def test_gaps_outside_training_are_not_marked(csv_file):
    lines = [f"{i},{i % 2}" for i in range(21)]
    data = load(csv_file("\n".join(["a,y", *lines])), "y")
    row = int(data.test.x[0, 0])
    lines[row] = f",{row % 2}"
    path = csv_file("\n".join(["a,y", *lines]))
    filled = load(path, "y", missing="median")
    assert filled.feature_names == ("a",)
    assert filled.test.x[0, 0] == np.median(data.train.x)


def rows_of_column(part, column):
    return part.x[:, column].astype(int).tolist()


def test_numbers_target_decides_the_task(csv_file):
    rows = [f"{i},{i % 3},{i * 1.5}" for i in range(30)]
    path = csv_file("\n".join(["a,few,real", *rows]))
    assert load(path, "few").task == "classification"
    assert load(path, "few", task="regression").task == "regression"
    assert load(path, "real").task == "regression"


def test_a_column_that_counts_rows_is_noted(csv_file):
    rows = [f"{i + 1},{i * i},{i % 3}" for i in range(30)]
    data = load(csv_file("\n".join(["id,a,y", *rows])), "y")
    assert len(data.notes) == 1
    assert "'id' counts the rows" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (simple_csv(), None, r"which column.*target=.*size, color, bought"),
        (simple_csv(), "bougth", r"no column 'bougth'.*mean 'bought'.*size"),
        ("1,red,no\n" + simple_csv(), "bought", r"first line holds.*'1'"),
        ("a,b,a\n1,2,3\n", "b", r"more than once: 'a'"),
        ("a,,y\n1,2,3\n", "y", r"none for column 2 of 3.*index=False"),
        (simple_csv("1,red,no", "2,red"), "bought", r"line 3: expected 3.*2"),
        (simple_csv("1,red,no,4"), "bought", r"line 2: expected 3.*4"),
        (simple_csv('1,"red,no'), "bought", r"quotation mark"),
        ("\n", "y", r"column names in its first line"),
        ("", "y", r"column names in its first line"),
        ("a,y\n", "y", r"header but no rows"),
        ("y\n1\n2\n", "y", r"'y' alone"),
        (simple_csv("1,red,", "1,red,?"), "bought", r"none in 2 of 12.*line 2"),
        (simple_csv(",red,no", "NA,red,no"), "bought", r"'size' 2\. .*median"),
        (simple_csv("inf,red,no"), "bought", r"'size' must be finite.*1 inf"),
        (simple_csv("1e39,red,no"), "bought", r"'size' must be finite.*1 inf"),
        (simple_csv("1,red,maybe"), "bought", r"1 of 3 classes: 'maybe' has 1"),
    ],
)
def test_csv_mistakes_are_explained(csv_file, text, target, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        load(csv_file(text), target)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([str(i) for i in range(29)] + ["1O"], r"mixes.*'1O' in line 31, 1 of"),
        ([f"name {i}" for i in range(30)], r"30 distinct texts.*'name 0'"),
        ([f"{i},5" for i in range(30)], r"decimal comma: '0,5' in line 2"),
    ],
)
def test_columns_that_are_no_categories_are_refused(csv_file, cells, message):
    rows = [f"{cell};{i % 2}" for i, cell in enumerate(cells)]
    with pytest.raises(DataError, match=message):
        load(csv_file("\n".join(["a;y", *rows])), "y")


def test_underscores_make_a_label(csv_file):
    rows = [f"{('1_0', '1_1')[i % 2]},{i % 3}" for i in range(30)]
    data = load(csv_file("\n".join(["a,y", *rows])), "y")
    assert data.feature_names == ("a=1_0", "a=1_1")


def test_a_few_codes_may_mix_numbers_and_text(csv_file):
    rows = [f"{('0', '1', '2', '3+')[i % 4]},{i % 2}" for i in range(40)]
    data = load(csv_file("\n".join(["children,y", *rows])), "y")
    assert data.feature_names[-1] == "children=3+"


def test_a_column_without_a_value_in_training_is_refused(csv_file):
    rows = [f",{i},{i % 2}" for i in range(20)]
    with pytest.raises(DataError, match="'a' has no value in the training"):
        load(csv_file("\n".join(["a,b,y", *rows])), "y", missing="median")


def test_files_that_are_not_utf8_or_gzip_are_refused(tmp_path):
    latin = tmp_path / "latin.csv"
    latin.write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        load(latin, "y")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(simple_csv().encode())[:-10])
    with pytest.raises(DataError, match="not a complete gzip file"):
        load(cut, "bought")


# NPZ files


def test_npz_holds_inputs_and_targets(tmp_path):
    x, y = numbered()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = load(tmp_path / "data.npz")
    assert data.name == "data.npz"
    assert data.fingerprint == from_arrays(x, y).fingerprint


def test_npz_may_hold_a_test_part(tmp_path):
    x, y = numbered()
    np.savez(
        tmp_path / "data.npz",
        x_train=x[:50],
        y_train=y[:50],
        x_test=x[50:],
        y_test=y[50:],
    )
    data = load(tmp_path / "data.npz")
    np.testing.assert_array_equal(data.test.x, x[50:])
    np.testing.assert_array_equal(data.test.y, y[50:])
    assert len(data.train) + len(data.validation) == 50


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [[1.0]]}, r"must hold `x` and `y`.*Received: x\. Write"),
        ({"a": [1], "b": [2]}, r"Received: a, b\."),
        ({"x": np.zeros((4, 2)), "y": [0, 1, 0]}, r"4 samples and 3 targets"),
        ({"x": np.array([[{}], [1]]), "y": [0, 1]}, r"Python objects"),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": [0, 1, 2] * 3,
                "x_test": np.zeros((3, 3)),
                "y_test": [0, 1, 2],
            },
            r"same shape.*x_test \(3, 3\)",
        ),
        (
            {
                "x_train": np.zeros((8, 2)),
                "y_train": [0, 1] * 4,
                "x_test": np.zeros((3, 2)),
                "y_test": [0, 1, 2],
            },
            r"'2' has 0",
        ),
    ],
)
def test_npz_mistakes_are_explained(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data.npz")


def test_npz_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"not a readable \.npz file"):
        load(path)
    path.write_bytes(b"\x80\x04K\x01.")  # A pickled 1.
    with pytest.raises(DataError, match="Python objects"):
        load(path)


# Mistakes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"no data set or file 'digit'\. Did you mean 'digits'\?"),
        ("nothing_like_it", r"Known data sets: digits, .*\.npz"),
        ("missing.csv", r"no file '.*missing\.csv'"),
        ("folder/missing.npz", r"no file '.*missing\.npz'"),
    ],
)
def test_unknown_names_are_explained(name, message):
    with pytest.raises(DataError, match=message):
        load(name)


def test_a_misspelled_file_is_suggested(csv_file):
    path = csv_file(simple_csv(), "houses.csv")
    with pytest.raises(DataError, match=r"Did you mean 'houses\.csv'\?"):
        load(path.with_name("house.csv"), "bought")


def test_folders_and_unknown_endings_are_refused(tmp_path):
    with pytest.raises(DataError, match="Received the folder"):
        load(tmp_path)
    path = tmp_path / "data.parquet"
    path.touch()
    with pytest.raises(DataError, match=r"\.csv, \.csv\.gz or \.npz.*parquet"):
        load(path)


def test_a_target_is_refused_where_there_is_one_already(tmp_path):
    with pytest.raises(DataError, match="'digits' has its target already"):
        load("digits", "y")
    np.savez(tmp_path / "data.npz", x=[[1.0]], y=[1])
    with pytest.raises(DataError, match=r"an \.npz file has its target"):
        load(tmp_path / "data.npz", "y")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(6), [0, 1] * 3, r"`x\[:, None\]`"),
        (np.zeros((0, 3)), [], r"must not be empty.*\(0, 3\)"),
        (np.zeros((6, 2), complex), [0, 1] * 3, r"real numbers.*complex128"),
        (np.full((6, 2), "a"), [0, 1] * 3, r"real numbers.*<U1"),
        (np.full((6, 2), None), [0, 1] * 3, r"real numbers.*object"),
        ([[1, 2], [3]], [0, 1], r"`x` must be a regular array"),
        (np.zeros((6, 2)), [0, 1], r"6 samples and 2 targets"),
        (np.zeros((6, 2)), [1] * 6, r"two different values.*6 .* value 1\."),
        (np.zeros((6, 2)), np.eye(6, 3), r"\(6, 3\).*argmax"),
        (np.zeros((6, 2)), [0, 1, 0, 1, 0, np.nan], r"1 NaN and 0 infinite"),
        (np.zeros((6, 2)), [1j] * 6, r"numbers or text.*complex128"),
        (np.zeros((4, 2)), [0, 0, 0, 1], r"3 samples.*'1' has 1\..*merge"),
        (np.zeros((2, 2)), [0.5, 1.5], r"3 parts need.*Received: 2"),
        (np.zeros((3, 2)), [0.5, 1.5, 1e39], r"fit float32"),
    ],
)
def test_unusable_arrays_are_explained(x, y, message):
    with pytest.raises(DataError, match=message):
        from_arrays(x, y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_non_finite_inputs_are_counted_and_located(value):
    x = np.zeros((9, 4))
    x[2, 1] = x[2, 3] = x[5, 3] = value
    with pytest.raises(DataError, match=r"3 NaN .* in 2 of 9 .* columns 1, 3"):
        from_arrays(x, [0, 1, 2] * 3)


def test_non_finite_images_are_counted():
    x = np.zeros((6, 4, 5))
    x[2, 1, 3] = np.nan
    with pytest.raises(DataError, match=r"1 NaN .* in 1 of 6 samples\."):
        from_arrays(x, [0, 1] * 3)


def test_a_task_that_does_not_suit_the_target_is_refused():
    x = np.zeros((9, 2))
    with pytest.raises(DataError, match=r"whole numbers or text.*0\.5"):
        from_arrays(x, [0.5, 1, 2] * 3, task="classification")
    with pytest.raises(DataError, match=r"numbers for task='regression'.*'a'"):
        from_arrays(x, ["a", "b", "c"] * 3, task="regression")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "clustering"}, "`task` must be one of"),
        ({"validation_fraction": 0.0}, r"`validation_fraction` must be in \(0"),
        ({"test_fraction": 1.0}, r"`test_fraction` must be in \(0, 1\)"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "below 1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"seed": 2**32}, r"`seed` must be below 2\*\*32"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(*numbered(), **options)


def test_the_way_to_treat_gaps_is_checked(csv_file):
    with pytest.raises(ValueError, match="`missing` must be one of"):
        load(csv_file(simple_csv()), "bought", missing="zero")
