// A permutation of 0..n-1 whose values are computed one by one, from a few keys: a Feistel network
// over the next power of two, walked on until the value is below n.
//
// Source: J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (cycle
// walking); the mixing of a round is that of SplitMix64 (Steele et al. 2014).

#pragma once

#include "common.hpp"

namespace db1 {

inline std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// The halves are of `bits / 2` and the other bits; they change places in each round, so an even
// number of rounds gives a value of the same width.
inline std::uint64_t feistel(std::uint64_t x, int bits, const std::uint64_t* keys, int num_rounds) {
  int low_bits = bits - bits / 2;
  for (int round = 0; round < num_rounds; ++round) {
    const int high_bits = bits - low_bits;
    const std::uint64_t low = x & ((std::uint64_t{1} << low_bits) - 1);
    const std::uint64_t high = x >> low_bits;
    const std::uint64_t mask = (std::uint64_t{1} << high_bits) - 1;
    x = low << high_bits | (high ^ (mixed(low + keys[round]) & mask));
    low_bits = high_bits;
  }
  return x;
}

inline Int64Array permute(const Int64Array& indices, std::int64_t size, const Uint64Array& keys) {
  require_one_axis(indices, "indices");
  require_one_axis(keys, "keys");
  require_between(size, 1, std::int64_t{1} << 62, "size");
  const int num_rounds = static_cast<int>(keys.size());
  require_between(num_rounds, 2, 64, "number of keys");
  if (num_rounds % 2 != 0) throw std::invalid_argument("number of keys: expected an even number");
  int bits = 2;
  while ((std::int64_t{1} << bits) < size) ++bits;
  const std::int64_t count = indices.size();
  const std::int64_t* wanted = indices.data();
  Int64Array out(count);
  std::int64_t* written = out.mutable_data();
  {
    py::gil_scoped_release release;
    for (std::int64_t i = 0; i < count; ++i) {
      if (wanted[i] < 0 || wanted[i] >= size) {
        require_between(wanted[i], 0, size - 1, "indices[" + std::to_string(i) + "]");
      }
      std::uint64_t x = static_cast<std::uint64_t>(wanted[i]);
      do {
        x = feistel(x, bits, keys.data(), num_rounds);
      } while (x >= static_cast<std::uint64_t>(size));
      written[i] = static_cast<std::int64_t>(x);
    }
  }
  return out;
}

}  // namespace db1
