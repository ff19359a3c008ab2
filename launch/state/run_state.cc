#include "launch/state/run_state.h"

#include <thread>

#include "common/config/toml_reader.h"
#include "common/error/error.h"

namespace sgmd {
namespace {

using nlohmann::ordered_json;
constexpr std::chrono::duration<double> kPeriod{1};

// Steps of the experiment, without its models, which need not be there any more.
std::int64_t StepsOf(const std::filesystem::path& run_folder) {
  const auto file = RunFolder{run_folder}.Experiment();
  if (!std::filesystem::exists(file)) return 0;
  return TomlFile::Open(file).root().Table("experiment").Integer("steps", kCountOrZero, 0);
}

void FillEnded(RunState& state) {
  const auto end = LastOutcome(state.folder);
  if (!end) return;
  state.state = Spell(end->outcome);
  state.step = end->step;
  state.since = end->time;
  state.cause = end->cause;
  state.exit_code = end->exit_code;
}

ordered_json OrNull(const std::string& text) { return text.empty() ? ordered_json() : ordered_json(text); }

}  // namespace

std::string RunState::NextCommand() const {
  const std::string here = " " + folder.string();
  if (up()) return "sgmd-launch status" + here + " --watch";
  if (state == "finished") return "sgmd-export" + here + " --original student.safetensors";
  if (state == "never_started") return "sgmd-launch up <topology.toml>";
  return "sgmd-launch up" + here;
}

nlohmann::json RunWatch::AskBroker() {
  try {
    if (!client_) client_ = ConnectToRun(folder_);
    return nlohmann::json::parse(RequestStatus(*client_));
  } catch (const std::exception&) {  // it starts, goes back to a checkpoint, or ends: the next call connects anew
    client_.reset();
    return {};
  }
}

RunState RunWatch::Now() {
  RunState state;
  state.folder = folder_;
  state.steps = StepsOf(folder_);
  state.holder = RunLock::HolderOf(folder_);
  if (const auto student = RunFolder{folder_}.Student(); std::filesystem::exists(student)) state.student = student;
  if (!state.up()) {
    FillEnded(state);
    return state;
  }
  const auto history = ReadHistory(folder_);
  if (!history.empty()) state.since = history.back().time;
  state.live = AskBroker();
  state.step = state.live.is_null() ? NewestStep(folder_) : state.live.value("step", std::int64_t{0});
  const char* silent = state.step >= state.steps ? "finishing" : "starting";
  state.state = state.live.is_null() ? silent : state.live.value("state", "running");
  return state;
}

std::optional<int> FollowToTheEnd(const std::filesystem::path& run_folder,
                                  const std::function<void(const RunState&)>& show,
                                  std::optional<std::chrono::duration<double>> limit) {
  const auto begin = std::chrono::steady_clock::now();
  RunWatch watch(run_folder);
  while (true) {
    const RunState state = watch.Now();
    show(state);
    if (!state.up()) return state.exit_code;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (limit && waited >= *limit) return {};
    std::this_thread::sleep_for(limit ? std::min<std::chrono::duration<double>>(kPeriod, *limit - waited) : kPeriod);
  }
}

ordered_json ToJson(const RunState& s) {
  return {{"state", s.state},
          {"step", s.step},
          {"steps", s.steps == 0 ? ordered_json() : ordered_json(s.steps)},
          {"run_folder", s.folder.string()},
          {"student", OrNull(s.student.string())},
          {"since", OrNull(s.since)},
          {"cause", s.cause},
          {"exit_code", s.up() || s.state == "never_started" ? ordered_json() : ordered_json(s.exit_code)},
          {"pid", s.up() ? ordered_json(s.holder->pid) : ordered_json()},
          {"machine", s.up() ? ordered_json(s.holder->machine) : ordered_json()},
          {"next_command", s.NextCommand()},
          {"live", ordered_json(s.live)}};
}

}  // namespace sgmd
