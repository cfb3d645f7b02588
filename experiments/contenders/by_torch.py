"""PyTorch: eager and compiled, all data on the device."""

from experiments.contenders.work import Contender, Work, initial, test_data, train_data


def eager(work: Work) -> Contender:
    """Each operation as it comes."""
    return _loop(work, compiled=False)


def compiled(work: Work) -> Contender:
    """torch.compile; on a GPU with CUDA graphs."""
    return _loop(work, compiled=True)


def _loop(work, compiled):
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

    X, Y = (torch.from_numpy(array).to(device) for array in train_data(work))
    x_test, labels = (torch.from_numpy(array).to(device) for array in test_data(work))
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
