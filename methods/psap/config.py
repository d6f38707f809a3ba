"""The settings of PSAP-R."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from methods.families.limits import Count, NotNegative, Positive, ShareOrAll
from methods.families.structured.soft import SoftSettings
from methods.psap.pulse import Statistic
from methods.psap.sparsity import Threshold

MOST = 0.9  # the largest share of a layer that may be removed
RAMP = 0.5  # the share of the training during which the removed share grows


@dataclass(frozen=True)
class Config(SoftSettings):
    """The settings of PSAP-R.

    Layer shares follow sparsity ratios: `threshold` at `level`, of weights `normalised` by layer or not. Shares move
    towards the ratios by `adaptation` and never exceed MOST. `schedule` sets how the removed share grows during the
    first half of the training (RAMP).

    After filters are set to zero, `statistic` is computed on `pulse` batches of `batch` images. Filters with at least
    `theta` times the median are restored and protected for `hold` prunings; `theta` 0 restores none. With `mode` "soft",
    zero filters may grow again; with "hard" they may not.
    """

    threshold: Threshold = "global_quantile"
    level: Positive = 0.3
    normalised: bool = False
    adaptation: ShareOrAll = 0.5
    schedule: Literal["constant", "cubic"] = "cubic"
    pulse: Count = 5
    statistic: Statistic = "gate"
    theta: NotNegative = 3.0
    hold: Annotated[int, Meta(ge=0, le=10**6)] = 2
    mode: Literal["soft", "hard"] = "soft"
    start: Literal["pretrained", "scratch"] = "pretrained"
    prunings: Count = 10
