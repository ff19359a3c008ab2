#include "nodes/broker/replay_check.h"

#include <algorithm>
#include <map>
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
  std::map<std::int64_t, std::int64_t> of_step;  // how many are there
  std::int64_t evicted = 0, scored_steps = 0;
  std::uint64_t rollbacks = 0;
};

Record RecordOf(const AnswerTable& table, const Experiment& e) {
  Record record;
  table.VisitPlaces(ExperimentDigest(e), [&](const AnswerPlace& place, const Digest& key, bool evicted) {
    if (place.step >= e.steps) return;
    const Place at{place.step, place.kind, place.index};
    record.rollbacks = std::max(record.rollbacks, place.rollbacks);
    if (place.kind == WorkOf(wire::Kind::Sample).order)
      record.scored_steps = std::max(record.scored_steps, place.step + e.outer.reuse);
    if (table.Has(key)) {
      if (record.there.insert(at).second) ++record.of_step[place.step];
    } else {
      record.gone.insert(at);
      if (evicted) ++record.evicted;
    }
  });
  return record;
}

// What a step asks the teachers for.
std::int64_t AnswersOf(const Experiment& e, std::int64_t step) {
  return e.data.micro_batches * ((RollsOut(e, step) ? 1 : 0) + (e.diversity.weight > 0 ? 1 : 0));
}

}  // namespace

std::string ReplayCheckText(const LaunchPlan& plan) {
  const Experiment& e = plan.experiment;
  const auto table = AnswerTable::OpenToRead(plan.topology.cache.folder);
  const Record record = RecordOf(*table, e);
  std::int64_t answers = 0, complete = e.steps;
  for (std::int64_t step = 0; step < e.steps; ++step) {
    const auto there = record.of_step.find(step);
    answers += AnswersOf(e, step);
    if ((there == record.of_step.end() ? 0 : there->second) < AnswersOf(e, step)) complete = std::min(complete, step);
  }
  complete = RolloutStepOf(e, complete);  // e.steps is a multiple, too
  return nlohmann::ordered_json{
      {"answers", answers},           {"there", record.there.size()},
      {"evicted", record.evicted},    {"lost", static_cast<std::int64_t>(record.gone.size()) - record.evicted},
      {"complete", complete},         {"recorded", record.scored_steps},
      {"rollbacks", record.rollbacks}}
      .dump();
}

}  // namespace sgmd
