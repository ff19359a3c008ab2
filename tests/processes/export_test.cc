// What a finished run leaves is exported by the program: the averaged weights of its newest checkpoint are its student.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/sharded_safetensors.h"
#include "tests/support/experts_run.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

int RunProgram(const std::string& program, const std::string& arguments) {
  return std::system(StrCat(SGMD_BIN_DIR, "/", program, " ", arguments).c_str());
}

void ExpectSameTensors(const std::filesystem::path& first, const std::filesystem::path& second) {
  const auto student = ShardedSafetensors::Open(first), exported = ShardedSafetensors::Open(second);
  ASSERT_EQ(student.tensors().size(), exported.tensors().size());
  for (const TensorView& view : student.tensors())
    EXPECT_TRUE(std::ranges::equal(view.bytes, exported.At(view.name).bytes)) << view.name;
}

class ExportOfARun : public testing::TestWithParam<const char*> {};  // with more lines of the experiment

TEST_P(ExportOfARun, IsTheStudent) {
  TinyRun run(2, GetParam());  // with [ema]
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(120), 0) << up.Output();
  const std::filesystem::path out = run.folder() / "out/student.safetensors";
  ASSERT_EQ(RunProgram("sgmd-export", StrCat(run.run().string(), " --original ", out.string())), 0);
  ExpectSameTensors(run.run() / "student", out);
  EXPECT_EQ(ReadFile(run.run() / "student/config.json"), ReadFile(out.parent_path() / "config.json"));
  EXPECT_NE(ReadFile(out.parent_path() / "README.md").find("| updates | 2 |"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Trained, ExportOfARun, testing::Values("", "[lora]\nrank = 4\nalpha = 10\n"),
                         [](const auto& info) { return info.index == 0 ? "Parameters" : "Adapters"; });

// Both experts, and one beside the other that the run started from: files, and a pipeline that draws what student/
// does.
class ExportOfTwoExperts : public testing::TestWithParam<const char*> {};

TEST_P(ExportOfTwoExperts, IsTheStudent) {
  ExpertsRun run(4, GetParam());
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(120), 0) << up.Output();
  const std::filesystem::path files = run.folder() / "files", pipe = run.folder() / "pipe";
  ASSERT_EQ(RunProgram("sgmd-export", StrCat(run.run().string(), " --original ", (files / "s.safetensors").string(),
                                             " --diffusers ", pipe.string())),
            0);
  ExpectSameTensors(run.run() / "student/high_noise_model", files / "s_high_noise.safetensors");
  const bool both = std::string(GetParam()).empty();
  EXPECT_EQ(std::filesystem::exists(files / "s_low_noise.safetensors"), both);
  if (both) ExpectSameTensors(run.run() / "student/low_noise_model", files / "s_low_noise.safetensors");
  const auto sample = [&](const std::filesystem::path& model, const std::string& name) {
    const std::filesystem::path out = run.folder() / name;
    EXPECT_EQ(RunProgram("sgmd-sample",
                         StrCat("--model ", model.string(), " --prompt-bank ",
                                (run.folder() / "model/prompt_bank.safetensors").string(),
                                " --latent 3 4 4 4 --student-steps 1000 750 500 250 --shift 5 --out ", out.string())),
              0);
    return out;
  };
  ExpectSameTensors(sample(run.run() / "student", "a.safetensors"), sample(pipe, "b.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Trained, ExportOfTwoExperts, testing::Values("", "[schedule]\nexperts = \"high_noise\"\n"),
                         [](const auto& info) { return info.index == 0 ? "Both" : "HighNoise"; });

}  // namespace
}  // namespace sgmd
