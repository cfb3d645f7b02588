"""The contenders of the benchmark: one epoch of the same training, each as its users write it.

Every one starts from the same parameters, sees every image once in an order that it draws itself, takes
plain gradient descent in batches of the same size on the lecture's loss, and keeps the loss of each epoch.
What can be prepared once (pixels as float32, labels one-hot, data on the device) is prepared before the
clock starts. A contender imports what it needs when it is asked for, in a process of its own:

    python -m experiments.contenders NAME WORK

where WORK is JSON (see Work). It answers every line on its standard input, `train` or `test`, by a line of
JSON.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

LARGE = 2048  # rows and columns of the large product
BOUND = 1.0  # of the norm of a clipped gradient
SHORT = 0.2  # seconds: what takes less is done several times in a row


class Work(NamedTuple):
    """What is to be done: the network n[0]-n[1]-...-n[L], and how it is trained on which images."""

    n: list[int]
    activation: str  # of the hidden layers: sigmoid or relu
    batch_size: int
    learning_rate: float
    folder: str  # where the arrays of the data are
    networks: int = 1
    first: int = 0  # epochs are numbered from here on: each number is an order of the images


class Contender(NamedTuple):
    """Trains on `device`: `train(number)` one epoch, returns its loss; `accuracy()` on the test images.

    `memory` are the bytes that the compiled epoch takes beside its arguments and results, where known. What
    takes too short a time to be measured is done `calls` times in a row.
    """

    device: str
    train: Callable[[int], float]
    accuracy: Callable[[], float] = lambda: math.nan
    memory: int | None = None
    calls: int = 1


def load(work: Work, name: str) -> np.ndarray:
    """One of the four arrays of the data."""
    return np.load(Path(work.folder) / f"{name}.npy")


def pixels(work: Work, name: str) -> np.ndarray:
    """X: images as rows of float32 between 0 and 1."""
    images = load(work, name)
    return images.reshape(len(images), -1) / np.float32(255)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Y."""
    return np.eye(10, dtype=np.float32)[labels]


def initial(work: Work, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same W and b for all: Glorot and Bengio's uniform weights, zeros."""
    rng = np.random.default_rng(seed)
    layers = []
    for n_prev, n in zip(work.n[:-1], work.n[1:], strict=True):
        limit = math.sqrt(6 / (n_prev + n))
        layers.append((rng.uniform(-limit, limit, (n, n_prev)).astype(np.float32), np.zeros(n, np.float32)))
    return layers


def jaxnn_manual(work: Work) -> Contender:
    """This project: gradient written by hand."""
    from jaxnn.objective import value_and_grad

    return _jaxnn(work, value_and_grad)


def jaxnn_autodiff(work: Work) -> Contender:
    """This project: the same path, gradient by jax.grad."""
    import jax

    from jaxnn.objective import cost

    return _jaxnn(work, lambda net, loss: jax.value_and_grad(cost(net, loss)))


def _jaxnn(work, gradient_of):
    import jax
    import jax.numpy as jnp

    from jaxnn.training import epoch, start

    net, step, optimizer = _jaxnn_step(work, gradient_of)
    state = start(_jaxnn_params(work), optimizer)
    data = jnp.asarray(load(work, "train_images")), jnp.asarray(load(work, "train_labels"))
    key = jax.random.key(0)
    one_epoch = jax.jit(epoch(step, work.batch_size), donate_argnums=0).lower(state, key, *data).compile()

    def train(number):
        nonlocal state
        state, J = one_epoch(state, jax.random.fold_in(key, number), *data)
        return float(J)

    accuracy = _jaxnn_accuracy(work, net)
    sizes = one_epoch.memory_analysis()
    memory = sizes.temp_size_in_bytes if sizes else None
    return Contender(_jax_device(), train, lambda: accuracy(state.params), memory)


def _jaxnn_step(work, gradient_of):
    import optax

    from jaxnn import activations, encoding
    from jaxnn.layers import mlp
    from jaxnn.losses import binary_cross_entropy
    from jaxnn.training import step

    net = mlp(*work.n, g=getattr(activations, work.activation))
    gradient = gradient_of(net, binary_cross_entropy)
    optimizer = optax.sgd(work.learning_rate)

    def gradient_on_images(params, images, labels):
        return gradient(params, encoding.flatten(images, 255), encoding.one_hot(labels, 10))

    return net, step(gradient_on_images, optimizer), optimizer


def _jaxnn_params(work, seed=0):
    import jax.numpy as jnp

    from jaxnn.layers import Dense

    return [Dense(jnp.asarray(W), jnp.asarray(b)[:, None]) for W, b in initial(work, seed)]


def _jaxnn_accuracy(work, net):
    import jax
    import jax.numpy as jnp

    from jaxnn.encoding import flatten
    from jaxnn.evaluation import predict

    images, labels = jnp.asarray(load(work, "test_images")), jnp.asarray(load(work, "test_labels"))

    @jax.jit
    def accuracy(params, images, labels):
        return jnp.mean(predict(net, params, flatten(images, 255)) == labels)

    return lambda params: float(accuracy(params, images, labels))


def family(work: Work) -> Contender:
    """This project: many networks at once, each with its own initial parameters, over shared batches."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad
    from jaxnn.training import epoch, start

    net, step, optimizer = _jaxnn_step(work, value_and_grad)
    members = [start(_jaxnn_params(work, seed), optimizer) for seed in range(work.networks)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    data = jnp.asarray(load(work, "train_images")), jnp.asarray(load(work, "train_labels"))
    key = jax.random.key(0)
    epochs = jax.jit(jax.vmap(epoch(step, work.batch_size), (0, None, None, None)), donate_argnums=0)

    def train(number):
        nonlocal states
        states, J = epochs(states, jax.random.fold_in(key, number), *data)
        return float(jnp.mean(J))

    accuracy = _jaxnn_accuracy(work, net)

    def mean_accuracy():
        members = [jax.tree.map(lambda leaf, k=k: leaf[k], states.params) for k in range(work.networks)]
        return float(np.mean([accuracy(params) for params in members]))

    return Contender(_jax_device(), train, mean_accuracy)


def one_batch(work: Work) -> Contender:
    """This project without shuffling and data movement: one batch, ready as float32, in every step."""
    import jax
    import jax.numpy as jnp

    from jaxnn.objective import value_and_grad
    from jaxnn.training import start

    _, step, optimizer = _jaxnn_step(work, value_and_grad)
    state = start(_jaxnn_params(work), optimizer)
    images = jnp.asarray(load(work, "train_images")[: work.batch_size])
    labels = jnp.asarray(load(work, "train_labels"))
    steps = len(labels) // work.batch_size

    def epoch_of_one_batch(state, images, labels):
        state, J = jax.lax.scan(lambda state, _: step(state, images, labels), state, length=steps)
        return state, jnp.mean(J)

    one_epoch = jax.jit(epoch_of_one_batch, donate_argnums=0)

    def train(number):
        nonlocal state
        state, J = one_epoch(state, images, labels[: work.batch_size])
        return float(J)

    return Contender(_jax_device(), train)


def products(work: Work) -> Contender:
    """The matrix products of the steps alone, on operands in the cache: the floor."""
    import jax
    import jax.numpy as jnp

    X = jnp.asarray(pixels(work, "train_images")[: work.batch_size])
    weights = [jnp.asarray(W) for W, _ in initial(work)]
    steps = len(load(work, "train_labels")) // work.batch_size

    @jax.jit
    def one_epoch(weights, X):
        def step(weights, _):
            A = [X]
            for W in weights:
                A.append(A[-1] @ W.T)
            dZ, products = A.pop(), []
            for W, A_prev in zip(weights[::-1], A[::-1], strict=True):
                products.append(dZ.T @ A_prev)
                dZ = dZ @ W  # for l = 1 nothing uses it, and XLA leaves it out
            return products[::-1], None  # each step waits for the one before

        return jax.lax.scan(step, weights, length=steps)[0]

    def train(number):
        jax.block_until_ready(one_epoch(weights, X))
        return math.nan

    return Contender(_jax_device(), train)


def large_product(work: Work) -> Contender:
    """One product of two LARGE × LARGE matrices."""
    import jax

    A = jax.random.normal(jax.random.key(0), (LARGE, LARGE))
    product = jax.jit(lambda A: A @ A)

    def train(number):
        jax.block_until_ready(product(A))
        return math.nan

    return Contender(_jax_device(), train)


def _of_examples(work, function_of):
    """A function of (net, loss), called on (params, X, Y) of a batch; its loss is the norm of the result."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxnn import activations
    from jaxnn.layers import mlp
    from jaxnn.losses import binary_cross_entropy

    net = mlp(*work.n, g=getattr(activations, work.activation))
    function = jax.jit(function_of(net, binary_cross_entropy))
    X = jnp.asarray(pixels(work, "train_images")[: work.batch_size])
    Y = jnp.asarray(one_hot(load(work, "train_labels")[: work.batch_size]))
    params = _jaxnn_params(work)
    result = jax.block_until_ready(function(params, X, Y))
    norm = float(optax.tree.norm(result))
    clock = time.perf_counter()
    jax.block_until_ready(function(params, X, Y))
    calls = math.ceil(SHORT / (time.perf_counter() - clock))

    def train(number):
        for _ in range(calls):
            jax.block_until_ready(function(params, X, Y))
        return norm

    return Contender(_jax_device(), train, calls=calls)


def plain_gradient(work: Work) -> Contender:
    """The gradient of the batch."""
    from jaxnn.objective import value_and_grad

    return _of_examples(work, lambda net, loss: lambda *batch: value_and_grad(net, loss)(*batch)[1])


def clipped_gradient(work: Work) -> Contender:
    """The gradient of the batch, each example's clipped, by norms and one weighted backward pass."""
    from jaxnn.per_example import clipped_value_and_grad

    return _of_examples(
        work, lambda net, loss: lambda *batch: clipped_value_and_grad(net, loss, BOUND)(*batch)[1]
    )


def clipped_gradient_by_autodiff(work: Work) -> Contender:
    """The same by vmap(grad): every example's gradient, clipped, and the mean of them."""
    import jax
    import jax.numpy as jnp

    def clipped(net, loss):
        def gradient(params, X, Y):
            each = _each_gradient(net, loss, params, X, Y)
            c = jnp.minimum(1, BOUND / _norms(each))
            return jax.tree.map(lambda g: jnp.tensordot(c, g, axes=1) / len(X), each)

        return gradient

    return _of_examples(work, clipped)


def norms(work: Work) -> Contender:
    """The norm of each example's gradient, by outer products."""
    from jaxnn import per_example

    return _of_examples(work, per_example.norms)


def norms_by_autodiff(work: Work) -> Contender:
    """The norm of each example's gradient, by vmap(grad)."""

    def norms_of(net, loss):
        return lambda *batch: _norms(_each_gradient(net, loss, *batch))

    return _of_examples(work, norms_of)


def _each_gradient(net, loss, params, X, Y):
    import jax

    from jaxnn.objective import cost

    return jax.vmap(jax.grad(cost(net, loss)), (None, 0, 0))(params, X[:, None], Y[:, None])


def _norms(gradients):
    import jax
    import jax.numpy as jnp

    return jnp.sqrt(sum(jnp.sum(jnp.square(g), axis=(1, 2)) for g in jax.tree.leaves(gradients)))


def _jax_device():
    import jax

    device = jax.devices()[0]
    return f"{device.platform} ({device.device_kind})"


def _jax_functions(work):
    """Loss and accuracy as a user of plain JAX writes them, on (x, y), and the same parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    g = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[work.activation]

    def logits(params, x):
        for W, b in params[:-1]:
            x = g(x @ W.T + b)
        W, b = params[-1]
        return x @ W.T + b

    def loss(params, x, y):
        return optax.sigmoid_binary_cross_entropy(logits(params, x), y).sum() / len(x)

    x_test, labels = pixels(work, "test_images"), load(work, "test_labels")
    recognise = jax.jit(lambda params, x: jnp.argmax(logits(params, x), axis=1))

    def accuracy(params):
        return float(np.mean(np.asarray(recognise(params, x_test)) == labels))

    return jax.tree.map(jnp.asarray, initial(work)), loss, accuracy


def jax_loop(work: Work) -> Contender:
    """jax.grad: a jitted step in a Python loop."""
    import jax

    params, loss, accuracy = _jax_functions(work)

    @jax.jit
    def step(params, x, y):
        J, grads = jax.value_and_grad(loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - work.learning_rate * g, params, grads), J

    X, Y = pixels(work, "train_images"), one_hot(load(work, "train_labels"))
    batches = _batches(work, len(X))

    def train(number):
        nonlocal params
        J = []
        for rows in batches(number):
            params, j = step(params, X[rows], Y[rows])
            J.append(j)
        return float(np.mean(jax.device_get(J)))

    return Contender(_jax_device(), train, lambda: accuracy(params))


def jax_scan(work: Work) -> Contender:
    """jax.grad: lax.scan over the epoch."""
    import jax
    import jax.numpy as jnp

    params, loss, accuracy = _jax_functions(work)
    X, Y = jnp.asarray(pixels(work, "train_images")), jnp.asarray(one_hot(load(work, "train_labels")))
    N, B = len(X), work.batch_size

    @jax.jit
    def one_epoch(params, key, X, Y):
        def step(params, rows):
            J, grads = jax.value_and_grad(loss)(params, X[rows], Y[rows])
            return jax.tree.map(lambda p, g: p - work.learning_rate * g, params, grads), J

        order = jax.random.permutation(key, N)[: N // B * B].reshape(-1, B)
        params, J = jax.lax.scan(step, params, order)
        return params, J.mean()

    def train(number):
        nonlocal params
        params, J = one_epoch(params, jax.random.key(number), X, Y)
        return float(J)

    return Contender(_jax_device(), train, lambda: accuracy(params))


def _batches(work, N):
    """The rows of every batch of an epoch, in NumPy."""
    steps = N // work.batch_size

    def batches(number):
        order = np.random.default_rng(number).permutation(N)
        return order[: steps * work.batch_size].reshape(steps, work.batch_size)

    return batches


def equinox(work: Work) -> Contender:
    """Equinox and optax: a filter_jit step in a Python loop."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]
    import jax
    import jax.numpy as jnp
    import optax

    g = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}[work.activation]
    model = eqx.nn.MLP(work.n[0], work.n[-1], work.n[1], len(work.n) - 2, g, key=jax.random.key(0))
    for l, (W, b) in enumerate(initial(work)):
        new = jnp.asarray(W), jnp.asarray(b)
        model = eqx.tree_at(lambda m, l=l: (m.layers[l].weight, m.layers[l].bias), model, new)
    optimizer = optax.sgd(work.learning_rate)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))

    def loss(model, x, y):
        return optax.sigmoid_binary_cross_entropy(jax.vmap(model)(x), y).sum() / len(x)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch, model, opt_state):
        J, grads = eqx.filter_value_and_grad(loss)(model, *batch)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(model, updates), opt_state, J

    X, Y = pixels(work, "train_images"), one_hot(load(work, "train_labels"))
    batches = _batches(work, len(X))
    x_test, labels = pixels(work, "test_images"), load(work, "test_labels")
    recognise = eqx.filter_jit(lambda model, x: jnp.argmax(jax.vmap(model)(x), axis=1))

    def train(number):
        nonlocal model, opt_state
        J = []
        for rows in batches(number):
            model, opt_state, j = step((X[rows], Y[rows]), model, opt_state)
            J.append(j)
        return float(np.mean(jax.device_get(J)))

    def accuracy():
        return float(np.mean(np.asarray(recognise(model, x_test)) == labels))

    return Contender(_jax_device(), train, accuracy)


def flax(work: Work) -> Contender:
    """Flax NNX and optax: a cached nnx.jit step in a Python loop."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx  # pyright: ignore[reportMissingImports]

    rngs = nnx.Rngs(0)
    linear = [nnx.Linear(*sizes, rngs=rngs) for sizes in zip(work.n[:-1], work.n[1:], strict=True)]
    for layer, (W, b) in zip(linear, initial(work), strict=True):
        layer.kernel[...] = jnp.asarray(W.T)
        layer.bias[...] = jnp.asarray(b)
    g = {"sigmoid": nnx.sigmoid, "relu": nnx.relu}[work.activation]
    model = nnx.Sequential(*[part for layer in linear[:-1] for part in (layer, g)], linear[-1])
    optimizer = nnx.Optimizer(model, optax.sgd(work.learning_rate), wrt=nnx.Param)

    def loss(model, x, y):
        return optax.sigmoid_binary_cross_entropy(model(x), y).sum() / len(x)

    @nnx.jit
    def step(model, optimizer, x, y):
        J, grads = nnx.value_and_grad(loss)(model, x, y)
        optimizer.update(model, grads)
        return J

    @nnx.jit
    def recognise(model, x):
        return jnp.argmax(model(x), axis=1)

    cached_step = nnx.cached_partial(step, model, optimizer)
    X, Y = pixels(work, "train_images"), one_hot(load(work, "train_labels"))
    batches = _batches(work, len(X))
    x_test, labels = pixels(work, "test_images"), load(work, "test_labels")

    def train(number):
        J = [cached_step(X[rows], Y[rows]) for rows in batches(number)]
        return float(np.mean(jax.device_get(J)))

    def accuracy():
        return float(np.mean(np.asarray(recognise(model, x_test)) == labels))

    return Contender(_jax_device(), train, accuracy)


def torch_eager(work: Work) -> Contender:
    """PyTorch, eager, all data on the device."""
    return _torch(work, compiled=False)


def torch_compiled(work: Work) -> Contender:
    """PyTorch, torch.compile; on a GPU with CUDA graphs."""
    return _torch(work, compiled=True)


def _torch(work, compiled):
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn.functional import binary_cross_entropy_with_logits  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU}[work.activation]
    linear = [torch.nn.Linear(*sizes) for sizes in zip(work.n[:-1], work.n[1:], strict=True)]
    with torch.no_grad():
        for layer, (W, b) in zip(linear, initial(work), strict=True):
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b))
    model = torch.nn.Sequential(*[part for layer in linear[:-1] for part in (layer, g())], linear[-1])
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), work.learning_rate, fused=True)

    def loss(x, y):
        return binary_cross_entropy_with_logits(model(x), y, reduction="sum") / len(x)

    if compiled:
        loss = torch.compile(loss, mode="reduce-overhead" if device == "cuda" else "default")

    X = torch.from_numpy(pixels(work, "train_images")).to(device)
    Y = torch.from_numpy(one_hot(load(work, "train_labels"))).to(device)
    x_test = torch.from_numpy(pixels(work, "test_images")).to(device)
    labels = torch.from_numpy(load(work, "test_labels")).to(device)
    N, B = len(X), work.batch_size

    def train(number):
        generator = torch.Generator(device).manual_seed(number)
        order = torch.randperm(N, device=device, generator=generator)
        total = torch.zeros((), device=device)
        for rows in order[: N // B * B].view(-1, B):
            optimizer.zero_grad()
            J = loss(X[rows], Y[rows])
            J.backward()
            optimizer.step()
            total += J.detach()
        return float(total) / (N // B)

    @torch.no_grad()
    def accuracy():
        return float((model(x_test).argmax(1) == labels).float().mean())

    return Contender(torch.cuda.get_device_name() if device == "cuda" else "cpu", train, accuracy)


def scikit_learn(work: Work) -> Contender:
    """scikit-learn's MLPClassifier, one partial_fit an epoch (it also takes the last, smaller batch)."""
    from sklearn.neural_network import MLPClassifier

    X, Y = pixels(work, "train_images"), one_hot(load(work, "train_labels")).astype(int)
    x_test, labels = pixels(work, "test_images"), load(work, "test_labels")
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


def numpy(work: Work) -> Contender:
    """NumPy, the lecture's equations on whole batches."""
    X, Y = pixels(work, "train_images"), one_hot(load(work, "train_labels"))
    x_test, labels = pixels(work, "test_images"), load(work, "test_labels")
    params = initial(work)
    batches = _batches(work, len(X))

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
        total = 0.0
        for rows in batches(number):
            x, y = X[rows], Y[rows]
            A, Z = forward(x)
            total += float(np.sum(np.logaddexp(0, Z) - y * Z)) / len(x)
            dZ = (sigmoid(Z) - y) / len(x)
            for l in reversed(range(len(params))):
                W, b = params[l]
                dW, db = dZ.T @ A[l], dZ.sum(axis=0)
                if l:
                    dZ = dZ @ W * slope(A[l])
                W -= work.learning_rate * dW
                b -= work.learning_rate * db
        return total / len(batches(number))

    return Contender("cpu", train, lambda: float(np.mean(forward(x_test)[1].argmax(axis=1) == labels)))


CONTENDERS = {
    "jaxnn, manual": jaxnn_manual,
    "jaxnn, autodiff": jaxnn_autodiff,
    "jax.grad in lax.scan": jax_scan,
    "jax.grad in a loop": jax_loop,
    "NumPy": numpy,
    "Equinox": equinox,
    "Flax NNX": flax,
    "PyTorch, eager": torch_eager,
    "PyTorch, compiled": torch_compiled,
    "scikit-learn": scikit_learn,
}
REFERENCES = {"matrix products alone": products, "one batch, ready": one_batch}
FAMILY = {"one network": jaxnn_manual, "all at once": family, "large product": large_product}
EXAMPLES = {
    "plain gradient": plain_gradient,
    "norms": norms,
    "norms, vmap(grad)": norms_by_autodiff,
    "clipped gradient": clipped_gradient,
    "clipped gradient, vmap(grad)": clipped_gradient_by_autodiff,
}


def main(name: str, work: Work) -> None:
    """Prepare, and answer the lines on standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may speak on standard output

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    try:
        contender = (CONTENDERS | REFERENCES | FAMILY | EXAMPLES)[name](work)
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    answer(device=contender.device, memory=contender.memory)
    number = work.first
    for line in sys.stdin:
        if line.strip() == "train":
            number += 1
            clock = time.perf_counter()
            loss = contender.train(number)
            answer(seconds=(time.perf_counter() - clock) / contender.calls, loss=loss)
        else:
            answer(accuracy=contender.accuracy())
    return None
