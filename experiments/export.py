"""Write the network of a run as a file that other programs use.

npz: the arrays, for NumPy. torch: safetensors with the names and shapes of PyTorch's state_dict. stablehlo:
the function from images, as the data set has them, to Ŷ, for jax.export.deserialize and others.
"""

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

from experiments.common.arguments import (
    Parser,
    UserError,
    add_surroundings,
    new_file,
    run,
    run_folder,
    use_device,
)
from jaxnn.shown import shown

MODULES = {
    "sigmoid": ["Sigmoid"],
    "tanh": ["Tanh"],
    "relu": ["ReLU"],
    "leaky_relu": ["LeakyReLU", 0.01],
    "softplus": ["Softplus"],
    "silu": ["SiLU"],
    "gelu": ["GELU"],
    "identity": ["Identity"],
    "softmax": ["Softmax", 1],
}  # of torch.nn, with what they are made with
ENDINGS = {"npz": ".npz", "torch": ".safetensors", "stablehlo": ".stablehlo"}  # of the names of files
PLATFORMS = ("cpu", "cuda", "tpu")


def absent(text: str) -> Path:
    """The type of a file that is not there yet."""
    path = new_file(text)
    if os.path.lexists(path):
        raise argparse.ArgumentTypeError(f"{text!r:.200} exists; expected a new file")
    return path


def parser() -> Parser:
    """The arguments of this program."""
    p = Parser(prog="python -m experiments.export", description=__doc__)
    p.add_argument(
        "run_dir", type=run_folder, metavar="RUN", help="the folder that --out of a training named"
    )
    p.add_argument("file", type=absent, metavar="FILE", help="a new file, such as net.npz")
    p.add_argument("--to", choices=FORMS, required=True, help="what to write")
    p.add_argument("--best", action="store_true", help="of its best epoch; default: of its last")
    add_surroundings(p)
    return p


def main(arguments: argparse.Namespace) -> int:
    """Write it, whole or not at all, and say what it holds."""
    form, file = arguments.to, arguments.file
    if file.suffix not in ("", ENDINGS[form]):
        meant = next((name for name, ending in ENDINGS.items() if ending == file.suffix), None)
        other = f", or --to {meant}" if meant else ""
        raise UserError(
            f"FILE: got {str(file)!r:.80} for --to {form}, whose files end in {ENDINGS[form]}; "
            f"write {shown(file.with_suffix(ENDINGS[form]))}{other}"
        )
    use_device(arguments.device)

    from experiments.common import saved
    from jaxnn.runs import files

    content, said = FORMS[form](saved.load(arguments), arguments.run_dir)
    files.replace(absent(str(file)), content)
    print(f"wrote     {file}, {len(content):,} bytes: {said}")
    return 0


def npz(it, run_dir: Path) -> tuple[bytes, str]:
    """The parameters under the lecture's names, and, as text and numbers, what else Ŷ is made with."""
    import numpy as np

    from jaxnn.runs import record

    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in record.names(it.params).items()}
    g = {} if it.settings.get("network") else {"activation": it.settings["activation"]}
    beside = {"network": str(it.net), **g, "output": it.loss.activation.name, **coded(it.data)}
    content = io.BytesIO()
    np.savez(content, **arrays | beside)
    return content.getvalue(), f"{listed(arrays)}; and {', '.join(beside)}"


def torch(it, run_dir: Path) -> tuple[bytes, str]:
    """The state_dict of nn.Sequential(Linear, g, Linear, ...) up to Z[L], and in the metadata its modules."""
    import numpy as np
    from safetensors.numpy import save

    from experiments.common import own

    own.lecture_only(it.settings, run_dir, "torch.nn", own.PIECES, "--to npz or --to stablehlo")
    g, arrays, modules = MODULES[it.settings["activation"]], {}, []
    for W, b in it.params:
        arrays[f"{len(modules)}.weight"] = np.ascontiguousarray(W)
        arrays[f"{len(modules)}.bias"] = np.ascontiguousarray(b)[:, 0]
        modules += [["Linear", *W.shape[::-1]], g]
    texts = {"sequence": modules[:-1], "output": MODULES[it.loss.activation.name], **coded(it.data)}
    metadata = {name: json.dumps(value) for name, value in texts.items()}
    return save(arrays, metadata), f"{listed(arrays)}; and {', '.join(metadata)}"


def stablehlo(it, run_dir: Path) -> tuple[bytes, str]:
    """The function from images (N, height, width), or rows, of any N, to Ŷ, with the parameters in it.

    They are as the data have them: columns are standardised in it, and a number is given in its own units.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    known = {
        name: jnp.asarray(value, jnp.float32) for name, value in coded(it.data).items() if name in NUMBERS
    }

    inverted = "inverted" in coded(it.data)

    def Y_hat(images):
        X = images.reshape(images.shape[0], -1).astype(jnp.float32)
        X = (X - known["mean"][None]) / known["spread"][None] if "mean" in known else X / known["white"]
        X = 1 - X if inverted else X
        Z, _ = it.net.forward(it.params, X)
        Y = it.loss.activation.forward(Z)
        return Y if it.data.classes else Y * known["unit"] + known["middle"]

    images = it.data.test.images
    shape = export.symbolic_shape(", ".join(["N", *map(str, images.shape[1:])]))
    try:
        exported = export.export(jax.jit(Y_hat), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, images.dtype)
        )
    except Exception as error:  # a layer of one's own may ask for N, or for a platform
        why = " ".join(str(error).split())[:200]
        instead = "; write A.shape[0] in place of len(A)" * ("_DimExpr" in why)
        raise UserError(f"{run_dir}: {it.net} cannot be exported for any N ({why}){instead}") from error
    (given,), (found,) = exported.in_avals, exported.out_avals
    said = f"{it.data.what} {given.dtype} {_shape(given)} to Ŷ {found.dtype} {_shape(found)}"
    return bytes(exported.serialize()), f"{said}, for {', '.join(PLATFORMS)}"


NUMBERS = ("white", "mean", "spread", "middle", "unit")


def coded(data) -> dict[str, Any]:
    """How the data become X, and Ŷ a class or a number: X = images / white, or (rows − mean) / spread.

    Of images that are inverted X = 1 − images / white.
    """
    if not data.origin:
        return {"white": data.white}
    coding = data.origin.coding
    found = {"mean": coding.mean, "spread": coding.spread} if coding.mean else {"white": coding.white}
    found |= {"columns": coding.columns} if coding.columns else {}
    found |= {"inverted": True} if coding.inverted else {}
    return found | (
        {"names": coding.names} if data.classes else {"middle": coding.middle, "unit": coding.unit}
    )


def listed(names) -> str:
    """Names in a row, of many the first and the last."""
    names = [*names]
    return ", ".join(names if len(names) <= 8 else [*names[:4], "…", *names[-2:]])


def _shape(array) -> str:
    return f"({', '.join(map(str, array.shape))})"


FORMS = {"npz": npz, "torch": torch, "stablehlo": stablehlo}


if __name__ == "__main__":
    run(main, parser())
