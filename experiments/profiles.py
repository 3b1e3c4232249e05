"""How large the experiments are: the only place where a profile's numbers stand."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    """One size of all experiments.

    Attributes:
        seeds: how many.
        inception, resnet: networks of `experiments.models`.
        size, in_channels, classes: of the images.
        data: arguments of `experiments.train` for the data.
        training: its other arguments, the same for all.
        rate: the teachers' learning rate at its peak.
        warmup: of all that starts from nothing.
        teacher, scratch, student, early: steps of teachers, of training from scratch, of students, and of the teacher
            that grows early.
        dropout: of the students that are trained with it.
        noise: of the copies in `equal` with noise.
        deepen: globs of the layers behind which new ones are put.
        block: a residual block of the ResNet that is repeated.
        arms: patterns of the names of the trainings that it has.
        note: how its sizes were chosen, for the document.
    """

    seeds: int
    inception: str
    resnet: str
    size: int
    in_channels: int
    classes: int
    data: str
    training: str
    rate: float
    warmup: int
    teacher: int
    scratch: int
    student: int
    early: int
    dropout: float
    noise: float
    deepen: tuple[str, ...]
    block: str
    arms: tuple[str, ...] = ("*",)
    note: str = ""


NARROW = 0.3**0.5
"""Width of the paper's teacher: its modules have 30 % of the parameters of the standard one's."""

RATES = (0.1, 0.3, 1.0)
"""Learning rates of students, in units of the teachers': the paper's tenth, and others."""

RATE = 0.3
"""That of all students where the learning rate is not the question."""

DEEPEN = ("**.conv3x3.conv", "**.conv3x3_2.conv")

QUICK = Profile(
    seeds=5,
    inception="tiny-inception",
    resnet="tiny-resnet",
    size=14,
    in_channels=1,
    classes=10,
    data="--data fashion-mnist --size 14 --train-images 20000 --valid-images 2000",
    training=("--augment flip --batch 64 --accelerator cpu --eval-every 50 --eval-at 10 30 --save-every 200"),
    rate=3e-3,
    warmup=40,
    teacher=600,
    scratch=600,
    student=200,
    early=200,
    dropout=0.1,
    noise=0.05,
    deepen=DEEPEN,
    block="layer1.0",
    note=(
        "after results were seen: a first run, of one seed, had a quarter of the filters, 12,000 images and 800, 720 "
        "and 240 steps; its teacher ended above training from scratch (0.8645, 0.8615), so that nothing was left to win"
    ),
)

LONG = replace(
    QUICK,
    teacher=1800,
    scratch=1800,
    student=600,
    early=600,
    arms=("teacher", "scratch-wider", "wider-*-0.1", "wider-*-1.0", "pad-0.1", "again-0.1", "again-1.0"),
    note=(
        "after the results of `quick` were seen, whose teacher would have gained as much by going on: all is trained "
        "for three times as long, and the wider network alone"
    ),
)

FULL = Profile(
    seeds=5,
    inception="small-inception",
    resnet="resnet20",
    size=28,
    in_channels=1,
    classes=10,
    data="--data fashion-mnist",
    training=(
        "--augment crop --batch 512 --eval-every 50 --eval-at 10 20 --eval-batch 2500 --save-every 500 --tensorboard"
    ),
    rate=3e-3,
    warmup=100,
    teacher=2250,
    scratch=1500,
    student=500,
    early=500,
    dropout=0.1,
    noise=0.05,
    deepen=DEEPEN,
    block="layer2.1",
    note=(
        "before any result; it is longer than was thought: what is here, 36 of 215 trainings, took 500 seconds of an "
        "H200 that 15 processes shared under MPS, in an order that put the longest trainings first"
    ),
)

IMAGENET = Profile(
    seeds=1,
    inception="inception",
    resnet="resnet50",
    size=224,
    in_channels=3,
    classes=1000,
    data="--data imagefolder --data-dir imagenet --size 224",
    training=(
        "--augment crop --batch 1024 --channels-last --precision bf16-mixed --workers 12 --optim sgd "
        "--weight-decay 1e-4 --ema 0.9999 --strategy auto --devices auto --eval-every 1251 --eval-at 10 100 "
        "--save-every 1000 --tensorboard"
    ),
    rate=0.4,
    warmup=6255,
    teacher=112_590,
    scratch=112_590,
    student=37_530,
    early=37_530,
    dropout=0.1,
    noise=0.05,
    deepen=DEEPEN,
    block="layer2.1",
)

DEFAULT = "quick"
PROFILES = {"quick": QUICK, "long": LONG, "full": FULL, "imagenet": IMAGENET}
