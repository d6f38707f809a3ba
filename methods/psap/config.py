"""The settings of PSAP-R."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from methods.families.limits import Count, NotNegative, Positive, ShareOrAll
from methods.families.structured.soft import SoftSettings
from methods.psap.pulse import Statistic
from methods.psap.sparsity import Threshold

MOST = 0.9  # the largest share of a layer that may go


@dataclass(frozen=True)
class Config(SoftSettings):
    """Sparsity ratios by `threshold` (at `level`; of weights `normalised` by layer or not) set the layers' shares, which
    move by `adaptation` towards them and never exceed MOST. `schedule` says how the share removed grows, over `ramp`.

    After filters are set to zero, `pulse` batches of `batch` images show which the loss wants back by `statistic`: those
    with at least `theta` times the median return and stay for `hold` prunings; 0 protects none. `mode` "soft" lets
    zeros grow again, "hard" does not.
    """

    threshold: Threshold = "global_quantile"
    level: Positive = 0.3
    normalised: bool = False
    adaptation: ShareOrAll = 0.5
    schedule: Literal["constant", "cubic"] = "cubic"
    ramp: ShareOrAll = 0.5
    pulse: Count = 5
    statistic: Statistic = "gate"
    theta: NotNegative = 3.0
    hold: Annotated[int, Meta(ge=0)] = 2
    mode: Literal["soft", "hard"] = "soft"
    start: Literal["pretrained", "scratch"] = "pretrained"
    prunings: Count = 10
