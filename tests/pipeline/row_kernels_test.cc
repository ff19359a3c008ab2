// The launchers of CUDA (pipeline/kernels/row_kernels.cu), run on the CPU thread by thread, against the CPU's own rows.
#include "pipeline/kernels/row_kernels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "pipeline/kernels/cpu_rows.h"

namespace sgmd::rows {
namespace {

struct Shape {
  int width;
  std::int64_t samples, tokens;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.width; }

// Tensors of one dtype and their pointers.
template <typename T>
struct Data {
  Shape shape;
  std::int64_t rows = shape.samples * shape.tokens;
  at::ScalarType dtype = sizeof(T) == 2 ? at::kBFloat16 : at::kFloat;
  std::vector<at::Tensor> held = {};

  template <typename Element>
  Element* Keep(const at::Tensor& t) {
    held.push_back(t.contiguous());
    return static_cast<Element*>(held.back().mutable_data_ptr());
  }
  T* Rows() { return Keep<T>((at::randn({rows, shape.width}) * 1.5 + 0.3).to(dtype)); }
  float* PerSample() { return Keep<float>(at::randn({shape.samples, shape.width}) * 0.5); }
  float* RowValues() { return Keep<float>(at::rand({rows}) + 0.5); }
};

void ExpectNear(const at::Tensor& cuda, const at::Tensor& cpu) {
  const at::Tensor x = cuda.to(at::kDouble), y = cpu.to(at::kDouble);
  const double bound = cuda.scalar_type() == at::kBFloat16 ? 1e-2 : 2e-5;  // the order of sums differs
  EXPECT_TRUE(x.isfinite().all().item<bool>());
  EXPECT_LE((x - y).abs().max().item<double>(), bound * y.abs().max().item<double>());
}

template <typename T>
at::Tensor Output(const Data<T>& of, std::int64_t rows) {
  return at::full({rows, of.shape.width}, std::nan(""), of.dtype);
}

// Calls `make` with pointers of fresh outputs to get the operation, once for CUDA and once for the CPU.
template <typename T, typename MakeOp>
void ExpectSameRows(const Data<T>& data, int outputs, const MakeOp& make) {
  std::vector<at::Tensor> results[2];
  std::vector<at::Tensor> values[2];
  for (int cpu = 0; cpu < 2; ++cpu) {
    std::vector<T*> out;
    for (int i = 0; i < outputs; ++i)
      out.push_back(static_cast<T*>(results[cpu].emplace_back(Output(data, data.rows)).mutable_data_ptr()));
    std::vector<float*> of_rows;
    for (int i = 0; i < 2; ++i)
      of_rows.push_back(
          static_cast<float*>(values[cpu].emplace_back(at::zeros({data.rows}, at::kFloat)).mutable_data_ptr()));
    const auto op = make(out, of_rows);
    if (cpu == 0) {
      EXPECT_EQ(LaunchRows(op, data.shape.width, data.rows, nullptr), nullptr);
    } else {
      RunRows(Isa::kBaseline, op, data.shape.width, 0, data.rows);
    }
  }
  for (int i = 0; i < outputs; ++i) ExpectNear(results[0][i], results[1][i]);
  for (int i = 0; i < 2; ++i) ExpectNear(values[0][i], values[1][i]);
}

// Likewise of a backward operation, with its sums of a sample.
template <typename T, typename Op, typename MakeOp>
void ExpectSameShares(const Data<T>& data, int outputs, const MakeOp& make) {
  std::vector<at::Tensor> results[2];
  at::Tensor totals[2];
  const auto& [width, samples, tokens] = data.shape;
  const std::int64_t shares = SharesOf(tokens);
  for (int cpu = 0; cpu < 2; ++cpu) {
    std::vector<T*> out;
    for (int i = 0; i < outputs; ++i)
      out.push_back(static_cast<T*>(results[cpu].emplace_back(Output(data, data.rows)).mutable_data_ptr()));
    const auto op = make(out);
    at::Tensor parts = at::full({samples, shares, Op::kSums, width}, std::nan(""));
    auto* sums = static_cast<float*>(parts.mutable_data_ptr());
    if (cpu == 1) {
      RunShares(Isa::kBaseline, op, width, tokens, sums, 0, samples * shares);
      totals[cpu] = parts.sum(1);
      continue;
    }
    EXPECT_EQ(LaunchShares(op, width, samples, tokens, sums, nullptr), nullptr);
    totals[cpu] = at::full({samples, Op::kSums, width}, std::nan(""));
    for (int which = 0; which < Op::kSums; ++which) {
      const at::Tensor total = at::empty({samples, width}), over_all = at::empty({width});
      for (const at::Tensor& t : {total, over_all})
        EXPECT_EQ(LaunchTotal(sums, which, Op::kSums, samples, shares, width, t.dim() == 1,
                              static_cast<float*>(t.mutable_data_ptr()), nullptr),
                  nullptr);
      totals[cpu].select(1, which).copy_(total);
      ExpectNear(over_all, total.sum(0));
    }
  }
  for (int i = 0; i < outputs; ++i) ExpectNear(results[0][i], results[1][i]);
  ExpectNear(totals[0], totals[1]);
}

template <typename T>
void ExpectAllTheSame(const Shape& shape) {
  at::manual_seed(1);
  Data<T> d{shape};
  const T *x = d.Rows(), *y = d.Rows(), *dn = d.Rows(), *dsum = d.Rows();
  const float *gate = d.PerSample(), *scale = d.PerSample(), *shift = d.PerSample();
  const float *mean = d.RowValues(), *rstd = d.RowValues();
  const Modulation modulation{scale, shift, 1, shape.tokens}, affine{scale, shift, 0, shape.tokens};
  ExpectSameRows(d, 1, [&](const auto& out, const auto& of_rows) {
    return Norm<T, Add::kNone>{x, nullptr, nullptr, modulation, nullptr, out[0], of_rows[0], of_rows[1], 1e-6F};
  });
  ExpectSameRows(d, 2, [&](const auto& out, const auto& of_rows) {
    return Norm<T, Add::kPlain>{x, y, nullptr, affine, out[0], out[1], of_rows[0], of_rows[1], 1e-6F};
  });
  ExpectSameRows(d, 2, [&](const auto& out, const auto& of_rows) {
    return Norm<T, Add::kGated>{x, y, gate, modulation, out[0], out[1], of_rows[0], of_rows[1], 1e-6F};
  });
  ExpectSameRows(d, 1, [&](const auto& out, const auto&) { return GatedAdd<T>{x, y, gate, shape.tokens, out[0]}; });
  const int head = shape.width % 128 == 0 ? 128 : 8;
  const float* table = d.template Keep<float>(at::randn({shape.tokens, head}));
  const float* weight = d.PerSample();
  ExpectSameRows(d, 1, [&](const auto& out, const auto& of_rows) {
    return RmsRotate<T>{x, weight, table, head, shape.tokens, out[0], of_rows[0], 1e-6F};
  });
  ExpectSameShares<T, NormBackward<T, Add::kNone>>(d, 1, [&](const auto& out) {
    return NormBackward<T, Add::kNone>{dn, nullptr, x, nullptr, nullptr, modulation, mean, rstd, out[0], nullptr};
  });
  ExpectSameShares<T, NormBackward<T, Add::kGated>>(d, 2, [&](const auto& out) {
    return NormBackward<T, Add::kGated>{dn, dsum, x, y, gate, modulation, mean, rstd, out[0], out[1]};
  });
  ExpectSameShares<T, GatedAddBackward<T>>(d, 1, [&](const auto& out) {
    return GatedAddBackward<T>{dsum, y, gate, shape.tokens, out[0]};
  });
  ExpectSameShares<T, RmsRotateBackward<T>>(d, 1, [&](const auto& out) {
    return RmsRotateBackward<T>{dn, x, weight, table, head, shape.tokens, rstd, out[0]};
  });
}

// The widths of Wan models, one for each team, and the smallest; more tokens than a share has.
class RowKernelsOfCuda : public testing::TestWithParam<Shape> {};

TEST_P(RowKernelsOfCuda, ComputeWhatTheCpuComputes) {
  ExpectAllTheSame<float>(GetParam());
  ExpectAllTheSame<Bf16>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, RowKernelsOfCuda,
                         testing::Values(Shape{8, 2, 66}, Shape{136, 1, 3}, Shape{1536, 2, 3}, Shape{3072, 1, 2},
                                         Shape{5120, 1, 2}, Shape{8192, 1, 2}),
                         [](const auto& of) { return "Width" + std::to_string(of.param.width); });

TEST(RowKernelsOfCudaForElements, ComputeWhatTheCpuComputes) {
  at::manual_seed(1);
  const std::int64_t count = 5000;
  const at::Tensor x = at::randn({count}) * 8, dy = at::randn({count});
  const at::Tensor cuda = at::empty({count}), cpu = at::empty({count});
  const auto pointers = [](const at::Tensor& t) { return t.mutable_data_ptr<float>(); };
  const auto expect = [&](const auto& make) {
    EXPECT_EQ(LaunchElements(make(pointers(cuda)), count, nullptr), nullptr);
    RunElements(Isa::kBaseline, make(pointers(cpu)), 0, count);
    ExpectNear(cuda, cpu);
  };
  expect([&](float* out) { return Gelu<float>{pointers(x), out}; });
  expect([&](float* out) { return GeluBackward<float>{pointers(dy), pointers(x), out}; });

  std::vector<at::Tensor> states[2];
  for (int on_cpu = 0; on_cpu < 2; ++on_cpu) {
    states[on_cpu] = {x.clone(), (dy * dy).clone(), dy.clone(), x.clone()};
    const auto& s = states[on_cpu];
    const AdamW op{pointers(s[0]), pointers(dy), pointers(s[1]), pointers(s[2]), pointers(s[3]), 0.5F,  0.9F, 0.1F,
                   0.99F,          0.01F,        0.3F,           1e-8F,          0.999F,         0.01F, 0.1F};
    if (on_cpu == 0) {
      EXPECT_EQ(LaunchElements(op, count, nullptr), nullptr);
    } else {
      RunElements(Isa::kBaseline, op, 0, count);
    }
  }
  for (int i = 0; i < 4; ++i) ExpectNear(states[0][i], states[1][i]);
}

TEST(RowKernelsOfCudaForElements, RefuseWhatDoesNotFit) {
  EXPECT_STREQ(LaunchElements(Gelu<float>{nullptr, nullptr}, 12, nullptr), "elements must be a multiple of 8");
  const GatedAdd<float> op{nullptr, nullptr, nullptr, 1, nullptr};
  EXPECT_STREQ(LaunchRows(op, 100, 1, nullptr), "the width of a row must be a multiple of 8");
  EXPECT_STREQ(LaunchRows(op, 8200, 1, nullptr), "a row is wider than 8192");
}

}  // namespace
}  // namespace sgmd::rows
