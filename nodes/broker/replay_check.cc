#include "nodes/broker/replay_check.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "nodes/broker/answer_table.h"
#include "nodes/broker/teacher_work.h"

namespace sgmd {
namespace {

using Place = std::tuple<std::int64_t, std::uint8_t, std::int32_t>;  // step, kind, index

struct Record {
  std::set<Place> there, gone;
  std::int64_t evicted = 0, scored_steps = 0;
  std::uint64_t rollbacks = 0;
};

Record RecordOf(const AnswerTable& table, const Digest& run_id, std::int64_t steps) {
  Record record;
  table.VisitPlaces(run_id, [&](const AnswerPlace& place, const Digest& key, bool evicted) {
    if (place.step >= steps) return;
    const Place at{place.step, place.kind, place.index};
    record.rollbacks = std::max(record.rollbacks, place.rollbacks);
    if (place.kind == WorkOf(wire::Kind::Sample).order)
      record.scored_steps = std::max(record.scored_steps, place.step + 1);
    if (table.Has(key)) {
      record.there.insert(at);
    } else {
      record.gone.insert(at);
      if (evicted) ++record.evicted;
    }
  });
  return record;
}

}  // namespace

std::string ReplayCheckText(const LaunchPlan& plan) {
  const Experiment& e = plan.experiment;
  const auto table = AnswerTable::OpenToRead(plan.topology.cache.folder);
  const Record record = RecordOf(*table, ExperimentDigest(e), e.steps);
  const std::int64_t of_a_step = e.data.micro_batches * (e.diversity.weight > 0 ? kWorkKinds : 1);
  std::int64_t complete = 0, in_step = 0;
  for (const auto& [step, kind, index] : record.there) {  // in order of steps
    if (step != complete) break;
    if (++in_step < of_a_step) continue;
    ++complete;
    in_step = 0;
  }
  return nlohmann::ordered_json{
      {"answers", e.steps * of_a_step}, {"there", record.there.size()},
      {"evicted", record.evicted},      {"lost", static_cast<std::int64_t>(record.gone.size()) - record.evicted},
      {"complete", complete},           {"recorded", record.scored_steps},
      {"rollbacks", record.rollbacks}}
      .dump();
}

}  // namespace sgmd
