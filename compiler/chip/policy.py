"""How much of the banks and stores of a chip an epoch may take."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class BankPolicy:
    """Shares of W banks, parameter sets and program stores.

    Parameters
    ----------
    bank_share : float
        What an epoch may take, more than 0 and at most 1: with a quarter, words for three more can be on their way.
    first_epoch_share : float
        Of that, what the first epoch may take: nothing hides its loads.
    traffic : float
        What a cycle costs a mapping in which the memory, if it were as wide as the buses, is busy, more than 0: more than 1 if it
        is slower, or if it, and not the pods, is what a run waits for.
    must_fit : bool
        All operations must fit into one epoch, so mappings spare the banks, and what does not fit is refused when all is known.
        Else mappings are chosen as if the epoch had just begun, and what does not fit is for the next one.
    """

    bank_share: float = 0.25
    first_epoch_share: float = 0.25
    traffic: float = 1.0
    must_fit: bool = False

    def __post_init__(self) -> None:
        for name in ("bank_share", "first_epoch_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be more than 0 and at most 1, got {getattr(self, name)}")
        if self.traffic <= 0:
            raise ValueError(f"traffic must be more than 0, got {self.traffic}")

    @property
    def first(self) -> BankPolicy:
        """That of the first epoch alone."""
        return replace(self, bank_share=self.bank_share * self.first_epoch_share)


WHOLE_CHIP = BankPolicy(bank_share=1.0, first_epoch_share=1.0, must_fit=True)
"""One epoch that has all there is."""
EASY = BankPolicy(bank_share=1.0, first_epoch_share=1.0)
"""An epoch that may take all, and need not."""
