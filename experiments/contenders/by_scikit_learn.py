"""scikit-learn: its own classifier."""

import numpy as np

from experiments.contenders.work import Contender, Work, initial, test_data, train_data


def classifier(work: Work) -> Contender:
    """An MLPClassifier, one partial_fit an epoch (it also takes the last, smaller batch)."""
    from sklearn.neural_network import MLPClassifier

    X, Y = train_data(work)
    Y = Y.astype(int)
    x_test, labels = test_data(work)
    model = MLPClassifier(
        work.n[1:-1],
        activation={"sigmoid": "logistic", "relu": "relu"}[work.activation],
        solver="sgd",
        momentum=0.0,
        nesterovs_momentum=False,
        alpha=0.0,
        batch_size=work.batch_size,  # pyright: ignore[reportArgumentType]
        learning_rate_init=work.learning_rate,
        random_state=work.first,
    )
    model.partial_fit(X[: work.batch_size], Y[: work.batch_size], classes=range(10))  # makes its arrays
    for W, b, (new_W, new_b) in zip(model.coefs_, model.intercepts_, initial(work), strict=True):
        W[...], b[...] = new_W.T, new_b

    def train(number):
        model.partial_fit(X, Y)
        return float(model.loss_)

    def accuracy():
        return float(np.mean(np.argmax(model.predict_proba(x_test), axis=1) == labels))

    return Contender("cpu", train, accuracy)
