"""A loss of your own: Tversky (Salehi et al. 2017) beside cross-entropy; trains some steps, stops and resumes.

python examples/own_loss.py

On the command line, in the folder of this file:
crisscross train demo --data DATA --out RUN --set 'loss.terms=[{name: cross_entropy}, {name: own_loss:tversky}]'
"""

import signal
import tempfile
from pathlib import Path

from torch import Tensor
from torch.nn import functional

import crisscross
from crisscross import zoo
from crisscross.config import override
from crisscross.data.scenes import write_scenes
from crisscross.engine.loop import Step
from crisscross.engine.train import train
from crisscross.losses import LossInputs

# The cost of a pixel that is wrongly given to a class, and of a pixel of the class that is missed.
FALSE_POSITIVE, FALSE_NEGATIVE = 0.3, 0.7


def tversky(inputs: LossInputs) -> Tensor:
    """The mean over classes of 1 - tp / (tp + 0.3 fp + 0.7 fn), from probabilities; 1 pixel is added on both sides."""
    valid, classes = inputs.valid[..., None], inputs.logits.shape[1]
    truth = functional.one_hot(inputs.labels.long().where(inputs.valid, 0), classes) * valid
    found = inputs.probabilities.movedim(1, -1) * valid
    tp, fp, fn = (part.sum(dim=(0, 1, 2)) for part in (found * truth, found * (1 - truth), (1 - found) * truth))
    return (1 - (tp + 1) / (tp + FALSE_POSITIVE * fp + FALSE_NEGATIVE * fn + 1)).mean()


def stop_after_three(step: Step) -> None:
    """Show the term's part of the loss; the third time, do as Ctrl-C does."""
    print(f"step {step.iteration}: Tversky {step.parts['own_loss.tversky']:.3f}")
    if step.iteration == 3:
        signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    terms = "loss.terms=[{name: cross_entropy}, {name: own_loss:tversky}]"
    changes = [terms, "train.iterations=5", "optim.warmup=1", "train.batch=2", "augment.crop=[64, 128]"]
    with tempfile.TemporaryDirectory() as temporary:
        data, run = Path(temporary, "data"), Path(temporary, "run")
        write_scenes(data, {"train": 8, "val": 2, "test": 2}, height=64, width=128)
        what = override(zoo.recipe("demo"), changes), crisscross.open_dataset("folder", data), run
        print("finished:", train(*what, listener=stop_after_three).finished)
        print("resumed and finished:", train(*what, listener=stop_after_three, resume=True).finished)
        # Weights that name code load from a folder that you trust.
        print("terms:", [term.name for term in crisscross.load(run, trust=run).experiment.loss.terms])
