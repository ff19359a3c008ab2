#include "pipeline/parallel/collectives.h"

#include <ATen/ATen.h>

#include <numeric>

#include "common/error/error.h"

namespace sgmd {
namespace {

std::string ShapeText(const at::Tensor& tensor) {
  std::string text;
  for (const std::int64_t extent : tensor.sizes()) text += StrCat(text.empty() ? "" : ", ", extent);
  return StrCat("[", text, "] ", c10::toString(tensor.scalar_type()));
}

void RequireContiguous(const char* what, const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_contiguous()) throw Error(StrCat(what, ": a tensor is not contiguous"));
}

[[noreturn]] void FailPair(const char* what, const at::Tensor& out, const at::Tensor& in, int ranks) {
  throw Error(StrCat(what, " among ", ranks, " ranks: ", ShapeText(in), " does not fit into ", ShapeText(out)));
}

std::int64_t BytesOf(const at::Tensor& tensor) { return static_cast<std::int64_t>(tensor.nbytes()); }

std::int64_t Sum(const Collectives::Rows& rows) { return std::accumulate(rows.begin(), rows.end(), std::int64_t{0}); }

class SoloCollectives : public Collectives {
 public:
  SoloCollectives() : Collectives(0, 1) {}

 private:
  static Pending Done() {
    return Pending([] {});
  }
  Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) override {
    out.view(in.sizes()).copy_(in);
    return Done();
  }
  Pending StartAllToAll(const at::Tensor& out, const at::Tensor& in, const Rows&, const Rows&) override {
    out.copy_(in);
    return Done();
  }
  Pending StartBroadcast(const at::Tensor&, int) override { return Done(); }
  void WaitForAll() override {}
};

}  // namespace

Collectives::Pending Collectives::AllGather(const at::Tensor& out, const at::Tensor& in) {
  constexpr char kWhat[] = "all-gather";
  RequireContiguous(kWhat, out);
  RequireContiguous(kWhat, in);
  if (out.scalar_type() != in.scalar_type() || out.numel() != ranks_ * in.numel()) FailPair(kWhat, out, in, ranks_);
  received_ += BytesOf(out) - BytesOf(in);
  return StartAllGather(out, in);
}

Collectives::Pending Collectives::AllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows,
                                           const Rows& in_rows) {
  constexpr char kWhat[] = "all-to-all";
  RequireContiguous(kWhat, out);
  RequireContiguous(kWhat, in);
  const auto ranks = static_cast<std::size_t>(ranks_);
  const bool rows = out.dim() > 0 && in.dim() > 0 && out_rows.size() == ranks && in_rows.size() == ranks &&
                    Sum(out_rows) == out.size(0) && Sum(in_rows) == in.size(0);
  const auto own = static_cast<std::size_t>(rank_);
  if (!rows || out.sizes().slice(1) != in.sizes().slice(1) || out.scalar_type() != in.scalar_type() ||
      out_rows[own] != in_rows[own]) {
    FailPair(kWhat, out, in, ranks_);
  }
  if (out.size(0) > 0) received_ += BytesOf(out) / out.size(0) * (out.size(0) - out_rows[own]);
  return StartAllToAll(out, in, out_rows, in_rows);
}

Collectives::Pending Collectives::AllToAll(const at::Tensor& out, const at::Tensor& in) {
  if (out.dim() == 0 || out.sizes() != in.sizes() || out.size(0) % ranks_ != 0) FailPair("all-to-all", out, in, ranks_);
  const Rows rows(static_cast<std::size_t>(ranks_), out.size(0) / ranks_);
  return AllToAll(out, in, rows, rows);
}

Collectives::Pending Collectives::Broadcast(const at::Tensor& tensor, int root) {
  RequireContiguous("broadcast", tensor);
  if (root < 0 || root >= ranks_) throw Error(StrCat("broadcast from rank ", root, " of ", ranks_));
  if (root != rank_) received_ += BytesOf(tensor);
  return StartBroadcast(tensor, root);
}

void Collectives::Barrier() { WaitForAll(); }

std::unique_ptr<Collectives> Solo() { return std::make_unique<SoloCollectives>(); }

std::int64_t RankGroup::received() const {
  return device->received() + (host == device ? 0 : host->received()) + (sequence ? sequence->received() : 0);
}

RankGroup Alone() {
  const std::shared_ptr<Collectives> solo = Solo();
  return {solo, solo, nullptr};
}

}  // namespace sgmd
