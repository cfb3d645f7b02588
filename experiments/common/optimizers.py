"""The optimizers that can be chosen, as optax names them, and the learning rates they have unless told."""

OPTIMIZERS = {"sgd": 0.5, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}


def steepness(optimizer: str, predicts_number: bool) -> int:
    """By what a usual learning rate is divided: more where a number is predicted, by its squared error."""
    return 10 if predicts_number and optimizer == "sgd" else 1
