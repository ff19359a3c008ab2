// What is simulated: how many processes, how fast they are, how large their messages.
#pragma once

#include <cstdint>
#include <filesystem>

namespace sgmd {

struct SimulationOptions {
  /// Some of the teachers, and what is said of them.
  struct Some {
    std::int64_t teachers = 0;
    double value = 1;
  };

  std::int64_t teachers = 4;
  std::int64_t micro_batches = 0;  // of a step; 0: four for each teacher
  std::int64_t steps = 8;
  std::int64_t max_staleness = 0;     // how many further steps are rolled out while gradients are on their way
  std::int64_t sample_bytes = 65536;  // of a latent micro-batch, a multiple of 4: x_g, x_s, velocity and gradient
  double teacher_ms = 200;            // to score a micro-batch
  Some slow;                          // the first ones take `value` times as long
  Some killed{0, 1};                  // the last ones die with lease number `value` (from 1) in hand
  Some hung{0, 1};                    // the first ones stand still with lease number `value` in hand, and go on beating
  double generator_ms = 0;            // to roll a micro-batch out
  double fake_score_ms = 0;           // to give a gradient
  double reader_delay_ms = 0;         // that the fake score lets pass before it reads the next message
  bool cache = false;
  double cache_limit_gib = 10;
  double lease_seconds = 60, silence_seconds = 15;  // [transport]
  double probe_ms = 20;                             // between two questions for the status; 0: none but the last
  double patience_seconds = 120;                    // without any gradient, after which samples count as lost
  std::int64_t seed = 1;
  std::filesystem::path broker;  // the program; empty: sgmd-broker beside this one

  std::int64_t MicroBatches() const { return micro_batches > 0 ? micro_batches : 4 * teachers; }
  std::int64_t Samples() const { return steps * MicroBatches(); }
  /// What `teacher` (from 0) takes for a micro-batch, in ms.
  double TeacherMs(std::int64_t teacher) const {
    return teacher < slow.teachers ? teacher_ms * slow.value : teacher_ms;
  }
  /// The lease that `teacher` hangs with, from 1; 0: it does not.
  std::int64_t HangsWith(std::int64_t teacher) const {
    return teacher < hung.teachers ? static_cast<std::int64_t>(hung.value) : 0;
  }
  /// The lease that `teacher` dies with, from 1; 0: it lives.
  std::int64_t LastLease(std::int64_t teacher) const {
    return teacher >= teachers - killed.teachers ? static_cast<std::int64_t>(killed.value) : 0;
  }
};

}  // namespace sgmd
