"""Numbers of norms without the mean: shifts that the number of channels asks for, and epsilon in the units that they leave."""

from .quantise import norm_epsilon


def layer_norm_epsilon(epsilon: float, channels: int, shift: int, fraction: int = 12) -> int:
    """`norm_epsilon` for a norm of what is left of rows without their mean (`golden.layers.norm.layer_norm`).

    Parameters
    ----------
    epsilon, channels, shift, fraction : float, int, int, int
        As those of `norm_epsilon`.

    Returns
    -------
    int
        ``round(epsilon * channels * 4**(fraction - shift) * (channels / 2**bits)**2)`` with the fewest bits for which 2**bits is
        at least ``channels``: so many times as large as rows shifted right by ``shift`` is what is squared.

    Raises
    ------
    ValueError
        If ``epsilon`` is negative or not finite.

    Examples
    --------
    By hand: 1e-5 * 768 * 2**24 = 128849.0, times 9/16.

    >>> layer_norm_epsilon(1e-5, 768, 0)
    72478
    """
    return norm_epsilon(epsilon * (channels / (1 << channel_bits(channels))) ** 2, channels, shift, fraction)


def channel_bits(channels: int) -> int:
    """The fewest bits for which 2**bits is at least ``channels``."""
    return (channels - 1).bit_length()


def mean_shifts(channels: int, shift: int) -> tuple[int, int]:
    """How a norm without the mean shares out the bits by which its rows are shifted.

    Parameters
    ----------
    channels : int
        Of a row, at least 1.
    shift : int
        By which rows that come fit 16 bits.

    Returns
    -------
    before, behind : int
        What rows are shifted by before they are multiplied by the number of their channels, so that products fit 32 bits: 0 if
        they do as they are; and what is shifted by behind that, at most 16, so that it fits 16 bits.

    Examples
    --------
    Rows of 23 bits times 768 are of 33 bits, one more than fit.

    >>> mean_shifts(768, 7), mean_shifts(768, 2)
    ((1, 16), (0, 12))
    """
    both = shift + channel_bits(channels)
    return max(0, both - 16), min(both, 16)
