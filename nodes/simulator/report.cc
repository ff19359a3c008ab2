#include "nodes/simulator/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/error/error.h"

namespace sgmd {
namespace {

// "%.3g", but never with an exponent for what a person reads.
std::string Short(double value) {
  char text[32];
  std::snprintf(text, sizeof text, std::abs(value) >= 100 ? "%.0f" : "%.3g", value);
  return text;
}

std::string MiB(std::int64_t bytes) { return Short(static_cast<double>(bytes) / (1 << 20)) + " MiB"; }

std::string Counts(const Ledger& ledger) {
  return StrCat(ledger.came(), " of ", ledger.expected(), ", ", ledger.open(), " lost, ", ledger.doubled(),
                " doubled, ", ledger.wrong(), " wrong");
}

std::string Throughput(const SimulationReport& r) {
  const double linear = r.LinearSamplesPerSecond();
  std::string text = Short(r.SamplesPerSecond()) + " samples/s";
  if (std::isinf(linear)) return text;
  return StrCat(text, ", ", Short(100 * r.SamplesPerSecond() / linear), " % of the ", Short(linear),
                " that the teachers could do");
}

}  // namespace

bool SimulationReport::Whole() const {
  const auto whole = [&](const Ledger& ledger) {
    return ledger.expected() == options.Samples() && ledger.open() == 0 && ledger.doubled() == 0 && ledger.wrong() == 0;
  };
  return whole(gradients) && whole(scored);
}

double SimulationReport::LinearSamplesPerSecond() const {
  double sum = 0;
  for (std::int64_t teacher = 0; teacher < options.teachers; ++teacher) {
    const double ms = options.TeacherMs(teacher);
    sum += ms > 0 ? 1e3 / ms : std::numeric_limits<double>::infinity();
  }
  return sum;
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto rank = std::ceil(q * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

std::string ToTable(const SimulationReport& r) {
  const auto ms = [](double value) { return Short(value) + " ms"; };
  const auto s = [](double value) { return Short(value) + " s"; };
  std::string table = StrCat(
      "gradients    ", Counts(r.gradients), "\n",  //
      "scored       ", Counts(r.scored), "\n",     //
      "throughput   ", Throughput(r), "\n",        //
      "step         median ", s(Quantile(r.step_seconds, 0.5)), ", 95 % within ", s(Quantile(r.step_seconds, 0.95)),
      ", longest ", s(Quantile(r.step_seconds, 1)), "\n",  //
      "broker CPU   ", ms(r.MsPerSample(r.broker_cpu_seconds)), " a sample, ",
      Short(100 * r.broker_cpu_seconds / r.seconds),
      " % of a core (simulated processes: ", Short(100 * r.peers_cpu_seconds / r.seconds), " %)\n",  //
      "broker RSS   at most ", MiB(r.broker_peak_bytes), ", ", MiB(r.broker_start_bytes), " before the first sample\n",
      "broker loop  longest answer to a question for the status ", ms(Quantile(r.status.answer_ms, 1)), ", median ",
      ms(Quantile(r.status.answer_ms, 0.5)), ", 99 % within ", ms(Quantile(r.status.answer_ms, 0.99)), "\n",
      "queue        at most ", r.status.most_queued, " waiting for a teacher, ", r.status.most_leased, " leased\n",
      "leases       ", r.redispatched, " dispatched again, ", r.dropped, " late answers dropped\n");
  if (r.options.hung.teachers > 0) {
    table += StrCat("hung         the leases of ", r.elsewhere_seconds.size(), " of ", r.options.hung.teachers,
                    " teachers were with another after at most ", s(Quantile(r.elsewhere_seconds, 1)), "\n");
  }
  if (r.options.cache) {
    table += StrCat("cache        ", r.cache_entries, " entries, ", MiB(r.cache_bytes), ", ", r.cache_lost, " lost\n");
  }
  return table;
}

std::string ToJson(const SimulationReport& r) {
  using Json = nlohmann::ordered_json;
  const SimulationOptions& o = r.options;
  const auto counts = [](const Ledger& l) {
    return Json{{"expected", l.expected()},
                {"came", l.came()},
                {"lost", l.open()},
                {"doubled", l.doubled()},
                {"wrong", l.wrong()}};
  };
  const double linear = r.LinearSamplesPerSecond();
  const Json json{
      {"teachers", o.teachers},
      {"micro_batches", o.MicroBatches()},
      {"steps", o.steps},
      {"max_staleness", o.max_staleness},
      {"sample_bytes", o.sample_bytes},
      {"teacher_ms", o.teacher_ms},
      {"slow_teachers", o.slow.teachers},
      {"slow_factor", o.slow.value},
      {"killed_teachers", o.killed.teachers},
      {"hung_teachers", o.hung.teachers},
      {"generator_ms", o.generator_ms},
      {"fake_score_ms", o.fake_score_ms},
      {"reader_delay_ms", o.reader_delay_ms},
      {"probe_ms", o.probe_ms},
      {"cache", o.cache},
      {"whole", r.Whole()},
      {"gradients", counts(r.gradients)},
      {"scored", counts(r.scored)},
      {"seconds", r.seconds},
      {"samples_per_second", r.SamplesPerSecond()},
      {"share_of_linear", std::isinf(linear) ? Json() : Json(r.SamplesPerSecond() / linear)},
      {"step_seconds_median", Quantile(r.step_seconds, 0.5)},
      {"step_seconds_p95", Quantile(r.step_seconds, 0.95)},
      {"step_seconds_longest", Quantile(r.step_seconds, 1)},
      {"broker_cpu_ms_per_sample", r.MsPerSample(r.broker_cpu_seconds)},
      {"broker_cpu_seconds", r.broker_cpu_seconds},
      {"peers_cpu_seconds", r.peers_cpu_seconds},
      {"broker_start_bytes", r.broker_start_bytes},
      {"broker_peak_bytes", r.broker_peak_bytes},
      {"status_answers", r.status.answer_ms.size()},
      {"status_ms_median", Quantile(r.status.answer_ms, 0.5)},
      {"status_ms_p99", Quantile(r.status.answer_ms, 0.99)},
      {"status_ms_longest", Quantile(r.status.answer_ms, 1)},
      {"most_queued", r.status.most_queued},
      {"most_leased", r.status.most_leased},
      {"redispatched", r.redispatched},
      {"dropped", r.dropped},
      {"elsewhere_seconds", r.elsewhere_seconds},
      {"cache_entries", r.cache_entries},
      {"cache_bytes", r.cache_bytes},
      {"cache_lost", r.cache_lost},
  };
  return json.dump();
}

}  // namespace sgmd
