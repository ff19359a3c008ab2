#include "pipeline/device/open_device.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "common/config/device.h"
#include "pipeline/device/torch_program.h"
#include "tests/support/error_of.h"

namespace sgmd {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(OpenDevice, MakesADeviceTheCurrentOne) {
  EXPECT_EQ(OpenDevice("cuda:1"), at::Device("cuda:1"));
  EXPECT_EQ(at::empty({1}, at::kCUDA).device(), at::Device("cuda:1"));
  EXPECT_EQ(OpenDevice("cuda"), at::Device("cuda:0"));
  EXPECT_EQ(OpenDevice("cpu"), at::Device("cpu"));
}

TEST(OpenDevice, RefusesAGpuThatIsNotThere) {
  EXPECT_THAT(ErrorOf([] { OpenDevice("cuda:2"); }),
              AllOf(HasSubstr("cuda:2: there is no such device: this process sees 2 GPUs"),
                    HasSubstr("the last one is cuda:1")));
}

TEST(OpenDevice, RefusesWhatIsNoDevice) {
  EXPECT_THAT(ErrorOf([] { OpenDevice("gpu"); }), AllOf(HasSubstr("\"gpu\" is not a device"), HasSubstr("cuda:N")));
}

// In a process of its own, as a loaded library stays.
TEST(OpenDeviceDeathTest, SaysHowToInstallTheLibrariesThatAreMissing) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto open = [] {
    ::unsetenv(kCudaLibraryVariable);
    std::exit(RunTorchProgram("program", [] {
      OpenDevice("cuda");
      return 0;
    }));
  };
  // Where they are installed, the driver or nothing is missing.
  EXPECT_EXIT(
      open(), [](int status) { return WIFEXITED(status); },
      testing::AnyOf(HasSubstr("SGMD_CUDA=1 launch/setup installs them"), HasSubstr("nvidia-smi"), ""));
}

TEST(OpenDeviceDeathTest, NamesTheVariableWhoseLibraryIsNotThere) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto open = [] {
    ::setenv(kCudaLibraryVariable, "/nowhere/library.so", 1);
    std::exit(RunTorchProgram("program", [] {
      OpenDevice("cuda");
      return 0;
    }));
  };
  EXPECT_EXIT(open(), testing::ExitedWithCode(1), "the library of SGMD_CUDA_LIBRARY cannot be loaded");
}

TEST(OpenDevice, AsksForFloat32AndForDeterminismWhereItIsWanted) {
  OpenDevice("cuda", {.deterministic = true});
  EXPECT_FALSE(at::globalContext().allowTF32CuDNN());
  EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  EXPECT_THROW(at::ones({4}, at::kCUDA).cumsum(0), c10::Error);
  OpenDevice("cuda");
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  at::ones({4}, at::kCUDA).cumsum(0);
}

TEST(TorchProgram, SaysHowToUseLessWhenADeviceIsFull) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunTorchProgram("program",
                            []() -> int {
                              TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried much.");
                              return 0;
                            }),
            1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(testing::StartsWith("program: error: CUDA out of memory. Tried much.\n  hint: "),
                    HasSubstr("sgmd-launch plan"), testing::Not(HasSubstr("frame #"))));
}

TEST(TorchProgram, SaysWhatLibTorchSaysWithoutItsStack) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunTorchProgram("program", [] { return at::ones({2}).view({3}).dim() > 0 ? 0 : 1; }), 70);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, AllOf(HasSubstr("internal error: shape '[3]' is invalid"), testing::Not(HasSubstr("frame #"))));
}

}  // namespace
}  // namespace sgmd
