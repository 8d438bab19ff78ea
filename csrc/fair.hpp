// The fair blend: dataset i with share p_i / Q has c_i of the first n samples, and
// |c_i - n p_i / Q| < 1 for every i and every n.
//
// Sample j (from 0) of dataset i keeps this bound if and only if it is drawn at a time t with
//     floor(j Q / p_i) <= t < ceil((j + 1) Q / p_i)        (its release and its deadline).
// Drawing the released sample of the earliest deadline meets all deadlines: were samples fluid,
// each would be drawn at rate p_i / Q from j Q / p_i to (j + 1) Q / p_i, inside its window, and the
// rates sum to 1; so no interval [a, b) has more than b - a windows inside it, which is what
// earliest deadline first needs for jobs of unit length with whole release times and deadlines.
// All numbers are whole: nothing can drift.
//
// Sources: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980);
// S. Baruah et al., "Proportionate progress: a notion of fairness in resource allocation",
// Algorithmica 15 (1996), for the windows.

#pragma once

#include <algorithm>
#include <vector>

#include "common.hpp"

namespace db1 {

constexpr std::int64_t kMaxParts = std::int64_t{1} << 60;
constexpr std::int64_t kMaxSamples = std::int64_t{1} << 62;

class Fair {
 public:
  // The state before sample `time`, when counts[i] samples of dataset i were drawn.
  Fair(const std::int64_t* parts, std::int64_t num_datasets, std::int64_t total, std::int64_t time,
       const std::int64_t* counts)
      : time_(time) {
    for (std::int64_t i = 0; i < num_datasets; ++i) {
      if (parts[i] > 0) dataset_.push_back(i);
    }
    const std::size_t active = dataset_.size();
    while (leaves_ < active) leaves_ *= 2;
    std::size_t slots = 64;
    while (slots < 2 * active) slots *= 2;
    wheel_.assign(slots, -1);
    deadline_.assign(leaves_, kMax);
    winner_.resize(2 * leaves_);
    next_.resize(active);
    clock_.resize(active);
    for (std::size_t i = 0; i < active; ++i) {
      start(i, parts[dataset_[i]], total, counts[dataset_[i]]);
    }
    for (std::size_t i = 0; i < leaves_; ++i) winner_[leaves_ + i] = static_cast<std::int32_t>(i);
    for (std::size_t node = leaves_ - 1; node > 0; --node) {
      const std::int32_t left = winner_[2 * node], right = winner_[2 * node + 1];
      winner_[node] = deadline_[left] <= deadline_[right] ? left : right;
    }
  }

  // Draws one sample; of equal deadlines, the first dataset.
  void draw(std::int64_t* dataset, std::int64_t* within) {
    const bool few = dataset_.size() <= kFew;
    if (!few) release();
    const std::int32_t i = few ? earliest() : winner_[1];
    Clock& clock = clock_[i];
    *dataset = dataset_[i];
    *within = clock.count++;
    ++time_;
    clock.advance();
    if (few) return;
    const bool released = clock.pending <= time_;
    place(i, released ? clock.deadline : kMax);
    if (!released) wait(i);
  }

  void counts(std::int64_t num_datasets, std::int64_t* out) const {
    std::fill_n(out, num_datasets, 0);
    for (std::size_t i = 0; i < dataset_.size(); ++i) out[dataset_[i]] = clock_[i].count;
  }

 private:
  struct Clock {
    std::int64_t part;
    std::int64_t quotient;   // Q / p
    std::int64_t remainder;  // Q mod p
    std::int64_t after;      // release of the sample after the next: floor((count + 1) Q / p)
    std::int64_t phase;      // (count + 1) Q mod p
    std::int64_t deadline;   // of the next sample
    std::int64_t pending;    // release of the next sample
    std::int64_t count;      // samples drawn

    void advance() {
      pending = after;
      phase += remainder;
      const bool carry = phase >= part;
      phase -= carry ? part : 0;
      after += quotient + carry;
      deadline = after + (phase > 0);
    }
  };

  // Faster than the tournament for few datasets.
  std::int32_t earliest() const {
    std::int32_t best = 0;
    std::int64_t least = kMax;
    const std::int32_t active = static_cast<std::int32_t>(clock_.size());
    for (std::int32_t i = 0; i < active; ++i) {
      const std::int64_t deadline = clock_[i].pending <= time_ ? clock_[i].deadline : kMax;
      const bool earlier = deadline < least;
      best = earlier ? i : best;
      least = earlier ? deadline : least;
    }
    return best;
  }

  void start(std::size_t i, std::int64_t part, std::int64_t total, std::int64_t count) {
    const __int128 now = static_cast<__int128>(count) * total;
    const __int128 end = now + total;
    Clock& clock = clock_[i];
    clock.part = part;
    clock.quotient = total / part;
    clock.remainder = total % part;
    clock.after = static_cast<std::int64_t>(end / part);
    clock.phase = static_cast<std::int64_t>(end % part);
    clock.pending = static_cast<std::int64_t>(now / part);
    clock.count = count;
    clock.deadline = clock.after + (clock.phase > 0);
    if (clock.pending <= time_) {
      deadline_[i] = clock.deadline;
    } else {
      wait(static_cast<std::int32_t>(i));
    }
  }

  // A wheel of waiting lists: a dataset hangs at (release mod size) until its turn has come.
  void wait(std::int32_t i) {
    std::int32_t& head = wheel_[clock_[i].pending & (wheel_.size() - 1)];
    next_[i] = head;
    head = i;
  }

  void release() {
    std::int32_t& head = wheel_[time_ & (wheel_.size() - 1)];
    std::int32_t i = head;
    head = -1;
    while (i >= 0) {
      const std::int32_t after = next_[i];
      if (clock_[i].pending <= time_) {
        place(i, clock_[i].deadline);
      } else {
        wait(i);
      }
      i = after;
    }
  }

  // Sets a deadline (kMax: not released) and plays the matches above it again.
  void place(std::int32_t i, std::int64_t deadline) {
    deadline_[i] = deadline;
    std::int32_t best = i;
    for (std::size_t node = leaves_ + i; node > 1; node /= 2) {
      const std::int32_t other = winner_[node ^ 1];
      const std::int64_t theirs = deadline_[other];
      const bool lost = (theirs < deadline) | ((theirs == deadline) & (other < best));
      best = lost ? other : best;
      deadline = lost ? theirs : deadline;
      winner_[node / 2] = best;
    }
  }

  static constexpr std::size_t kFew = 16;
  std::int64_t time_;
  std::size_t leaves_ = 1;
  std::vector<std::int64_t> dataset_;  // those of share above 0
  std::vector<std::int64_t> deadline_;
  std::vector<std::int32_t> winner_;  // a tournament: node n plays for 2n and 2n + 1
  std::vector<std::int32_t> wheel_;
  std::vector<std::int32_t> next_;
  std::vector<Clock> clock_;
};

inline std::int64_t total_parts(const Int64Array& parts) {
  require_one_axis(parts, "parts");
  require_between(parts.size(), 1, std::numeric_limits<std::int32_t>::max() / 4, "number of parts");
  const std::int64_t total = checked_total(parts.data(), parts.size(), 0, "parts");
  require_between(total, 1, kMaxParts, "sum of parts");
  return total;
}

inline void check_state(const Int64Array& parts, std::int64_t total, std::int64_t start,
                        const Int64Array& counts) {
  require_one_axis(counts, "counts");
  require_between(counts.size(), parts.size(), parts.size(), "size of counts");
  const std::int64_t drawn = checked_total(counts.data(), counts.size(), 0, "counts");
  require_between(drawn, start, start, "sum of counts");
  for (std::int64_t i = 0; i < parts.size(); ++i) {
    const __int128 behind = static_cast<__int128>(start) * parts.data()[i] -
                            static_cast<__int128>(counts.data()[i]) * total;
    if (behind >= total || behind <= -total) {
      throw std::invalid_argument("counts[" + std::to_string(i) + "]: got " +
                                  std::to_string(counts.data()[i]) +
                                  ", a whole sample off its share");
    }
  }
}

// Datasets and numbers of the samples [start, stop), given the counts at `start`.
inline py::tuple fair_index(const Int64Array& parts, std::int64_t start, std::int64_t stop,
                            const Int64Array& counts) {
  const std::int64_t total = total_parts(parts);
  require_between(start, 0, kMaxSamples, "start");
  require_between(stop, start, kMaxSamples, "stop");
  check_state(parts, total, start, counts);
  const std::int64_t num_samples = stop - start;
  Int64Array dataset(allocatable(num_samples));
  Int64Array within(num_samples);
  std::int64_t* dataset_data = dataset.mutable_data();
  std::int64_t* within_data = within.mutable_data();
  {
    py::gil_scoped_release release;
    Fair fair(parts.data(), parts.size(), total, start, counts.data());
    for (std::int64_t n = 0; n < num_samples; ++n) fair.draw(dataset_data + n, within_data + n);
  }
  return py::make_tuple(dataset, within);
}

// Row m: the counts after m * every samples, for all m * every < num_samples.
inline Int64Array fair_table(const Int64Array& parts, std::int64_t num_samples,
                             std::int64_t every) {
  const std::int64_t total = total_parts(parts);
  require_between(num_samples, 0, kMaxSamples, "num_samples");
  require_at_least(every, 1, "every");
  const std::int64_t num_rows = num_samples == 0 ? 0 : (num_samples - 1) / every + 1;
  const std::int64_t num_datasets = parts.size();
  allocatable(num_rows > kMax / num_datasets ? kMax : num_rows * num_datasets);
  Int64Array out({num_rows, num_datasets});
  std::int64_t* written = out.mutable_data();
  {
    py::gil_scoped_release release;
    const std::vector<std::int64_t> none(num_datasets, 0);
    Fair fair(parts.data(), num_datasets, total, 0, none.data());
    std::int64_t dataset, within;
    for (std::int64_t row = 0; row < num_rows; ++row) {
      fair.counts(num_datasets, written + row * num_datasets);
      if (row + 1 == num_rows) break;
      for (std::int64_t n = 0; n < every; ++n) fair.draw(&dataset, &within);
    }
  }
  return out;
}

}  // namespace db1
