// The index builder of db1: which token, window or dataset each training sample starts from.
//
// Every function has a reference in Python with a worked example (db1/index/index.py, fair.py,
// permutation.py), and both give the same bytes. All counts are 64-bit, the GIL is released while a
// loop runs, and bad input throws std::invalid_argument (ValueError in Python).
//
// Sources: Megatron-LM's helpers define what a sample index and a blend are; no code is theirs.

#include <algorithm>
#include <cmath>
#include <vector>

#include "common.hpp"
#include "fair.hpp"
#include "permutation.hpp"

namespace py = pybind11;
using namespace db1;

namespace {

// Goes to token `first`, then walks on `step` tokens at a time and stops in the document that holds
// the token arrived at; whole epochs of `total` tokens are stepped over at once. Writes
// num_rows >= 1 rows. Row 0 of the whole index is (0, 0) even when document 0 is empty, as in
// Megatron.
template <typename Integer>
void fill_sample_index(const Integer* sizes, std::int64_t num_documents, std::int64_t total,
                       std::int64_t first, std::int64_t step, std::int64_t num_rows,
                       std::int64_t* out) {
  out[0] = out[1] = 0;
  if (total == 0) return;
  std::int64_t document = first / total * num_documents;  // counts on through the epochs
  std::int64_t within = 0;                                // document modulo num_documents
  std::int64_t offset = 0;
  std::int64_t left = first % total;
  const std::int64_t skipped = step / total * num_documents;
  step %= total;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    while (left >= sizes[within] - offset) {
      left -= sizes[within] - offset;
      offset = 0;
      ++document;
      within = within + 1 == num_documents ? 0 : within + 1;
    }
    offset += left;
    if (row > 0 || first > 0) {
      out[2 * row] = document;
      out[2 * row + 1] = offset;
    }
    document += skipped;
    left = step;
  }
}

// Rows [start, stop] of the index; num_samples -1: one epoch; stop -1: its end.
template <typename Sizes>
Int64Array sample_index(const Sizes& sizes, std::int64_t sequence_length, std::int64_t num_samples,
                        std::int64_t start, std::int64_t stop) {
  require_one_axis(sizes, "sizes");
  require_at_least(sequence_length, 1, "sequence_length");
  const std::int64_t num_documents = sizes.size();
  const auto* data = sizes.data();
  std::int64_t total = 0;
  {
    py::gil_scoped_release release;
    total = checked_total(data, num_documents, 0, "sizes");
  }
  if (num_samples < 0) num_samples = total == 0 ? 0 : (total - 1) / sequence_length;
  if (total == 0 && num_samples > 0) {
    throw std::invalid_argument("sizes: no tokens, cannot cut " + std::to_string(num_samples) +
                                " samples");
  }
  if (num_samples > kMax / 16 - 1 || (num_samples > 0 && sequence_length > kMax / num_samples) ||
      (num_samples > 0 && num_samples * sequence_length / total >= kMax / num_documents)) {
    throw std::invalid_argument("num_samples: got " + std::to_string(num_samples) +
                                ", too many for 64 bits");
  }
  require_between(start, 0, num_samples, "start");
  if (stop < 0) stop = num_samples;
  require_between(stop, start, num_samples, "stop");
  const std::int64_t num_rows = stop - start + 1;
  Int64Array out({allocatable(num_rows), std::int64_t{2}});
  std::int64_t* written = out.mutable_data();
  {
    py::gil_scoped_release release;
    fill_sample_index(data, num_documents, total, start * sequence_length, sequence_length,
                      num_rows, written);
  }
  return out;
}

Int64Array window_index(const Int64Array& lengths, std::int64_t window) {
  require_one_axis(lengths, "lengths");
  require_at_least(window, 1, "window");
  const std::int64_t count = lengths.size();
  const std::int64_t* data = lengths.data();
  Int64Array out(count + 1);
  std::int64_t* written = out.mutable_data();
  {
    py::gil_scoped_release release;
    checked_total(data, count, 1, "lengths");
    written[0] = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      written[i + 1] = written[i] + std::max<std::int64_t>(1, data[i] - window + 1);
    }
  }
  return out;
}

py::tuple window_lookup(const Int64Array& counts, const Int64Array& windows) {
  require_one_axis(counts, "counts");
  require_one_axis(windows, "windows");
  require_at_least(counts.size(), 1, "size of counts");
  const std::int64_t* begin = counts.data();
  const std::int64_t* end = begin + counts.size();
  const std::int64_t* wanted = windows.data();
  const std::int64_t num_windows = windows.size();
  Int64Array episodes(num_windows);
  Int64Array starts(num_windows);
  std::int64_t* episode = episodes.mutable_data();
  std::int64_t* start = starts.mutable_data();
  {
    py::gil_scoped_release release;
    for (std::int64_t i = 0; i < num_windows; ++i) {
      if (wanted[i] < 0 || wanted[i] >= end[-1]) {
        throw std::invalid_argument("window " + std::to_string(wanted[i]) + ", expected 0.." +
                                    std::to_string(end[-1] - 1));
      }
      const std::int64_t* above = std::upper_bound(begin, end, wanted[i]);
      episode[i] = above - begin - 1;
      start[i] = wanted[i] - above[-1];
    }
  }
  return py::make_tuple(episodes, starts);
}

std::vector<double> normalised(const double* weights, std::int64_t count) {
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0.0) {
      throw std::invalid_argument("weights[" + std::to_string(i) + "]: got " +
                                  std::to_string(weights[i]) +
                                  ", expected a finite number of at least 0");
    }
    total += weights[i];
  }
  if (!(total > 0.0) || !std::isfinite(total)) {
    throw std::invalid_argument("weights: the sum is " + std::to_string(total) +
                                ", expected a positive finite number");
  }
  std::vector<double> shares(count);
  for (std::int64_t i = 0; i < count; ++i) shares[i] = weights[i] / total;
  return shares;
}

// How far each dataset is behind its share, four at a time so that the compiler uses vectors.
class Blend {
 public:
  // Keeps the datasets of positive share, in order; fillers at the end can never be the largest.
  explicit Blend(const std::vector<double>& shares) {
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (shares[i] > 0.0) {
        dataset_.push_back(static_cast<std::int64_t>(i));
        share_.push_back(shares[i]);
      }
    }
    drawn_.assign(share_.size(), 0.0);
    while (share_.size() % kLanes != 0) {
      share_.push_back(0.0);
      drawn_.push_back(std::numeric_limits<double>::max());
    }
    behind_.assign(share_.size(), 0.0);
  }

  // Draws from the dataset that is furthest behind; of equals, the first.
  void draw(std::int64_t sample, std::int64_t* dataset, std::int64_t* within) {
    const double wanted = static_cast<double>(std::max<std::int64_t>(sample, 1));
    double largest[kLanes];
    std::fill_n(largest, kLanes, std::numeric_limits<double>::lowest());
    for (std::size_t i = 0; i < share_.size(); i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const double behind = share_[i + lane] * wanted - drawn_[i + lane];
        behind_[i + lane] = behind;
        largest[lane] = behind > largest[lane] ? behind : largest[lane];
      }
    }
    const double most = *std::max_element(largest, largest + kLanes);
    const std::size_t best = std::find(behind_.begin(), behind_.end(), most) - behind_.begin();
    *dataset = dataset_[best];
    *within = static_cast<std::int64_t>(drawn_[best]);
    drawn_[best] += 1.0;
  }

 private:
  static constexpr std::size_t kLanes = 4;
  std::vector<std::int64_t> dataset_;
  std::vector<double> share_;
  std::vector<double> drawn_;  // counts, exact below 2^53
  std::vector<double> behind_;
};

py::tuple blending_index(const DoubleArray& weights, std::int64_t num_samples) {
  require_one_axis(weights, "weights");
  require_at_least(weights.size(), 1, "number of weights");
  require_at_least(num_samples, 0, "num_samples");
  const std::vector<double> shares = normalised(weights.data(), weights.size());
  Int64Array dataset(allocatable(num_samples));
  Int64Array within(num_samples);
  std::int64_t* dataset_data = dataset.mutable_data();
  std::int64_t* within_data = within.mutable_data();
  {
    py::gil_scoped_release release;
    Blend blend(shares);
    for (std::int64_t sample = 0; sample < num_samples; ++sample) {
      blend.draw(sample, dataset_data + sample, within_data + sample);
    }
  }
  return py::make_tuple(dataset, within);
}

}  // namespace

PYBIND11_MODULE(_index, module) {
  module.doc() = "Index builder of db1; use it through db1.index.index.";
  const char* about_samples = "Rows [start, stop] of the sample index, int64 (rows, 2).";
  module.def("sample_index", &sample_index<Int64Array>, py::arg("sizes").noconvert(),
             py::arg("sequence_length"), py::arg("num_samples"), py::arg("start") = 0,
             py::arg("stop") = -1, about_samples);
  module.def("sample_index", &sample_index<Int32Array>, py::arg("sizes").noconvert(),
             py::arg("sequence_length"), py::arg("num_samples"), py::arg("start") = 0,
             py::arg("stop") = -1, about_samples);
  module.def("window_index", &window_index, py::arg("lengths").noconvert(), py::arg("window"),
             "Cumulative number of windows, int64 (num_episodes + 1,).");
  module.def("window_lookup", &window_lookup, py::arg("counts").noconvert(),
             py::arg("windows").noconvert(), "Episodes and start steps of windows, int64 each.");
  module.def("blending_index", &blending_index, py::arg("weights").noconvert(),
             py::arg("num_samples"), "Dataset and sample within it of each sample, int64 each.");
  module.def("fair_index", &fair_index, py::arg("parts").noconvert(), py::arg("start"),
             py::arg("stop"), py::arg("counts").noconvert(),
             "Dataset and sample within it of the samples [start, stop), int64 each.");
  module.def("fair_table", &fair_table, py::arg("parts").noconvert(), py::arg("num_samples"),
             py::arg("every"), "Counts before every so many samples, int64 (rows, datasets).");
  module.def("permute", &permute, py::arg("indices").noconvert(), py::arg("size"),
             py::arg("keys").noconvert(), "Values of a permutation of 0..size-1, int64.");
}
