"""What tests let an epoch take."""

from podweave.compiler.chip.policy import BankPolicy


def policy(share: float, first: float = 1.0) -> BankPolicy:
    """``first``: of ``share``, what the first epoch may take."""
    return BankPolicy(bank_share=share, first_epoch_share=first)


HALF = policy(0.5)
