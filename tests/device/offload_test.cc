// A model whose blocks are in the host's memory, on the CPU and on a GPU of the stand-in.
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>

#include "pipeline/device/peak_memory.h"
#include "pipeline/models/offloaded_wan.h"
#include "pipeline/training/role_model.h"
#include "pipeline/training/teacher.h"
#include "tests/device/both_devices.h"
#include "tests/support/experts_run.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

struct OffloadCase {
  const char* name;
  WanPrecision precision;
  std::int64_t layers = 3;
  bool clip = false;
};

const WanPrecision kHalf(at::kBFloat16, at::kBFloat16);

// With random weights, heads that fused attention takes, and as many blocks as are asked for.
void WriteModel(const std::filesystem::path& folder, const OffloadCase& of, std::int64_t width = 64) {
  WanConfig wan = of.clip ? TinyImageConfig(2, /*image_dim=*/5) : TinyWanConfig(2);
  wan.dim = width;
  wan.ffn_dim = 2 * width;
  wan.num_layers = of.layers;
  RandomModel(wan).Save(folder);
}

at::Tensor Moved(at::Tensor tensor, at::Device device) { return tensor.defined() ? tensor.to(device) : tensor; }

class Offloaded : public testing::TestWithParam<OffloadCase> {
 protected:
  // Of several passes, of 1, 2 and 1 samples.
  static std::vector<at::Tensor> Passes(const VelocityModel& model, at::Device device) {
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> velocities;
    for (const auto& [first, samples] : {std::pair{0, 1}, {0, 2}, {1, 1}}) {
      const TinyInputs in;
      const auto part = [&, first = first, samples = samples](const at::Tensor& t) {
        return t.narrow(0, first, samples).to(device);
      };
      Conditioning condition{part(in.context)};
      if (GetParam().clip) {
        condition.image = part(Noise({2, 2, 2, 4, 4}, 9));
        condition.clip = part(Noise({2, 5, 5}, 10));
      }
      velocities.push_back(model.Forward(part(in.x), part(in.sigma), condition).cpu());
    }
    return velocities;
  }
};

TEST_P(Offloaded, GivesTheBitsOfTheWholeModel) {
  at::set_num_threads(1);
  const TempFolder folder;
  WriteModel(folder.path(), GetParam());
  for (const at::Device device : {at::Device(at::kCPU), LastGpu()}) {
    const auto expected = Passes(WanTransformer::Load(folder.path(), device, GetParam().precision), device);
    const OffloadedWan model = OffloadedWan::Load(folder.path(), device, GetParam().precision);
    for (int again = 0; again < 2; ++again) {
      const auto found = Passes(model, device);
      for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(found[i], expected[i])) << device << ", pass " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Offloaded,
                         testing::Values(OffloadCase{"float32", at::kFloat}, OffloadCase{"bfloat16", kHalf},
                                         OffloadCase{"float64", at::kDouble, 2}, OffloadCase{"one_block", kHalf, 1},
                                         OffloadCase{"even_blocks", kHalf, 4},
                                         OffloadCase{"clip", at::kFloat, 3, true}),
                         [](const auto& of) { return of.param.name; });

TEST(OffloadedOnAGpu, HoldsTwoBlocksAndWhatIsOutsideOfThem) {
  const TempFolder folder;
  const OffloadCase of{"deep", kHalf, 24};
  WriteModel(folder.path(), of, 128);
  const at::Device device = LastGpu();
  const auto held = [&](const auto& load) {
    const auto before =
        c10::getDeviceAllocator(device.type())->getDeviceStats(device.index()).allocated_bytes[0].current;
    ResetPeakMemory(device);
    const auto model = load();
    const c10::NoGradGuard no_grad;
    const TinyInputs in;
    for (int pass = 0; pass < 2; ++pass) model.Forward(in.x.to(device), in.sigma.to(device), {in.context.to(device)});
    return PeakMemoryOf(device).tensors - before;
  };
  const auto load_whole = [&] { return WanTransformer::Load(folder.path(), device, of.precision); };
  held(load_whole);  // a process's first pass tries cuDNN's attention, which takes memory too
  const auto whole = held(load_whole);
  const auto offloaded = held([&] { return OffloadedWan::Load(folder.path(), device, of.precision); });
  const std::int64_t block =
      OffloadedBlocks(WanConfig::FromFile(folder / "config.json"), device, at::kBFloat16).block_bytes();
  EXPECT_NEAR(static_cast<double>(whole - offloaded), 22.0 * static_cast<double>(block),
              0.5 * static_cast<double>(block));
  EXPECT_LT(offloaded, whole / 4);
}

TEST(OffloadedOnAGpu, RefusesGradients) {
  const TempFolder folder;
  WriteModel(folder.path(), {"float32", at::kFloat});
  for (const at::Device device : {at::Device(at::kCPU), LastGpu()}) {
    const OffloadedWan model = OffloadedWan::Load(folder.path(), device);
    const TinyInputs in;
    const auto pass = [&](bool gradient) {
      model.Forward(in.x.to(device).requires_grad_(gradient), in.sigma.to(device), {in.context.to(device)});
    };
    EXPECT_NO_THROW(pass(false));
    EXPECT_THROW(pass(true), c10::Error);
    const c10::NoGradGuard no_grad;
    EXPECT_NO_THROW(pass(true));
  }
}

// A pass that ended early leaves another block on its way than the first.
TEST(OffloadedOnAGpu, TakesBlocksInAnyOrder) {
  const WanConfig wan = [] {
    WanConfig config = TinyWanConfig(2);
    config.num_layers = 4;
    return config;
  }();
  const WanTransformer whole = RandomModel(wan);
  for (const at::Device device : {at::Device(at::kCPU), LastGpu()}) {
    OffloadedBlocks blocks(wan, device, at::kFloat);
    std::map<std::string, at::Tensor> values(whole.parameters().begin(), whole.parameters().end());
    for (const auto& [name, value] : values) {
      if (name.starts_with("blocks.")) blocks.Set(name, value);
    }
    for (const std::int64_t number : {0, 1, 0, 3, 0, 2, 2, 3}) {
      const at::Tensor weight = blocks.Use(number).ffn_in.weight.cpu();
      EXPECT_TRUE(at::equal(weight, values.at(BlockPrefix(number) + "ffn.0.weight"))) << number;
    }
  }
}

// Blocks of 38 MB: the host keeps each in pieces, over whose edge a weight lies.
TEST(OffloadedOnAGpu, JoinsThePiecesOfALargeBlock) {
  WanConfig wan = TinyWanConfig(2);
  wan.ffn_dim = 400000;
  const at::Tensor in = at::arange(wan.ffn_dim * wan.dim, at::kFloat).view({wan.ffn_dim, wan.dim}),
                   out = -in.view({wan.dim, wan.ffn_dim});
  for (const at::Device device : {at::Device(at::kCPU), LastGpu()}) {
    OffloadedBlocks blocks(wan, device, at::kFloat);
    for (const std::int64_t number : {0, 1}) {
      blocks.Set(BlockPrefix(number) + "ffn.0.weight", in + number);
      blocks.Set(BlockPrefix(number) + "ffn.2.weight", out - number);
    }
    for (const std::int64_t number : {0, 1, 0}) {
      const WanBlock& block = blocks.Use(number);
      EXPECT_TRUE(at::equal(block.ffn_in.weight.cpu(), in + number)) << number;
      EXPECT_TRUE(at::equal(block.ffn_out.weight.cpu(), out - number)) << number;
    }
  }
}

TEST(OffloadedOnAGpu, TeachersOfTwoExpertsScoreTheSameBits) {
  at::set_num_threads(1);
  ExpertsRun run(1, "[precision]\ncompute = \"bfloat16\"\n", "", 3, "guidance_low = 3.5\n");
  const Experiment e = run.experiment();
  const PromptBank bank = PromptBank::Open(e.model.prompts);
  const std::vector<Digest> prompts(2, bank.negative());
  std::vector<std::int64_t> shape = LatentShape(e);
  for (const at::Device device : {at::Device(at::kCPU), LastGpu()}) {
    Teacher whole(e, device), offloaded(e, device, Alone(), /*offload=*/true);
    for (const double sigma : {0.95, 0.3, 0.4, 0.97}) {
      shape.front() = 2;
      const at::Tensor x = Noise(shape, static_cast<std::uint64_t>(100 * sigma)),
                       sigmas = at::full({2}, sigma, at::kFloat);
      EXPECT_TRUE(at::equal(offloaded.Score(x, sigmas, prompts), whole.Score(x, sigmas, prompts))) << device << sigma;
    }
  }
}

// What the tests above rely on: the stand-in finds a wait that is missing, on either side.
TEST(StandInDevice, FindsStreamsThatDoNotWait) {
  const at::Device device = LastGpu();
  const c10::impl::VirtualGuardImpl guard(device.type());
  const c10::Stream copies = guard.getNewStream(device), compute = guard.getStream(device);
  at::Tensor a = at::ones({4}, device);
  const at::Tensor host = at::full({4}, 2.0F);
  const auto copy = [&] {
    const c10::StreamGuard on(copies);
    a.copy_(host, /*non_blocking=*/true);
  };
  const auto error = [](const auto& run) {
    try {
      run();
    } catch (const c10::Error& e) {
      return std::string(e.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_THAT(error(copy), HasSubstr("a race"));
  c10::Event computed(device.type()), arrived(device.type());
  computed.record(compute);
  computed.block(copies);
  EXPECT_EQ(error(copy), "");
  arrived.record(copies);
  EXPECT_THAT(error([&] { a.sum(); }), HasSubstr("a race"));
  arrived.block(compute);
  EXPECT_EQ(a.sum().item<double>(), 8);
  EXPECT_THAT(error(copy), HasSubstr("a race"));  // the event is of what came before it
}

}  // namespace
}  // namespace sgmd
