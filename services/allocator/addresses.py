"""Which addresses of a network are taken. Pure, immutable; every operation costs the same in any network.

A two-level bitset over the low 24 bits of an address (no network is larger than a /8): words of 1,024 addresses, and
one bit for each word that is full. Finding the lowest free address looks at one word, then at the full ones, then at
one word more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rpds import HashTrieMap

WORD_BITS = 1024
_FULL_WORD = (1 << WORD_BITS) - 1
_LOW_BITS = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A set of addresses of one network, each as an integer."""

    words: HashTrieMap[int, int] = field(default_factory=HashTrieMap)
    full_words: int = 0
    count: int = 0

    @classmethod
    def of(cls, addresses: Iterable[int]) -> AddressSet:
        """The set of the given addresses."""
        taken = cls()
        for address in addresses:
            taken = taken.add(address)
        return taken

    def __contains__(self, address: int) -> bool:
        word, bit = divmod(address & _LOW_BITS, WORD_BITS)
        return bool(self.words.get(word, 0) >> bit & 1)

    def add(self, address: int) -> AddressSet:
        """The set with `address`, which must not be in it yet."""
        word, bit = divmod(address & _LOW_BITS, WORD_BITS)
        bits = self.words.get(word, 0) | 1 << bit
        full = self.full_words | 1 << word if bits == _FULL_WORD else self.full_words
        return AddressSet(self.words.insert(word, bits), full, self.count + 1)

    def remove(self, address: int) -> AddressSet:
        """The set without `address`, which must be in it."""
        word, bit = divmod(address & _LOW_BITS, WORD_BITS)
        bits = self.words.get(word, 0) & ~(1 << bit)
        return AddressSet(self.words.insert(word, bits), self.full_words & ~(1 << word), self.count - 1)

    def lowest_free(self, first: int) -> int:
        """The smallest address from `first` on that is not in the set."""
        word, bit = divmod(first & _LOW_BITS, WORD_BITS)
        bit += _lowest_zero(self.words.get(word, 0) >> bit)
        if bit >= WORD_BITS:
            word += 1 + _lowest_zero(self.full_words >> (word + 1))
            bit = _lowest_zero(self.words.get(word, 0))
        return (first & ~_LOW_BITS) + word * WORD_BITS + bit


def _lowest_zero(bits: int) -> int:
    return (~bits & (bits + 1)).bit_length() - 1
