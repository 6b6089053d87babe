"""Cases of the class and the functions in unusual clothes: what is found, how it is called, and what is not let through."""

from tests.corpus.base import lora
from tests.corpus.unseen_class import INIT

# ---- wrong: works in train mode only, so that no output in eval mode tells whether A and B had any effect
TRAINS = "assert self.training, 'this layer is for training'\n"
USUAL = "return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)"
lora("train-mode-only", INIT, TRAINS + USUAL, loses="lora/forward lora/rank-scaling")
lora(
    "train-mode-only-detached",
    INIT,
    TRAINS + USUAL.replace("self.A.T @ self.B.T", "self.A.detach().T @ self.B.detach().T"),
    loses="lora/forward lora/rank-scaling lora/gradients",
)
