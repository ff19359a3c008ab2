#include "nodes/evaluator/preview_evaluation.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error/error.h"
#include "common/log/log.h"
#include "common/storage/atomic_folder.h"

namespace sgmd {

PreviewEvaluation::PreviewEvaluation(const LaunchPlan& plan, const Topology::Evaluator& settings)
    : plan_(plan),
      folder_(RunFolder{plan.topology.run.folder}.Evaluation()),
      comparison_(plan.experiment, settings, folder_),
      student_(plan.experiment, comparison_.set().device(), comparison_.set().precision()),
      events_(RunFolder{plan.topology.run.folder}.Events() / "evaluator"),
      checkpoints_(RunFolder{plan.topology.run.folder}.Checkpoints(), ExperimentDigest(plan.experiment)),
      stop_when_(settings.stop_when) {
  ReadMetrics();
  std::filesystem::create_directories(folder_ / "videos");
  std::string prompts;
  for (const std::string& text : comparison_.set().prompts()) prompts += text + "\n";
  WriteFileAtomically(folder_ / "videos" / "prompts.txt", prompts);
  if (!Has(0)) Measure(0);
}

// What the watch has said of these it has said.
void PreviewEvaluation::ReadMetrics() {
  std::ifstream lines(folder_ / "metrics.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || !object.contains("motion") || object.value("samples", 0) != videos()) continue;
    Measures measures;
    for (const std::string name : {"motion", "colour"}) {
      measures.names.push_back(name);
      measures.estimates.push_back({object.at(name), object.at(name + "_low"), object.at(name + "_high")});
    }
    watch_.OnMeasures(object.at("step"), measures);
    done_.insert(object.at("step").get<std::int64_t>());
  }
}

bool PreviewEvaluation::Evaluate(const CheckpointStore::Checkpoint& checkpoint) {
  if (!student_.Load(checkpoint.folder)) return false;
  Measure(checkpoint.step);
  return true;
}

void PreviewEvaluation::Measure(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  const std::filesystem::path stem = folder_ / "videos" / name;
  const auto [measures, picture] = comparison_.Compare(student_.model(), StrCat("student of step ", step), stem);
  events_.Image("evaluation/teacher_student", step, picture.size(0), picture.size(1), ReadFile(stem.string() + ".png"));
  Record(step, measures);
}

void PreviewEvaluation::Record(std::int64_t step, const Measures& measures) {
  nlohmann::json line{{"step", step},
                      {"samples", videos()},
                      {"student_steps", experiment().schedule.student_steps},
                      {"guidance", GuidanceOf(experiment()).Formula()}};
  for (const auto& [tag, value] : measures.Fields()) line[tag] = value;
  for (std::size_t i = 0; i < measures.names.size(); ++i)
    events_.Scalar("evaluation/" + measures.names[i], step, measures.estimates[i].value);
  std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << line.dump() << std::endl;
  done_.insert(step);
  LogInfo("step ", step, ": motion ", Text(measures.At("motion")), " of the teacher's, dynamic degree ",
          Text(measures.At("dynamic_degree")), ", consistency ", Text(measures.At("consistency")), ", saturation ",
          Text(measures.At("colour")), " of the teacher's");
  for (const CollapseWatch::Sign& sign : watch_.OnMeasures(step, measures)) {
    LogWarning(sign.sentence);
    if (std::ranges::find(stop_when_, sign.name) != stop_when_.end()) why_stop_ = sign.sentence;
  }
}

}  // namespace sgmd
