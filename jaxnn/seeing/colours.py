"""The colours of every picture and page: for light and dark grounds, told apart by colour-blind eyes too."""

# name: (on a light ground, on a dark one)
COLOURS = {
    "ground": ("#ffffff", "#14171a"),
    "card": ("#f6f7f9", "#1d2125"),
    "text": ("#1a1a1a", "#e8eaed"),
    "muted": ("#5f6368", "#a3a9b0"),
    "line": ("#d5d9de", "#3b4249"),
    "forward": ("#0072b2", "#56b4e9"),
    "backward": ("#b34700", "#f2a15f"),
    "parameter": ("#00785a", "#4fd1a5"),
    "kept": ("#6f767d", "#8f969d"),
    "wrong": ("#b3261e", "#ff8a80"),
    "focus": ("#7a3ff2", "#c0a3ff"),
}
LESS, NONE, MORE = (94, 60, 153), (247, 247, 247), (230, 97, 1)  # of an image: negative, zero, positive


def css() -> str:
    """The colours as variables: `var(--forward)` and so on, as the reader's system has it.

    >>> css().splitlines()[1]
    '@media(prefers-color-scheme:dark){:root{--ground:#14171a;--card:#1d2125;--text:#e8eaed;...}}'
    """
    light, dark = (";".join(f"--{name}:{pair[k]}" for name, pair in COLOURS.items()) for k in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
