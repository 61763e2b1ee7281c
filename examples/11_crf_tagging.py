"""Tags words with a conditional random field, and without one.

The sentences are made from a small grammar of names and places. Whether a word
begins a name or goes on with one cannot be told from the word: "White" may be
a name of its own, or the second of "Anna White". Both models see two words to
each side through the same bidirectional GRU; the field also knows which tags
follow each other, and its decoder allows whole spans alone.

    python examples/11_crf_tagging.py
"""

import argparse

import keras
import numpy as np

import kerascomp as kc

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
FIRST = ["Anna", "Ben", "Clara", "David", "Eva", "Hugo", "Ida", "Jonas"]
LAST = ["White", "Brook", "Stone", "Hill", "Rivers", "Lake", "Wood", "Field"]
PLACE = ["Lake", "Hill", "White", "Stone", "Brook", "Wood", "Field", "Rivers"]
VERBS = ["met", "saw", "called", "near", "left", "likes", "from", "and"]
WORDS = ["", *sorted({*FIRST, *LAST, *PLACE, *VERBS})]


def span(rng):
    """A name or a place of one to three words, and its tags."""
    kind = rng.integers(4)
    if kind == 0:
        return [rng.choice(FIRST), rng.choice(LAST)], ["B-PER", "I-PER"]
    if kind == 1:
        return [rng.choice(LAST)], ["B-PER"]
    if kind == 2:
        return [*rng.choice(PLACE, 2)], ["B-LOC", "I-LOC"]
    words = [*rng.choice(PLACE, 3)]
    return words, ["B-LOC", "I-LOC", "I-LOC"]


def sentences(count, length, seed):
    """Returns words and tags as numbers, padded with 0 to one length."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((2, count, length), "int32")
    for row in range(count):
        words, tags = [], []
        while len(words) < rng.integers(4, length):
            found = span(rng)
            words += [*found[0], rng.choice(VERBS)]
            tags += [*found[1], "O"]
        words, tags = words[:length], tags[:length]
        x[row, : len(words)] = [WORDS.index(word) for word in words]
        y[row, : len(tags)] = [TAGS.index(tag) for tag in tags]
    return x, y


def features(inputs):
    """Each word with what stands around it."""
    x = keras.layers.Embedding(len(WORDS), 16, mask_zero=True)(inputs)
    x = keras.layers.Dropout(0.2)(x)
    gru = keras.layers.GRU(8, return_sequences=True)
    return keras.layers.Bidirectional(gru)(x)


def spans_of(tags):
    """The spans of a sequence of tags: type, first word, word behind."""
    found, start = set(), None
    for place, tag in enumerate([*tags, "O"]):
        if start is not None and not tag.startswith("I-"):
            found.add((tags[start][2:], start, place))
            start = None
        if tag.startswith("B-") or (tag != "O" and start is None):
            start = place
    return found


def report(name, predicted, x, y):
    """Prints how many words and how many whole spans are right."""
    real = x > 0
    right = total = both = broken = 0
    for found, true, is_word in zip(predicted, y, real, strict=True):
        found, true = (
            [TAGS[tag] for tag in each[is_word]] for each in (found, true)
        )
        a, b = spans_of(found), spans_of(true)
        right, total, both = right + len(a), total + len(b), both + len(a & b)
        broken += sum(
            tag.startswith("I-") and last[1:] != tag[1:]
            for last, tag in zip(["O", *found], found, strict=False)
            if last == "O" or last[2:] != tag[2:]
        )
    accuracy = (predicted == y)[real].mean()
    f1 = 2 * both / (right + total)
    print(f"{name:12}  {accuracy:8.3f}  {f1:8.3f}  {broken:12}")


def main():
    """Trains both models and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    count, epochs = (64, 1) if smoke else (600, 15)
    x, y = sentences(count, 14, seed=0)
    x_test, y_test = sentences(count, 14, seed=1)
    print(f"{'':12}  {'accuracy':>8}  {'span F1':>8}  {'broken spans':>12}")

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None,), dtype="int32")
    plain = keras.Model(inputs, keras.layers.Dense(len(TAGS))(features(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.Adam(0.01), loss)
    plain.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    scores = plain.predict(x_test, verbose=0)
    report("word by word", scores.argmax(-1), x_test, y_test)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, kc.layers.CRF(len(TAGS))(features(inputs)))
    loss = kc.losses.CRFNegativeLogLikelihood()
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    decoder = kc.layers.ViterbiDecoder(kc.layers.bio_transitions(TAGS))
    tagger = keras.Model(model.input, decoder(model.output))
    report("CRF", tagger.predict(x_test, verbose=0), x_test, y_test)


if __name__ == "__main__":
    main()
