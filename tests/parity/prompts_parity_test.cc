// Text in, from the prompt file to the bank, against transformers, diffusers and ftfy; with the real processes.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/encoder/prompt_file.h"
#include "pipeline/data/prompt_bank.h"
#include "pipeline/tensors/tensor_bytes.h"
#include "pipeline/text/prompt_cleaning.h"
#include "pipeline/text/tokenizer_client.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;
const std::filesystem::path kFolder = SGMD_PARITY_DIR,
                            kTokenizer = std::filesystem::path(SGMD_BIN_DIR) / "sgmd-tokenizer";

nlohmann::json ReadJson(const std::string& name) { return nlohmann::json::parse(ReadFile(kFolder / name)); }

TEST(PromptCleaning, IsWhatThePipelinesDoToPrompts) {
  for (const auto& [text, expected] :
       ReadJson("cleaned.json").get<std::vector<std::pair<std::string, std::string>>>()) {
    EXPECT_EQ(CleanPrompt(text), expected) << text;
  }
}

TEST(PromptCleaning, ReadsReferencesAsPythonDoes) {
  for (const auto& [text, expected] :
       ReadJson("unescaped.json").get<std::vector<std::pair<std::string, std::string>>>()) {
    EXPECT_EQ(UnescapeHtml(text), expected) << text;
  }
}

TEST(Tokenizer, GivesTheIdsOfSentencePieceAndOfTransformers) {
  TokenizerClient tokenizer(kFolder, kTokenizer);  // finds tokenizer/spiece.model
  for (const auto& c : ReadJson("tokens.json")) {
    const auto ids = tokenizer.Encode(c["text"].get<std::string>(), c["max_length"]);
    EXPECT_EQ(ids, c["ids"].get<std::vector<std::int64_t>>()) << c["text"];
    EXPECT_EQ(ids, c["transformers"].get<std::vector<std::int64_t>>()) << c["text"];
  }
}

TEST(Tokenizer, SaysInItsOwnWordsWhatIsWrongWithAModel) {
  TempFolder folder;
  WriteFileAtomically(folder / "spiece.model", "not a model");
  for (const auto& [model, words] :
       std::vector<std::pair<std::filesystem::path, std::string>>{{folder.path(), "not a SentencePiece model"},
                                                                  {kFolder / "text_encoder", "no spiece.model here"},
                                                                  {"/nowhere", "no such tokenizer"}}) {
    try {
      TokenizerClient tokenizer(model, kTokenizer);
      FAIL() << model;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("ended with exit code 1"));
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  }
}

TEST(Tokenizer, AnswersABadLineAndGoesOn) {
  TempFolder folder;
  WriteFileAtomically(
      folder / "in",
      "nonsense\n{\"txt\":1}\n{\"text\":\"a\",\"max_length\":0}\n\n{\"text\":\"\xff\"}\n{\"text\":\"\"}\n");
  const std::string command = kTokenizer.string() + " --model " + kFolder.string() + " <" + (folder / "in").string() +
                              " >" + (folder / "out").string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(ReadFile(folder / "out"),
            "{\"error\":\"not a JSON object\"}\n{\"error\":\"\\\"text\\\" is missing or not a string\"}\n"
            "{\"error\":\"\\\"max_length\\\" must be at least 1, the end-of-text token\"}\n{\"error\":\"not a JSON "
            "object\"}\n"
            "{\"error\":\"not a JSON object\"}\n{\"ids\":[1]}\n");
}

struct Encoding {
  pid_t pid;
  std::filesystem::path log;
  int Wait() const {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  std::string Log() const { return ReadFile(log); }
};

// sgmd-encode on the tiny encoder; `more` options.
Encoding StartEncode(const TempFolder& folder, const std::filesystem::path& prompts, const std::string& out,
                     std::vector<std::string> more = {}) {
  std::vector<std::string> command{std::string(SGMD_BIN_DIR) + "/sgmd-encode",
                                   "--prompts",
                                   prompts,
                                   "--encoder",
                                   kFolder,
                                   "--out",
                                   folder / out,
                                   "--threads",
                                   "1",
                                   "--max-length",
                                   "64"};
  command.insert(command.end(), more.begin(), more.end());
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  Encoding run{::fork(), folder / (out + ".log")};
  if (run.pid == 0) {
    const int log = ::open(run.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  return run;
}

double WorstRelativeError(const PromptBank& bank) {
  const auto expected = SafetensorsFile::Open(kFolder / "expected_rows.safetensors");
  double worst = 0;
  for (std::size_t i = 0; i < bank.prompts().size(); ++i) {
    const at::Tensor theirs = CopyToTensor(expected.At(std::to_string(i)));
    const at::Tensor ours = bank.Gather({bank.prompts()[i]}, 64)[0];
    EXPECT_EQ(ours.slice(0, theirs.size(0)).abs().sum().item<double>(), 0) << "rows behind the real tokens are zeros";
    worst =
        std::max(worst, ((ours.slice(0, 0, theirs.size(0)) - theirs).abs().max() / theirs.abs().max()).item<double>());
  }
  return worst;
}

TEST(SgmdEncode, FillsTheBankWithTheRowsThatThePipelineWouldUse) {
  TempFolder folder;
  const Encoding exact = StartEncode(folder, kFolder / "prompts.txt", "exact.safetensors", {"--dtype", "float32"});
  ASSERT_EQ(exact.Wait(), 0) << exact.Log();
  const PromptBank bank = PromptBank::Open(folder / "exact.safetensors");
  EXPECT_EQ(bank.texts(), PromptFile::Read(kFolder / "prompts.txt").prompts)
      << "named as they were, not as they were cleaned";
  EXPECT_EQ(bank.text_dim(), 48);
  EXPECT_THAT(exact.Log(), HasSubstr("prompt_encoder " + bank.encoder().substr(5)));
  const double worst = WorstRelativeError(bank);
  std::printf("max relative error %.2e\n", worst);
  EXPECT_LE(worst, 1e-5);
  EXPECT_FALSE(std::filesystem::exists(folder / "exact.safetensors.parts"));

  const Encoding half = StartEncode(folder, kFolder / "prompts.txt", "half.safetensors", {"--negative", "a red ball"});
  ASSERT_EQ(half.Wait(), 0) << half.Log();
  EXPECT_LE(WorstRelativeError(PromptBank::Open(folder / "half.safetensors")), 1.0 / 256) << "bfloat16 rows";
}

TEST(SgmdEncode, KilledInTheMiddleEndsInTheSameBytes) {
  TempFolder folder;
  std::string prompts;
  for (int i = 0; i < 1500; ++i) {
    prompts += StrCat("a red ball number ", i, " bounces over the floor and the camera moves\n");
  }
  WriteFileAtomically(folder / "many.txt", prompts);
  const Encoding calm = StartEncode(folder, folder / "many.txt", "calm.safetensors", {"--group", "7"});
  ASSERT_EQ(calm.Wait(), 0) << calm.Log();

  const Encoding killed = StartEncode(folder, folder / "many.txt", "bank.safetensors", {"--group", "3"});
  const auto parts = [&] {
    std::error_code none;
    std::int64_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "bank.safetensors.parts", none)) {
      if (!entry.path().filename().string().starts_with('.')) ++count;
    }
    return count;
  };
  for (int i = 0; i < 30000 && parts() < 5; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ::kill(killed.pid, SIGKILL);
  ASSERT_EQ(killed.Wait(), 128 + SIGKILL) << killed.Log();
  ASSERT_FALSE(std::filesystem::exists(folder / "bank.safetensors")) << "it was too late to kill it";
  const std::int64_t kept = parts();
  ASSERT_GE(kept, 5);

  const Encoding other = StartEncode(folder, folder / "many.txt", "bank.safetensors", {"--dtype", "float32"});
  EXPECT_EQ(other.Wait(), 1);
  EXPECT_THAT(other.Log(), HasSubstr("was made with rows BF16, now it is F32"));

  const Encoding resumed = StartEncode(folder, folder / "many.txt", "bank.safetensors", {"--group", "16"});
  ASSERT_EQ(resumed.Wait(), 0) << resumed.Log();
  EXPECT_THAT(resumed.Log(), HasSubstr(StrCat(3 * kept, " of 1501 prompts were encoded before")));
  EXPECT_TRUE(ReadFile(folder / "bank.safetensors") == ReadFile(folder / "calm.safetensors"));

  WriteFileAtomically(folder / "many.txt", prompts + "a small blue ball\n");
  const Encoding grown = StartEncode(folder, folder / "many.txt", "bank.safetensors");
  ASSERT_EQ(grown.Wait(), 0) << grown.Log();
  EXPECT_THAT(grown.Log(), HasSubstr("1501 of 1502 prompts were encoded before"));
  EXPECT_EQ(PromptBank::Open(folder / "bank.safetensors").prompts().size(), 1501U);
}

TEST(SgmdEncode, LeavesABankToTheProcessThatIsMakingIt) {
  TempFolder folder;
  const auto parts = folder / "bank.safetensors.parts";
  std::filesystem::create_directory(parts);
  const int other = ::open(parts.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(::flock(other, LOCK_EX | LOCK_NB), 0);
  const Encoding refused = StartEncode(folder, kFolder / "prompts.txt", "bank.safetensors");
  EXPECT_EQ(refused.Wait(), 1);
  EXPECT_THAT(refused.Log(), HasSubstr("another process is making this bank"));
  ::close(other);
  const Encoding taken = StartEncode(folder, kFolder / "prompts.txt", "bank.safetensors");
  EXPECT_EQ(taken.Wait(), 0) << taken.Log();
}

// Pids of processes whose command line has `word`.
std::vector<pid_t> Pids(const std::string& word) {
  std::vector<pid_t> pids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    try {
      if (ReadFile(entry.path() / "cmdline").find(word) != std::string::npos) pids.push_back(pid);
    } catch (const Error&) {
      continue;  // it ended meanwhile
    }
  }
  return pids;
}

TEST(Tokenizer, DeathOfTheChildIsAnErrorAndOfTheParentItsEnd) {
  TempFolder folder;
  const std::string model = folder / "killed.model";  // a name that is only in this tokenizer's command line
  std::filesystem::copy(kFolder / "tokenizer/spiece.model", model);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const TokenizerClient tokenizer(model, kTokenizer);
    WriteFileAtomically(folder / "up", "");
    ::pause();
    ::_exit(0);
  }
  for (int i = 0; i < 10000 && !std::filesystem::exists(folder / "up"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(Pids(model).size(), 1U);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  for (int i = 0; i < 5000 && !Pids(model).empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(Pids(model).empty());

  TokenizerClient tokenizer(model, kTokenizer);
  ASSERT_EQ(Pids(model).size(), 1U);
  ::kill(Pids(model).front(), SIGKILL);
  try {
    tokenizer.Encode("a red ball", 64);
    FAIL() << "a dead tokenizer answered";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("sgmd-tokenizer ended with signal 9 (Killed)"));
  }
  EXPECT_THROW(tokenizer.Encode("again", 64), Error);
}

}  // namespace
}  // namespace sgmd
