#include "tests/support/tiny_run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "common/config/role.h"
#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/checkpoint_layout.h"
#include "common/storage/model_folder.h"
#include "common/storage/tensor_part.h"
#include "pipeline/data/bouncing_balls.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/flow/random.h"
#include "pipeline/models/wan_transformer.h"
#include "tests/support/serial_loop.h"
#include "tests/support/wait_until.h"

namespace sgmd {
namespace {

constexpr char kExperiment[] = R"([experiment]
name = "tiny"
steps = %STEPS%
[model]
teacher = "model"
prompts = "model/prompt_bank.safetensors"
guidance = 2
[data]
latent = [3, 4, 4, 4]
micro_batch = 2
micro_batches = 3
[optimizer.generator]
learning_rate = 1e-3
[optimizer.fake_score]
learning_rate = 1e-3
[ema]
decay = 0.9
[checkpoint]
every = 5
)";

std::filesystem::path NewestCheckpoint(const std::filesystem::path& run_folder) {
  std::filesystem::path newest;
  const auto folder = RunFolder{run_folder}.Checkpoints();
  if (!std::filesystem::exists(folder)) return newest;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("step-")) newest = std::max(newest, entry.path());
  }
  return newest;
}

// Of one state, whose tensors may be in the files of several ranks.
std::string DigestOf(const std::vector<std::filesystem::path>& files) {
  const TensorParts parts = TensorParts::Open(files);
  Hasher hasher;
  for (const auto& [name, tensor] : parts.tensors()) {
    std::vector<std::byte> bytes(CheckedByteSize(tensor.dtype, tensor.shape));
    parts.Read(name, 0, bytes);
    hasher.Text(name).Bytes(bytes);
    for (const std::int64_t extent : tensor.shape) hasher.Integer(static_cast<std::uint64_t>(extent));
  }
  return hasher.Finish().Hex();
}

std::string StateOf(const std::filesystem::path& folder) {
  std::string state;
  for (const Role role : {Role::kFakeScore, Role::kGenerator}) {
    for (const std::string_view of : {kAverageState, kModelState, kOptimizerState, kSamplesState}) {
      const bool there = std::ranges::any_of(std::filesystem::directory_iterator(folder), [&](const auto& entry) {
        return entry.path().filename().string().starts_with(StrCat(Spell(role), ".", of, "."));
      });
      if (there) state += StrCat(Spell(role), ".", of, " ", DigestOf(StateFilesIn(folder, Spell(role), of)), "\n");
    }
  }
  return state;
}

}  // namespace

WanConfig TinyModelConfig(std::int64_t width, std::int64_t channels) {
  WanConfig config;
  config.in_dim = config.out_dim = channels;
  config.dim = width;
  config.ffn_dim = 2 * width;
  config.freq_dim = 16;
  config.text_dim = 8;
  config.text_len = 8;
  config.num_heads = 2;
  config.num_layers = 2;
  config.patch_size = {2, 2, 2};
  return config;
}

void WriteTinyModel(const std::filesystem::path& folder, std::uint64_t seed, std::int64_t width,
                    std::int64_t channels) {
  WriteTinyModel(folder, TinyModelConfig(width, channels), seed);
}

void WriteTinyModel(const std::filesystem::path& folder, const WanConfig& config, std::uint64_t seed) {
  WanTransformer model(config);
  model.Initialise(seed);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, p] : model.parameters()) {
    if (name == "head.head.weight") p.copy_(Noise(p.sizes(), seed + 1) * 0.2);
  }
  std::filesystem::create_directories(folder);
  model.Save(folder);
  WriteWordPromptBank(folder / "prompt_bank.safetensors", BouncingBallPrompts(), "", config.text_dim);
}

void WriteTinyExperts(const std::filesystem::path& folder, std::int64_t width, std::int64_t channels) {
  WriteTinyModel(folder / kHighNoiseExpert, 1, width, channels);
  WriteTinyModel(folder / kLowNoiseExpert, 3, width, channels);
}

void WriteTinyRun(const std::filesystem::path& folder, std::int64_t steps, const std::string& experiment,
                  const std::string& topology) {
  WriteTinyModel(folder / "model");
  std::string text = kExperiment;
  text.replace(text.find("%STEPS%"), 7, std::to_string(steps));
  WriteFileAtomically(folder / "experiment.toml", text + experiment);
  WriteFileAtomically(folder / "topology.toml",
                      "[run]\nexperiment = \"experiment.toml\"\nfolder = \"run\"\n" + topology);
}

int Process::Wait(double seconds) const {
  int status = 0;
  if (!WaitUntil(seconds, [&] { return ::waitpid(pid, &status, WNOHANG) != 0; })) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string Process::Output() const { return ReadFile(output); }

TinyRun::TinyRun(std::int64_t steps, const std::string& experiment, const std::string& topology) {
  WriteTinyRun(folder_.path(), steps, experiment, topology);
}

TinyRun::~TinyRun() {
  for (const Process& process : processes_) ::kill(process.pid, SIGKILL);
  for (const Process& process : processes_) process.Wait(10);
}

Process TinyRun::Launch(const std::vector<std::string>& arguments) {
  std::vector<std::string> command{std::string(SGMD_BIN_DIR) + "/sgmd-launch"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return Start(std::move(command));
}

Process TinyRun::Start(std::vector<std::string> command) {
  Process process;
  process.output = folder_ / StrCat("launch-", processes_.size(), ".log");
  std::vector<char*> argv;
  for (std::string& part : command) argv.push_back(part.data());
  argv.push_back(nullptr);
  const int output = ::open(process.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  process.pid = ::fork();
  if (process.pid == 0) {
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(output);
  return processes_.emplace_back(process);
}

bool TinyRun::WaitForCheckpoint(std::int64_t step, double seconds) const {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return WaitUntil(seconds, [&] { return NewestCheckpoint(run()).filename().string() >= name; });
}

std::vector<pid_t> TinyRun::Pids(const std::string& word) const {
  std::vector<pid_t> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    try {
      const std::string line = ReadFile(entry.path() / "cmdline");
      if (line.find(run().string()) != std::string::npos && line.find(word) != std::string::npos) pids.push_back(pid);
    } catch (const Error&) {
      continue;  // it ended meanwhile
    }
  }
  return pids;
}

bool TinyRun::Kill(const std::string& word) const {
  const std::vector<pid_t> pids = Pids(word);
  return pids.size() == 1 && ::kill(pids[0], SIGKILL) == 0;
}

std::string TinyRun::NewestState(const std::filesystem::path& run_folder) {
  const std::filesystem::path newest = NewestCheckpoint(run_folder);
  return newest.empty() ? "no checkpoint" : newest.filename().string() + "\n" + StateOf(newest);
}

std::string TinyRun::SerialState() const {
  Experiment e = experiment();
  e.pauses = PausesOf({run()});
  RunSerially(e, folder_ / "serial");
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld\n", static_cast<long long>(e.steps));
  return name + StateOf(folder_ / "serial");
}

}  // namespace sgmd
