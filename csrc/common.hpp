// Types and checks that all parts of the index builder share.

#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace db1 {

namespace py = pybind11;

// No forcecast: the Python face hands over arrays of exactly these types.
using Int32Array = py::array_t<std::int32_t, py::array::c_style>;
using Int64Array = py::array_t<std::int64_t, py::array::c_style>;
using Uint64Array = py::array_t<std::uint64_t, py::array::c_style>;
using DoubleArray = py::array_t<double, py::array::c_style>;

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

template <typename Array>
void require_one_axis(const Array& array, const char* name) {
  if (array.ndim() != 1) {
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(array.ndim()) +
                                " axes, expected 1");
  }
}

inline void require_between(std::int64_t value, std::int64_t least, std::int64_t most,
                            const std::string& name) {
  if (value < least || value > most) {
    throw std::invalid_argument(
        name + ": got " + std::to_string(value) + ", expected " +
        (most == kMax ? "at least " + std::to_string(least)
                      : std::to_string(least) + ".." + std::to_string(most)));
  }
}

inline void require_at_least(std::int64_t value, std::int64_t least, const std::string& name) {
  require_between(value, least, kMax, name);
}

// A size that NumPy may be asked for: far above any memory, MemoryError instead of its ValueError.
inline std::int64_t allocatable(std::int64_t size) {
  if (size > std::int64_t{1} << 55) throw std::bad_alloc();
  return size;
}

template <typename Integer>
std::int64_t checked_total(const Integer* values, std::int64_t count, std::int64_t least,
                           const char* name) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (values[i] < least) {
      require_at_least(values[i], least, std::string(name) + "[" + std::to_string(i) + "]");
    }
    if (values[i] > kMax - total) {
      throw std::invalid_argument(std::string(name) + ": the sum does not fit 64 bits");
    }
    total += values[i];
  }
  return total;
}

}  // namespace db1
