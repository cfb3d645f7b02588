"""NumPy: the lecture's equations on whole batches."""

import numpy as np

from experiments.contenders.work import Contender, Work, batches, initial, test_data, train_data


def loop(work: Work) -> Contender:
    """Forward, backward and descent, a batch after the other."""
    X, Y = train_data(work)
    x_test, labels = test_data(work)
    params = initial(work)

    def sigmoid(Z):
        return 1 / (1 + np.exp(-Z))

    def g(Z):
        return sigmoid(Z) if work.activation == "sigmoid" else np.maximum(Z, 0)

    def slope(A):
        return A * (1 - A) if work.activation == "sigmoid" else A > 0

    def forward(x):
        A = [x]
        for W, b in params[:-1]:
            A.append(g(A[-1] @ W.T + b))
        W, b = params[-1]
        return A, A[-1] @ W.T + b

    def train(number):
        J = []
        for rows in batches(work, len(X), number):
            x, y = X[rows], Y[rows]
            A, Z = forward(x)
            J.append(float(np.sum(np.logaddexp(0, Z) - y * Z)) / len(x))
            dZ = (sigmoid(Z) - y) / len(x)
            for l in reversed(range(len(params))):
                W, b = params[l]
                dW, db = dZ.T @ A[l], dZ.sum(axis=0)
                if l:
                    dZ = dZ @ W * slope(A[l])
                W -= work.learning_rate * dW
                b -= work.learning_rate * db
        return sum(J) / len(J)

    return Contender("cpu", train, lambda: float(np.mean(forward(x_test)[1].argmax(axis=1) == labels)))
