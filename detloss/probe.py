"""The gradient probe: how hard any loss pulls and pushes the logits of each class, seen while training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from detloss import distributed
from detloss.gradients import ClassGradients
from detloss.losses import DetectionLoss, Samples
from detloss.losses.dense import CHUNK, GPU_CHUNK

WINDOWS = 200
"""The most windows of a run, so that its lines stay few however long it is."""

Features = Tensor | list[Tensor]


class GradientProbe:
    """Sums the gradient of every ``every``-th step, by class, over micro batches and ranks.

    It looks at the final loss's gradient on the classes' columns of ``samples.logits``, not on those of background
    or objectness, and at the norms of the gradients that the class and the box branch send back to the features
    they share. Its hooks are there for those steps only and change no gradient. Sums are those of the step's own
    loss: the mean over ranks, without the scale of mixed precision.

    A window is ``every`` steps, or as many times that as keep a run at `WINDOWS`. Sums of an unfinished window are
    part of the checkpoint (``state_dict``).
    """

    def __init__(
        self, detector: nn.Module, scaler: torch.amp.GradScaler, *, every: int | None, last_step: int
    ) -> None:
        """Look into ``detector``; ``every`` None or 0 turns the probe off."""
        self.every = every or 0
        self._scaler = scaler
        self._losses = classification_losses(detector)
        self._branches = branches(detector)
        self._device = next(detector.parameters()).device
        self._last_step = last_step
        self._window = self.every * math.ceil(last_step / (self.every * WINDOWS)) if self.every else 0
        self._sums, self._squares = self._zeros()
        self._pending, self._norms = torch.zeros_like(self._sums.cpu()), torch.zeros_like(self._squares.cpu())
        self._steps, self._least, self._most = 0, math.inf, -math.inf

    @contextmanager
    def on_step(self, number: int) -> Iterator[None]:
        """Watch what is computed inside if step ``number``, counted from 0, is one to be looked at."""
        if not self.every or number % self.every:
            yield
            return
        scale = self._scaler.get_scale()  # the update changes it
        self._sums, self._squares = self._zeros()
        handles = [loss.register_forward_pre_hook(self._before_loss) for loss in self._losses]
        handles += [
            branch.register_forward_pre_hook(self._before_branch(index))
            for index, branch in enumerate(self._branches)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self._take_in(scale)

    def window_ends(self, step: int) -> bool:
        """Whether a window ends with ``step`` steps done, with something in it."""
        return self._steps > 0 and (step % self._window == 0 or step == self._last_step)

    def end_window(self, groups: Sequence[str]) -> tuple[dict[str, float | None], ClassGradients]:
        """Return the window's scalars and its sums by class, and begin the next.

        ``ratio_min`` and ``ratio_max`` are of single steps, since the run began: the rates of aLRP's Fig. 4.

        Args:
            groups: r, c or f for every class.
        """
        found = ClassGradients(*self._pending.numpy().copy())
        classification, box = (self._norms / self._steps).tolist()
        by_group = {f"ratio_{name}": ratio for name, ratio in found.group_ratios(groups).items()}
        values = {
            "ratio": found.ratio(),
            **by_group,
            "ratio_min": self._least if self._least < math.inf else None,
            "ratio_max": self._most if self._most > -math.inf else None,
            "classification_norm": classification,
            "box_norm": box,
        }
        self._pending.zero_()
        self._norms.zero_()
        self._steps = 0
        return {f"gradient/{name}": value for name, value in values.items()}, found

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs to go on in the middle of a window; the same on every rank."""
        counters = torch.tensor([self._steps, self._least, self._most], dtype=torch.float64)
        return {"sums": self._pending.clone(), "norms": self._norms.clone(), "counters": counters}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._pending, self._norms = state["sums"].clone(), state["norms"].clone()
        steps, self._least, self._most = state["counters"].tolist()
        self._steps = int(steps) if self.every else 0

    def _zeros(self) -> tuple[Tensor, Tensor]:
        """Return sums by class [3, C], and squared norms [2] of the class and the box branch."""
        options = {"dtype": torch.float64, "device": self._device}
        classes = self._losses[0].coder.num_classes
        return torch.zeros(3, classes, **options), torch.zeros(2, **options)  # type: ignore[call-overload]

    def _before_loss(self, loss: nn.Module, inputs: tuple[Samples]) -> None:
        (samples,) = inputs
        assert isinstance(loss, DetectionLoss)
        if not samples.logits.requires_grad:
            return
        columns = loss.coder.class_columns.to(samples.logits.device)
        labels, foreground = samples.labels, samples.foreground  # not the logits, which would hold themselves

        def add(gradient: Tensor) -> None:
            self._sums += class_sums(gradient, labels, foreground, columns)

        samples.logits.register_hook(add)

    def _before_branch(self, index: int) -> Callable[[nn.Module, tuple[Features]], tuple[Features]]:
        """Return a hook that hands branch ``index`` views of its features, whose gradients are its alone."""

        def add(gradient: Tensor) -> None:
            kind = torch.promote_types(gradient.dtype, torch.float32)
            self._squares[index] += torch.linalg.vector_norm(gradient, dtype=kind).double().square()

        def watched(features: Tensor) -> Tensor:
            view = features.view_as(features)
            if view.requires_grad:
                view.register_hook(add)
            return view

        def before(branch: nn.Module, inputs: tuple[Features]) -> tuple[Features]:
            (features,) = inputs
            return (watched(features) if isinstance(features, Tensor) else [watched(level) for level in features],)

        return before

    def _take_in(self, scale: float) -> None:
        """Add the step to the window; with a gradient that is not finite the scaler skips it, and so do we."""
        sums = distributed.mean_over_ranks(self._sums).cpu() / scale
        # A rank's features get 1 / ranks of its own loss's gradient; squares add up over ranks.
        squares = distributed.sum_over_ranks(self._squares).cpu() / (scale * distributed.world_size()) ** 2
        if not (sums.isfinite().all() and squares.isfinite().all()):
            return
        self._pending += sums
        self._norms += squares.sqrt()
        self._steps += 1
        rate = ClassGradients(*sums.numpy()).ratio()
        if rate is not None:
            self._least, self._most = min(self._least, rate), max(self._most, rate)


def classification_losses(detector: nn.Module) -> list[DetectionLoss]:
    """Return the losses of the detector's classes: all but that of a region proposal network."""
    return [
        module
        for name, module in detector.named_modules()
        if isinstance(module, DetectionLoss) and not name.startswith("rpn.")
    ]


def branches(detector: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return the modules that classify and that regress boxes from the same features."""
    if isinstance(detector, GeneralizedRCNN):
        predictor = detector.roi_heads.box_predictor
        return predictor.cls_score, predictor.bbox_pred
    head = detector.get_submodule("head")
    return head.get_submodule("classification_head"), head.get_submodule("regression_head")


def class_sums(gradient: Tensor, labels: Tensor, foreground: Tensor, columns: Tensor) -> Tensor:
    """Return sums of |gradient| by class, [3, C] float64: own rows, foreground rows of others, background rows.

    Args:
        gradient: [N, L].
        labels: [N], 0..C-1 or, for background, C.
        foreground: [P], the rows that are foreground; ignored rows have no gradient.
        columns: [C], the classes' columns among the L.
    """
    rows = gradient[foreground].abs().double()
    own_columns = columns[labels[foreground]]
    own = rows.new_zeros(rows.shape[1]).index_add_(0, own_columns, rows.gather(1, own_columns[:, None]).squeeze(1))
    rows.scatter_(1, own_columns[:, None], 0.0)
    background = torch.zeros_like(own)
    is_background = background.new_ones(len(gradient)).index_fill_(0, foreground, 0.0)
    # In float64, as a million tiny terms add up; in parts, as dense heads fill a gigabyte at 1,203 classes.
    step = max(1, (CHUNK if gradient.device.type == "cpu" else GPU_CHUNK) // gradient.shape[1])
    for part, weights in zip(gradient.split(step), is_background.split(step), strict=True):
        background += part.abs().double().t().mv(weights)
    return torch.stack([own, rows.sum(dim=0), background])[:, columns]
