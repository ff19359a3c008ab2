// What a finished run leaves is exported by the program: the averaged weights of its newest checkpoint are its student.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/sharded_safetensors.h"
#include "tests/support/tiny_run.h"

namespace sgmd {
namespace {

class ExportOfARun : public testing::TestWithParam<const char*> {};  // with more lines of the experiment

TEST_P(ExportOfARun, IsTheStudent) {
  TinyRun run(2, GetParam());  // with [ema]
  const Process up = run.Launch({"up", run.topology()});
  ASSERT_EQ(up.Wait(120), 0) << up.Output();
  const std::filesystem::path out = run.folder() / "out/student.safetensors";
  ASSERT_EQ(std::system(StrCat(SGMD_BIN_DIR "/sgmd-export ", run.run().string(), " --original ", out.string()).c_str()),
            0);
  const auto student = ShardedSafetensors::Open(run.run() / "student"), exported = ShardedSafetensors::Open(out);
  ASSERT_EQ(student.tensors().size(), exported.tensors().size());
  for (const TensorView& view : student.tensors()) {
    const TensorView& other = exported.At(view.name);
    EXPECT_TRUE(std::ranges::equal(view.bytes, other.bytes)) << view.name;
  }
  EXPECT_EQ(ReadFile(run.run() / "student/config.json"), ReadFile(out.parent_path() / "config.json"));
  EXPECT_NE(ReadFile(out.parent_path() / "README.md").find("| updates | 2 |"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Trained, ExportOfARun, testing::Values("", "[lora]\nrank = 4\nalpha = 10\n"),
                         [](const auto& info) { return info.index == 0 ? "Parameters" : "Adapters"; });

}  // namespace
}  // namespace sgmd
